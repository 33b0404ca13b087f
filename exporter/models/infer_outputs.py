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

from exporter.core.errors import ModelError
from exporter.core.tensors import Axis, TensorSpec
from exporter.models.results import UnnamedError, flat_results

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
        named: names for results that come without (a tensor, a tuple, a list), in order.
        where: for messages.

    Raises:
        ModelError: results that are no tensors, or another number of them than is named.
    """
    runs = [(sizes, 0), (sizes, 1)]
    outputs_of_runs = [_named(run(at, seed), named, where) for at, seed in runs]
    moved: list[str] = []
    for name, axis in axes.items():
        others = other_sizes(axis, sizes[name])
        if others:
            at, returned = _first_that_runs(run, sizes, name, others)
            runs.append((at, 0))
            outputs_of_runs.append(_named(returned, named, where))
            moved.append(name)
    first, second, *rest = outputs_of_runs
    for results in outputs_of_runs:
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
        symbols = dict.fromkeys(size for size in shape if isinstance(size, str))
        symbolic = tuple(axes.get(size, Axis(name=size, minimum=0)) for size in symbols)
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


def other_sizes(axis: Axis, size: int) -> list[int]:
    """Other sizes of an axis, the best first: far enough away that strides show it.

    Those that are nearer are for models that do not take every size.
    """
    lowest = max(axis.minimum, 1)
    highest = axis.maximum if axis.maximum is not None else 2 * size
    wanted = (2 * size, 3 * size // 2, 5 * size // 4, 3 * size // 4, size // 2)
    limited = [min(max(other, lowest), highest) for other in wanted]
    rounded = [other - other % axis.multiple_of for other in limited]
    return [other for other in dict.fromkeys(rounded) if other != size and axis.takes(other)]


def _first_that_runs(
    run: Run, sizes: Mapping[str, int], name: str, others: Sequence[int]
) -> tuple[Mapping[str, int], Any]:
    """The first of other sizes of an axis that the model takes, and what it returned there.

    Raises:
        ModelError: it takes none of them; the first one's error.
    """
    first: ModelError | None = None
    for other in others:
        at = {**sizes, name: other}
        try:
            return at, run(at, 0)
        except ModelError as error:
            first = first or error
    if first is None:
        raise ValueError("there are no other sizes")
    raise first


def _named(returned: Any, named: Sequence[str], where: str) -> dict[str, Tensor]:
    try:
        results = flat_results(returned, named)
    except UnnamedError as error:
        spoken = [path for path in error.paths if not path.isdigit() and path]
        there = f"; they are {', '.join(spoken)}" if spoken else ""
        raise ModelError(
            f"the model returns {len(error.paths)} result(s), 'outputs' names {len(named)}:"
            f" {', '.join(named)}{there}",
            where=where,
            remedy="name every result, in order, or return a dict and name those you want",
        ) from error
    for name, value in results.items():
        if not isinstance(value, Tensor):
            raise ModelError(
                f"the result '{name}' is a {type(value).__name__}, not a tensor",
                where=where,
                remedy="return tensors: one, or lists, tuples and dicts of them",
            )
    return results


def _same_kind(first: Mapping[str, Tensor], other: Mapping[str, Tensor], where: str) -> None:
    for name in first:
        if name not in other or other[name].dtype != first[name].dtype:
            raise ModelError(f"the result '{name}' is not always the same kind", where=where)
        if other[name].dim() != first[name].dim():
            raise ModelError(f"the result '{name}' has not always as many axes", where=where)


def supported(dtype: torch.dtype) -> bool:
    """True for dtypes that ONNX has and numpy can hold."""
    return dtype is not torch.bfloat16
