"""Inputs for a file of which nothing is known but its interface, from a seed.

Symbolic axes of one name have one size. What numbers a model may take its file does not say: floats
are drawn as a normal signal of 0.1, lengths are sizes that were drawn, rates 16,000, ids small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from exporter.core.errors import OnnxStoppedError, UserInputError, first_line
from exporter.core.tensors import BATCH_NAMES, Arrays
from exporter.graph.grids import input_grid
from exporter.graph.index import GraphIndex

_LONG = ((33, 24), (160, 128), (512, 512), (1600, 1280), (16000, 12800))
_WAVEFORM = (16000, 12800)
_RATE = 16000
_LOUDNESS = 0.1
_PEAKS = 7.0
"""From the smallest to the largest of a few thousand normal draws, in units of their deviation."""
_LARGE_ROW = 4_096
"""Elements of a row whose sizes are all given: a window already, of which there may be several."""
_MOST_ELEMENTS = 2**26
"""Of an input that is drawn: more than an hour of audio; its float64 draws take half a gigabyte."""


@dataclass(frozen=True, slots=True)
class Input:
    """An input: name, numpy dtype, sizes or names of axes, and how loud it is drawn."""

    name: str
    dtype: np.dtype
    shape: tuple[int | str, ...]
    loudness: float = _LOUDNESS

    @property
    def is_large(self) -> bool:
        """Whether the sizes that do not vary are a window by themselves."""
        return math.prod(size for size in self.shape if isinstance(size, int)) > _LARGE_ROW


def inputs_of(graph: GraphIndex, path: Path) -> tuple[Input, ...]:
    """The inputs of a file.

    Raises:
        UserInputError: one of them is no tensor, or of no type.
    """
    inputs = []
    for value in graph.model.graph.input:
        if value.name in graph.initializers:
            continue
        if value.type.WhichOneof("value") != "tensor_type":
            raise UserInputError(f"input '{value.name}' is no tensor", where=str(path))
        tensor_type = value.type.tensor_type
        if tensor_type.elem_type not in onnx.helper.get_all_tensor_dtypes():
            raise UserInputError(f"input '{value.name}' is of no known type", where=str(path))
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor_type.elem_type)
        shape = tuple(
            int(d.dim_value) if d.HasField("dim_value") else d.dim_param or f"{value.name}.{axis}"
            for axis, d in enumerate(tensor_type.shape.dim)
        )
        inputs.append(Input(value.name, np.dtype(dtype), shape))
    return tuple(inputs)


def calibrated(
    specs: Sequence[Input], graph: GraphIndex, names: Mapping[str, str]
) -> tuple[Input, ...]:
    """The same inputs as loud as a file that stores them on a constant grid was made for.

    Args:
        names: input of ``graph`` -> name of a spec.
    """
    spans = {
        names[name]: grid.ends[1] - grid.ends[0]
        for name in graph.inputs
        for at in graph.consumers.get(name, ())
        if (grid := input_grid(graph, at)) is not None
    }
    return tuple(
        replace(spec, loudness=spans[spec.name] / _PEAKS) if spec.name in spans else spec
        for spec in specs
    )


def rounded_for(
    inputs: Mapping[str, np.ndarray], graph: GraphIndex, names: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Inputs that a file which takes float16 can be given as they are; ``names`` as above."""
    kinds = {names.get(v.name): v.type.tensor_type.elem_type for v in graph.model.graph.input}
    rounded = dict(inputs)
    for name, array in inputs.items():
        if kinds.get(name) in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kinds[name])
            rounded[name] = array.astype(dtype).astype(array.dtype)
    return rounded


def drawn_sets(
    specs: Sequence[Input],
    run: Callable[[Sequence[Arrays]], None],
    seeds: Sequence[int],
    sizes: Mapping[str, int],
    fit: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
) -> list[dict[str, np.ndarray]]:
    """One set of inputs per seed on which all files run; other sizes in the second where they may.

    Args:
        run: runs all files on the sets; raises where one of them cannot.
        sizes: of axes, as the user gives them. fit: what a file makes of a set before it runs.

    Raises:
        UserInputError: no sizes were found on which the files run.
    """
    why = ""
    for first, second in _tries(specs):
        for batch in (2, 1):
            try:
                sets = []
                for at, seed in enumerate(seeds):
                    long = first if at % 2 == 0 else second
                    sets.append(fit(_draw(specs, seed, batch, long, sizes)))
                run(sets)
                return sets
            except (OnnxStoppedError, UserInputError) as error:
                why = first_line(error)
    raise UserInputError(
        f"no inputs were found on which both files run: {why}",
        remedy="give sizes of axes with --size NAME=N, or inputs with --case FILE.npz",
    )


def perturbed(inputs: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """The same inputs with other floats of the same size; integers and booleans stay."""
    random = np.random.default_rng(seed)
    moved = {}
    for name, array in inputs.items():
        noise = random.standard_normal(array.shape)
        scale = float(np.std(array)) or 0.1
        floating = array.dtype.kind == "f"
        moved[name] = (array + 0.5 * scale * noise).astype(array.dtype) if floating else array
    return moved


def _tries(specs: Sequence[Input]) -> list[tuple[int, int]]:
    # A waveform is the one input whose last axis varies and that has no more than a batch beside.
    waveform = any(
        spec.dtype.kind == "f" and 1 <= len(spec.shape) <= 2 and isinstance(spec.shape[-1], str)
        for spec in specs
    )
    return [_WAVEFORM, *_LONG[:-1]] if waveform else list(_LONG)


def _draw(
    specs: Sequence[Input], seed: int, batch: int, long: int, sizes: Mapping[str, int]
) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    drawn = {}
    for spec in specs:
        shape = tuple(_size(spec, axis, batch, long, sizes) for axis in range(len(spec.shape)))
        _check_sizes(spec, shape)
        drawn[spec.name] = _values(spec, shape, random, long)
    return drawn


def _check_sizes(spec: Input, shape: tuple[int, ...]) -> None:
    """Sizes are what a file declares, and nobody has checked them.

    Raises:
        UserInputError: a size is negative, or the input is too large to be drawn.
    """
    if min(shape, default=0) < 0 or math.prod(shape) > _MOST_ELEMENTS:
        said = "is negative" if min(shape) < 0 else f"is more than {_MOST_ELEMENTS:,} elements"
        raise UserInputError(f"input '{spec.name}' of size {list(shape)} {said}")


def _size(spec: Input, axis: int, batch: int, long: int, sizes: Mapping[str, int]) -> int:
    size = spec.shape[axis]
    if isinstance(size, int):
        return size
    if size in sizes:
        return sizes[size]
    words = size.lower()
    first = axis == 0 and (len(spec.shape) > 1 or spec.dtype.kind in "iu")
    named = words in {name.lower() for name in BATCH_NAMES} or "batch" in words
    return batch if named or (first and ("." in size or spec.is_large)) else long


def _values(
    spec: Input, shape: tuple[int, ...], random: np.random.Generator, long: int
) -> np.ndarray:
    words = spec.name.lower()
    if spec.dtype.kind == "b":
        return random.random(shape) < 0.8
    if spec.dtype.kind not in "iu":
        return (spec.loudness * random.standard_normal(shape)).astype(spec.dtype)
    if "len" in words or "size" in words:
        lengths = np.full(shape, long)
        lengths.reshape(-1)[1:] = max(1, (3 * long) // 4)
        return lengths.astype(spec.dtype)
    if words == "sr" or "rate" in words:
        return np.full(shape, _RATE, spec.dtype)
    return random.integers(0, 3, shape).astype(spec.dtype)
