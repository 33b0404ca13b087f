"""A tensor specification as JSON, and the typed row that checks it when it comes back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from exporter.core.tensors import Axis, TensorSpec

MOST_AXES = 64
MOST_SIZE = 1 << 40

Size = Annotated[int, Field(ge=0, le=MOST_SIZE)]
Axes = Annotated[list[Size | str], Field(max_length=MOST_AXES)]
Dtype = Annotated[
    str, StringConstraints(pattern=r"^(bool|float(16|32|64)|bfloat16|u?int(8|16|32|64))$")
]


class Row(BaseModel):
    """Base: types as they are written, no NaN and no infinity."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class AxisRow(Row):
    """A symbolic axis."""

    name: str
    minimum: Size
    maximum: Size | None
    multiple_of: Annotated[int, Field(ge=1, le=MOST_SIZE)] = 1


class SpecRow(Row):
    """An input of the graph; ``initial`` is absent in goldens of pipelines without state."""

    name: str
    dtype: Dtype
    shape: Axes
    axes: list[AxisRow]
    choices: dict[str, int]
    discrete: bool
    unit: str
    initial: float | None = None
    idle: bool = False


def spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    """A tensor specification as plain values."""
    # Field by field: asdict cannot copy a read-only mapping.
    values = {name: getattr(spec, name) for name in SpecRow.model_fields}
    axes = [asdict(axis) for axis in spec.axes]
    return values | {"shape": list(spec.shape), "axes": axes, "choices": dict(spec.choices)}


def spec_of(row: SpecRow) -> TensorSpec:
    """The reverse of :func:`spec_to_json`, of what was checked."""
    values = {name: getattr(row, name) for name in SpecRow.model_fields}
    axes = tuple(Axis(**axis.model_dump()) for axis in row.axes)
    return TensorSpec(**values | {"shape": tuple(row.shape), "axes": axes})
