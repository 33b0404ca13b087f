"""A pipeline as plain data, as its YAML would hold it, with what is to be said of its parts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from exporter.core.errors import ModelError
from exporter.draft.axes import Mover, find_axes, given_axes, lengths_of
from exporter.draft.draws import draw_like
from exporter.draft.found_axis import FoundAxis, Place
from exporter.draft.values import CallerModule
from exporter.models.results import leaves_by_path
from exporter.models.user_code import blamed

CASE = "example"
_FEW = "batch"
_MORE = 4
"""The case is longer than what is traced by a quarter: another size is what has to be shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What running a module has shown.

    Attributes:
        values: inputs at which it runs, in the order of its parameters.
        axes: sizes that may vary. lengths: input -> the input and dimension that it counts.
        outputs: names of what it returns. draws: how inputs are drawn, where the default is wrong.
        said: why an input, an axis or a contract is as it is, by "inputs.x" and alike.
    """

    values: Mapping[str, Tensor]
    axes: tuple[FoundAxis, ...]
    lengths: Mapping[str, Place]
    outputs: tuple[str, ...]
    draws: Mapping[str, Mapping[str, Any]]
    said: Mapping[str, str] = field(default_factory=dict)

    def shape(self, name: str) -> list[int | str]:
        """Shape of an input: sizes, and names of axes."""
        at = {place: axis.name for axis in self.axes for place in axis.places}
        return [at.get((name, n), size) for n, size in enumerate(self.values[name].shape)]


def draft_of(
    subject: CallerModule,
    values: Mapping[str, Tensor],
    *,
    dynamic_axes: Mapping[str, object] | None = None,
    outputs: Sequence[str] | None = None,
    draws: Mapping[str, Mapping[str, Any]] | None = None,
    said: Mapping[str, str] | None = None,
    fixed: frozenset[Place] = frozenset(),
) -> Draft:
    """Run a module on its example and at other sizes.

    Args:
        dynamic_axes: as torch.onnx.export takes them; None: they are found.
        outputs: names for what it returns, in order; None: its own, else ``output``.
        draws, said: of inputs of which more is known. fixed: sizes that are not to vary.

    Raises:
        ModelError: it does not run on the example.
        UserInputError: names or axes that do not fit.
    """
    shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in values.items())
    with blamed("args", f"the model does not run on {shapes}"):
        returned = subject.run(values)
    names = output_names(returned, list(values)) if outputs is None else tuple(outputs)
    lengths = lengths_of(values)
    mover = Mover(subject.run, values, lengths)
    axes = find_axes(mover, fixed) if dynamic_axes is None else given_axes(mover, dynamic_axes)
    drawn = {name: draw_like(value) for name, value in values.items() if name not in lengths}
    return Draft(
        values=mover.values,
        axes=axes,
        lengths=lengths,
        outputs=names,
        draws={**{n: draw for n, draw in drawn.items() if draw}, **(draws or {})},
        said={**{f"axes.{axis.name}": axis.why for axis in axes}, **(said or {})},
    )


def output_names(returned: Any, inputs: Sequence[str]) -> tuple[str, ...]:
    """Names of what a model returned: its own, else ``output``, never that of an input.

    Raises:
        ModelError: it returned nothing that can be compared.
    """
    leaves = [path for path, value in leaves_by_path(returned)]
    if not leaves:
        raise ModelError("the model returns nothing", where="module", remedy="return tensors")
    spoken = all(any(not part.isdigit() for part in path) for path in leaves)
    if spoken:
        names = [".".join(path) for path in leaves]
    elif len(leaves) == 1:
        names = ["output"]
    else:
        names = ["output_" + "_".join(path) for path in leaves]
    return tuple(f"next_{name}" if name in inputs else name for name in names)


def pipeline_content(
    draft: Draft, *, name: str, model: Mapping[str, Any], contracts: Mapping[str, Any]
) -> dict[str, Any]:
    """The pipeline of a draft; ``model`` is its section of that name."""
    inputs: dict[str, Any] = {}
    for key, value in draft.values.items():
        dtype = str(value.dtype).removeprefix("torch.")
        inputs[key] = {"dtype": dtype, "shape": draft.shape(key)}
        if value.is_complex():
            continue
        if key in draft.draws:
            inputs[key]["draw"] = dict(draft.draws[key])
    axes, sizes = _axes(draft)
    case: dict[str, Any] = {"name": CASE, "random": {}}
    for number, key in enumerate(draft.values):
        if key in draft.lengths:
            owner, at = draft.lengths[key]
            label, rows = draft.shape(owner)[at], draft.shape(key)[0]
            longest = sizes.get(str(label), draft.values[owner].shape[at])
            count = sizes.get(str(rows), draft.values[key].shape[0])
            case.setdefault("inputs", {})[key] = [
                max(longest - row * longest // 3, 1) for row in range(count)
            ]
            continue
        drawn = draft.draws.get(key) or {
            "kind": "booleans" if draft.values[key].dtype == torch.bool else "normal"
        }
        if drawn["kind"] == "booleans":
            drawn = {"probability": 1.0, **drawn}
        moved = {axis: sizes[axis] for axis in draft.shape(key) if isinstance(axis, str)}
        case["random"][key] = {**drawn, "seed": number + 1, **({"sizes": moved} if moved else {})}
    content: dict[str, Any] = {"name": name, "model": dict(model), "inputs": inputs}
    if axes:
        content["axes"] = axes
    content["outputs"] = list(draft.outputs)
    content["cases"] = [case]
    content["default_case"] = CASE
    if contracts:
        content["contracts"] = dict(contracts)
    return content


def _axes(draft: Draft) -> tuple[dict[str, Any], dict[str, int]]:
    """What is said of each axis, and its size in the case."""
    axes: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    taken: set[int] = set()
    for axis in draft.axes:
        step = axis.multiple_of
        example = max(axis.example, 2)
        # Two axes of one size could be taken for one, and a single step would be baked in.
        while example in taken or (step > 1 and example < 2 * step):
            example += step
        taken.add(example)
        content: dict[str, Any] = {"example": example}
        if step > 1:
            content["multiple_of"] = step
        axes[axis.name] = content
        more = example // _MORE // step * step
        sizes[axis.name] = 2 if axis.name == _FEW and example != 2 else example + (more or step)
    return axes, sizes


def pipeline_name(given: str) -> str:
    """A name that a pipeline may have."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", given).strip("_").lower()[:60]
    return name if name[:1].isalpha() else f"model_{name}".rstrip("_")
