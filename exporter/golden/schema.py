"""The JSON files of a golden as typed rows: what they hold is checked here, and nowhere behind.

Digests show that a golden was changed by accident. Whoever computes them anew can write anything,
so types, sizes and names are checked all the same: no limit may be NaN, which nothing exceeds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from exporter.core.errors import GoldenError
from exporter.core.reading import Door

DOOR = Door(error=GoldenError, says="not a golden of this program", remedy="record it again")
MOST_AXES = 64
_MOST_SIZE = 1 << 40

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Bits = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{16})?$")]
Size = Annotated[int, Field(ge=0, le=_MOST_SIZE)]
Shape = Annotated[list[Size], Field(max_length=MOST_AXES)]
Axes = Annotated[list[Size | str], Field(max_length=MOST_AXES)]
Dtype = Annotated[
    str, StringConstraints(pattern=r"^(bool|float(16|32|64)|bfloat16|u?int(8|16|32|64))$")
]
Limit = Annotated[float, Field(ge=0)]


class Row(BaseModel):
    """Base: types as they are written, no NaN and no infinity."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class AxisRow(Row):
    """A symbolic axis."""

    name: str
    minimum: Size
    maximum: Size | None


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


PortRow = tuple[str, str, list[int | str | None] | None]
"""Name, dtype, axes of an input or output of the judged file."""


class InterfaceRow(Row):
    """What the judged file took and gave."""

    inputs: list[PortRow]
    outputs: list[PortRow]
    opset: int


class OutputRow(Row):
    """One output of one case; ``values`` tells whether they stand in the case's file."""

    name: str
    dtype: Dtype
    shape: Shape
    values: bool
    limit_max: Limit
    limit_rms: Limit
    witness: Bits


class CaseRow(Row):
    """One case: where its inputs come from, and the file with its values."""

    name: str
    origin: str
    inputs: dict[str, Digest]
    expect_empty: list[str]
    outputs: list[OutputRow]
    file: str


class WeightsRow(Row):
    """Which weights were recorded."""

    source: str
    digest: str
    seeded: bool


class RunRow(Row):
    """How the file was run at recording; a check repeats it."""

    threads: Annotated[int, Field(ge=0, le=1 << 16)]
    provider: str
    level: Literal["disable", "basic", "extended", "all"]
    window_bytes: Annotated[int, Field(ge=1, le=_MOST_SIZE)]


class JudgedRow(Row):
    """Who was judged at recording, with which verdict; more may stand there."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    verdict: str
    policy: dict[str, Any] = Field(default_factory=dict)


class Manifest(Row):
    """``manifest.json``."""

    pipeline: str
    pipeline_digest: str
    graph_digest: str
    weights: WeightsRow
    reason: str
    replaces: str
    tool_version: str
    environment: dict[str, str]
    judged: JudgedRow
    run: RunRow
    inputs: list[SpecRow]
    interface: InterfaceRow | None = None
    left_out: list[str]
    graph: str
    cases: list[CaseRow]
    files: dict[str, Digest]


TapRow = tuple[str, str, str, str, str, str, Dtype, str, Annotated[int, Field(ge=0, le=1)]]
"""Name, ONNX name ("" where it is the name), module, class, op, source, dtype, fate, output."""
NodeRow = tuple[str, str, str, str, int]
"""Name, op, digest of form, digest of constants, position of its tap or -1."""


class Graph(Row):
    """``graph-<digest>.json``."""

    taps: list[TapRow]
    nodes: list[NodeRow]
