"""Values of a user's own inputs that nobody gave: drawn as ``inputs.NAME.draw`` says.

Without a ``draw``: floats are normal, masks are all True, ``<input>_lengths`` fall from row to row
(the first is as long as that input), and integers with choices take the first. Other integers have
to be described; any guess would be wrong for a model that looks them up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from exporter.cases.check_sizes import check_elements
from exporter.cases.draw import draw
from exporter.config.inputs import InputSpec
from exporter.core.errors import ConfigError

if TYPE_CHECKING:
    from exporter.config import Pipeline

_ROOM = 11
_FEW = ("batch", "B", "rows")
LENGTHS = "_lengths"
_COUNTS = re.compile(r"(?:(?P<stem>.+)_|i)?(?:lengths?|lens?)")


def example_sizes(pipeline: Pipeline) -> dict[str, int]:
    """Size of every symbolic axis of a user's own model while it is traced.

    What ``axes.NAME.example`` says; else a size of its own, at least 2 and of multiples at least
    two (0 and 1 would be baked in), within the axis's limits.
    """
    sizes: dict[str, int] = {}
    names = [size for spec in pipeline.inputs.values() for size in spec.shape]
    for name in dict.fromkeys(name for name in names if isinstance(name, str)):
        axis = pipeline.axes.get(name)
        if axis is not None and axis.example is not None:
            sizes[name] = axis.example
            continue
        step = axis.multiple_of if axis else 1
        # Once a step alone is a 1 as well, which would be baked in.
        most = axis.maximum if axis else None
        steps = 2 * step if most is None or most >= 2 * step else 2
        lowest = max(axis.minimum if axis else 1, steps)
        highest = axis.maximum if axis and axis.maximum is not None else lowest + 10 * _ROOM
        room = 1 if name in _FEW else _ROOM
        highest = highest if axis and axis.maximum is not None else max(highest, 4 * step)
        first = lowest + room + len(sizes)
        wanted = [first + -first % step, *range(highest, lowest - 1, -1)]
        free = [size for size in wanted if lowest <= size <= highest and size % step == 0]
        # Two axes of one size could be taken for one.
        apart = [size for size in free if size not in sizes.values()]
        sizes[name] = next(iter(apart or free), lowest)
    return sizes


def default_array(pipeline: Pipeline, name: str, sizes: Mapping[str, int]) -> np.ndarray:
    """One input as its own ``draw`` (or the rule above) says.

    Args:
        pipeline: has the input.
        name: of the input.
        sizes: of every symbolic axis.

    Raises:
        ConfigError: integers that nobody described, or a dtype that numpy lacks.
    """
    spec: InputSpec = pipeline.inputs[name]
    where = ("inputs", name)
    if spec.dtype == "bfloat16":
        raise ConfigError(
            "numpy has no bfloat16, so onnxruntime cannot be given such an input",
            where=pipeline.where(*where, "dtype"),
            remedy="take float32 and cast it inside the model",
        )
    shape = tuple(sizes[size] if isinstance(size, str) else size for size in spec.shape)
    check_elements(shape, pipeline.where(*where))
    if "draw" in spec.model_fields_set:
        given = spec.draw
        if any(item is not None for item in (given.shape, given.sizes, given.num_samples)):
            raise ConfigError(
                "sizes do not belong here",
                where=pipeline.where(*where, "draw"),
                remedy="write axes: {NAME: {example: SIZE}}, or sizes in a case's 'random'",
            )
        seed = given.seed if "seed" in given.model_fields_set else own_seed(pipeline, name)
        return draw(given.kind, shape, seed, **given.options, dtype=spec.dtype)
    if spec.dtype == "bool":
        return np.ones(shape, dtype=bool)
    if not spec.dtype.startswith(("int", "uint")):
        return draw("normal", shape, own_seed(pipeline, name), dtype=spec.dtype)
    if spec.choices:
        return np.full(shape, next(iter(spec.choices.values())), dtype=spec.dtype)
    axis = length_axis(pipeline, name)
    if axis is not None:
        return _lengths(pipeline, axis, sizes[axis], shape).astype(spec.dtype)
    raise ConfigError(
        f"nothing says which integers '{name}' takes",
        where=pipeline.where(*where),
        remedy="add for example draw: {kind: integers, low: 0, high: 100}",
    )


def own_seed(pipeline: Pipeline, name: str) -> int:
    """The seed of an input for which nobody names one: equal values would hide exchanged inputs."""
    return list(pipeline.inputs).index(name)


def _lengths(pipeline: Pipeline, axis: str, size: int, shape: tuple[int, ...]) -> np.ndarray:
    """Rows from the whole size downwards: where all were full, a mask would never be used."""
    limits = pipeline.axes.get(axis)
    lowest = min(max(limits.minimum if limits else 1, 1), size)
    rows = int(np.prod(shape, dtype=np.int64))
    falling = [max(lowest, size - row * size // (rows + 1)) for row in range(rows)]
    return np.array(falling, dtype=np.int64).reshape(shape)


def length_axis(pipeline: Pipeline, name: str) -> str | None:
    """The axis that lengths count: the last symbolic one of the input that they are named after.

    ``x_lengths`` (``x_lens``, ``x_length``, ``x_len``) are of ``x`` or ``xs``; ``lengths``, and
    those of a name that no input has, of the only other input that has such an axis.
    """
    shapes = {key: spec.shape for key, spec in pipeline.inputs.items()}
    measured = counted_input(name, shapes)
    if measured is None:
        return None
    return next((size for size in reversed(shapes[measured]) if isinstance(size, str)), None)


def counted_input(name: str, shapes: Mapping[str, Sequence[int | str]]) -> str | None:
    """The input whose steps another one counts, by its name; None where it counts nothing."""
    match = _COUNTS.fullmatch(name)
    if match is None:
        return None
    known = {key: shape for key, shape in shapes.items() if key != name}
    stem = match["stem"] or ""
    for key in (stem, f"{stem}s"):
        if key in known:
            return key
    long = [key for key, sizes in known.items() if sum(isinstance(s, str) for s in sizes) > 1]
    return long[0] if len(long) == 1 else None
