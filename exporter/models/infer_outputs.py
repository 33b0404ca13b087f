"""What a user's own model returns, learned by running it at several sizes.

Every symbolic axis is moved by itself while the others stay. A size that follows is symbolic: it
has the axis's own name where it equals it, else a name made of output and axis. One more run on
other values finds sizes that follow the values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from exporter.errors import ModelError
from exporter.tensors import Axis, TensorSpec

Run = Callable[[Mapping[str, int], int], Any]
"""Sizes of the axes and a seed -> what the model returned."""


def infer_outputs(
    run: Run,
    sizes: Mapping[str, int],
    axes: Mapping[str, Axis],
    named: Sequence[str],
    *,
    where: str,
) -> tuple[TensorSpec, ...]:
    """Run a model at several sizes and describe its results.

    Args:
        run: runs it.
        sizes: of every symbolic axis while tracing.
        axes: the symbolic axes of the inputs, by name.
        named: names for results that come without (a tensor, a tuple, a list).
        where: for messages.

    Raises:
        ModelError: results that are no tensors, or another number of them than is named.
    """
    runs = [(sizes, 0), (sizes, 1)]
    moved: list[str] = []
    for name, axis in axes.items():
        other = other_size(axis, sizes[name])
        if other is not None:
            runs.append(({**sizes, name: other}, 0))
            moved.append(name)
    found = [_named(run(at, seed), named, where) for at, seed in runs]
    first, second, *rest = found
    for results in found:
        _same_kind(first, results, where)
    names: dict[tuple[int, ...], str] = {
        (sizes[name], sizes[name], *(at[name] for at, _ in runs[2:])): name for name in moved
    }
    specs = []
    for name, value in first.items():
        shape: list[int | str] = []
        for position, size in enumerate(value.shape):
            law = (size, second[name].shape[position], *(r[name].shape[position] for r in rest))
            if len(set(law)) == 1:
                shape.append(size)
                continue
            drivers = [axis for axis, seen in zip(moved, law[2:], strict=True) if seen != size]
            label = "_".join([name, *(drivers or [f"axis{position}"])])
            shape.append(names.setdefault(law, label))
        symbolic = tuple(axes.get(size, Axis(name=size, minimum=0)) for size in _symbols(shape))
        specs.append(
            TensorSpec(
                name=name,
                dtype=str(value.dtype).removeprefix("torch."),
                shape=tuple(shape),
                axes=symbolic,
                discrete=not value.is_floating_point(),
            )
        )
    return tuple(specs)


def _symbols(shape: Sequence[int | str]) -> list[str]:
    return list(dict.fromkeys(size for size in shape if isinstance(size, str)))


def other_size(axis: Axis, size: int) -> int | None:
    """Another size of an axis, far enough away that strides show it; None when there is none."""
    highest = axis.maximum if axis.maximum is not None else 2 * size
    if min(2 * size, highest) != size:
        return min(2 * size, highest)
    lowest = max(axis.minimum, 1)
    return lowest if lowest != size else None


def _named(returned: Any, named: Sequence[str], where: str) -> dict[str, Tensor]:
    if isinstance(returned, Mapping):
        results = {str(name): value for name, value in returned.items()}
    else:
        values = list(returned) if isinstance(returned, tuple | list) else [returned]
        if len(values) != len(named):
            raise ModelError(
                f"the model returns {len(values)} result(s), 'outputs' names {len(named)}:"
                f" {', '.join(named)}",
                where=where,
                remedy="name every result, in order, or return a dict and name those you want",
            )
        results = dict(zip(named, values, strict=True))
    for name, value in results.items():
        if not isinstance(value, Tensor):
            raise ModelError(
                f"the result '{name}' is {_kind(value)}, not a tensor",
                where=where,
                remedy="return tensors: one, a tuple of them, or a dict by name",
            )
    return results


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _same_kind(first: Mapping[str, Tensor], other: Mapping[str, Tensor], where: str) -> None:
    for name in first:
        if name not in other or other[name].dtype != first[name].dtype:
            raise ModelError(f"the result '{name}' is not always the same kind", where=where)
        if other[name].dim() != first[name].dim():
            raise ModelError(f"the result '{name}' has not always as many axes", where=where)


def supported(dtype: torch.dtype) -> bool:
    """True for dtypes that ONNX has and numpy can hold."""
    return not dtype.is_complex and dtype is not torch.bfloat16
