"""A pipeline cut behind its front end: the features that it makes, and what it makes of others.

Where the front end is ours, its modules are called one by one, on the whole recording as one
utterance. In a user's own model it is a module whose output is taken, and replaced, by a hook. A
model that takes features has them in its case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from exporter.core.errors import UserInputError
from exporter.core.tensors import Arrays
from exporter.features.front_end import FrontEnd
from exporter.features.space import power_of_two
from exporter.graph.speech_graph import BatchedSpeechGraph, SpeechGraph
from exporter.graph.wrap import Wrapped
from exporter.interpret.eager import run_plain
from exporter.interpret.evaluate import to_array, to_tensor

_STAGES = ("fbank", "lfr", "cmvn")
_LENGTHS = "_lengths"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Where a pipeline was cut.

    Attributes:
        place: stage, module or input that has the features.
        features: ``[T, D]``.
        feed: features ``[T, D]`` to the pipeline's outputs, by name.
        front_end: what makes them, where that is known.
        statistics: fixed statistics of the pipeline, by name.
        low_frame_rate: frames that the pipeline stacks, here or behind the place.
        others: places that have features of the same shape, and were farther off.
    """

    place: str
    features: np.ndarray
    feed: Callable[[np.ndarray], dict[str, np.ndarray]]
    front_end: FrontEnd | None = None
    statistics: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    low_frame_rate: int = 1
    others: tuple[str, ...] = ()


def cut(
    wrapped: Wrapped, arrays: Arrays, theirs: np.ndarray, waveform: np.ndarray, at: str | None
) -> Cut:
    """Cut a pipeline where it has features like ``theirs`` ``[T, D]``.

    Args:
        arrays: the inputs of a case, by name. waveform: ``[N]``, its recording.
        at: stage, module or input; None: the one that is nearest.

    Raises:
        UserInputError: there is no such place.
    """
    if isinstance(wrapped.module, SpeechGraph | BatchedSpeechGraph):
        return _speech(wrapped, wrapped.module, arrays, theirs, waveform, at)
    entries = [
        *_inputs(wrapped, arrays, theirs, at),
        *_modules(wrapped, arrays, theirs, at),
    ]
    if not entries:
        listed = ", ".join(f"{n} {list(v.shape)}" for n, v in _outputs_of(wrapped, arrays))[:1500]
        raise UserInputError(
            f"the pipeline has no features like theirs ({len(theirs)} frames of {theirs.shape[1]})"
            if at is None
            else f"'{at}' is no place with features",
            where="--at",
            remedy=f"name the module whose output is compared: {listed}",
        )
    entries.sort(key=lambda item: _distance(item.features, theirs))
    best, *others = entries
    return Cut(
        place=best.place,
        features=best.features,
        feed=best.feed,
        others=tuple(h.place for h in others if h.features.shape == best.features.shape),
    )


def front_ends(
    wrapped: Wrapped, arrays: Arrays, waveform: np.ndarray, at: str | None
) -> Iterator[Cut]:
    """The places in which a pipeline may have features, in the order in which they are made.

    Args:
        as ``cut``; nothing is known of how wide the features are, only that frames are many.
    """
    if isinstance(wrapped.module, SpeechGraph | BatchedSpeechGraph):
        yield _speech(wrapped, wrapped.module, arrays, np.zeros((2, 0)), waveform, at)
        return
    values = [(spec.name, arrays[spec.name]) for spec in wrapped.inputs]
    for name, value in [*values, *_outputs_of(wrapped, arrays)]:
        sizes = sorted(size for size in np.shape(value) if size != 1)
        if at in (None, name) and len(sizes) == 2 and sizes[0] > 2:
            shape = np.zeros((sizes[1], sizes[0]))
            yield from _inputs(wrapped, arrays, shape, name)
            yield from _modules(wrapped, arrays, shape, name)


# -- our own front end -----------------------------------------------------------------------------


def _speech(
    wrapped: Wrapped,
    graph: SpeechGraph | BatchedSpeechGraph,
    arrays: Arrays,
    theirs: np.ndarray,
    waveform: np.ndarray,
    at: str | None,
) -> Cut:
    if at is not None and at not in _STAGES:
        raise UserInputError(
            f"this pipeline has no stage '{at}'", where="--at", remedy=f"one of {_STAGES}"
        )
    fbank, lfr, cmvn = graph.fbank, graph.lfr, graph.cmvn
    stacked = lfr.lfr_m * fbank.num_mels
    at = at or ("cmvn" if stacked == theirs.shape[1] else "fbank")
    pieces = to_tensor(waveform)[None]
    prompts = [
        to_tensor(np.asarray(arrays[spec.name]))
        for spec in wrapped.inputs
        if spec.name not in ("waveform", "waveform_lengths")
    ]
    with torch.no_grad():
        values, counts = fbank(pieces, torch.tensor([len(waveform)]))
        if at != "fbank":
            values, counts = lfr(values, counts)
        if at == "cmvn":
            values = cmvn(values, counts)
    statistics = (
        cmvn.get_buffer("shift").double().numpy(),
        cmvn.get_buffer("scale").double().numpy(),
    )

    def feed(features: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            rows = to_tensor(features.astype(np.float32))[None]
            length = torch.tensor([len(features)])
            if at == "fbank":
                rows, length = lfr(rows, length)
            if at != "cmvn":
                rows = cmvn(rows, length)
            outputs = graph.model(rows, length, *prompts)
        return {name: to_array(value) for name, value in outputs.items()}

    return Cut(
        place=at,
        features=values[0, : int(counts[0])].numpy(),
        feed=feed,
        front_end=FrontEnd(
            sample_rate_hz=fbank.sample_rate_hz,
            frame=fbank.frame_samples,
            shift=fbank.shift_samples,
            n_fft=power_of_two(fbank.frame_samples),
            window=fbank.window,
            high_hz=fbank.sample_rate_hz / 2,
            num_mels=fbank.num_mels,
            stack=1 if at == "fbank" else lfr.lfr_m,
            stride=1 if at == "fbank" else lfr.lfr_n,
            statistics="the pipeline's" if at == "cmvn" else "none",
        ),
        statistics={"the pipeline's": statistics},
        low_frame_rate=lfr.lfr_m,
    )


# -- a user's own model ----------------------------------------------------------------------------


def _inputs(wrapped: Wrapped, arrays: Arrays, theirs: np.ndarray, at: str | None) -> Iterator[Cut]:
    for spec in wrapped.inputs:
        laid = _laid(arrays[spec.name], theirs) if at in (None, spec.name) else None
        if laid is None:
            continue

        def feed(
            features: np.ndarray, name: str = spec.name, laid: _Laid = laid
        ) -> dict[str, np.ndarray]:
            given = {**arrays, name: laid.back(features).astype(arrays[name].dtype)}
            lengths = f"{name}{_LENGTHS}"
            if lengths in given:
                given[lengths] = np.full_like(given[lengths], len(features))
            return dict(run_plain(wrapped.module, wrapped.inputs, wrapped.outputs, given))

        yield Cut(place=spec.name, features=laid.features, feed=feed)


def _modules(wrapped: Wrapped, arrays: Arrays, theirs: np.ndarray, at: str | None) -> Iterator[Cut]:
    for name, value in _outputs_of(wrapped, arrays):
        laid = _laid(value, theirs) if at in (None, name) else None
        if laid is None:
            continue

        def feed(
            features: np.ndarray, name: str = name, laid: _Laid = laid
        ) -> dict[str, np.ndarray]:
            given = torch.from_numpy(np.ascontiguousarray(laid.back(features)))

            def replaced(module: nn.Module, args: Any, output: Any) -> Any:
                return _with_first(output, given)

            handle = _module(wrapped.module, name).register_forward_hook(replaced)
            try:
                return dict(run_plain(wrapped.module, wrapped.inputs, wrapped.outputs, arrays))
            finally:
                handle.remove()

        yield Cut(place=name, features=laid.features, feed=feed)


def _module(module: nn.Module, name: str) -> nn.Module:
    return dict(module.named_modules())[name]


def _outputs_of(wrapped: Wrapped, arrays: Arrays) -> list[tuple[str, np.ndarray]]:
    """The first tensor of floats that each module returned, in the order of the first calls."""
    outputs: dict[str, np.ndarray] = {}
    handles = []
    for name, module in wrapped.module.named_modules():
        if not name:
            continue

        def keep(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
            first = _first(output)
            if first is not None and name not in outputs:
                outputs[name] = to_array(first.detach().clone())

        handles.append(module.register_forward_hook(keep))
    try:
        run_plain(wrapped.module, wrapped.inputs, wrapped.outputs, arrays)
    finally:
        for handle in handles:
            handle.remove()
    return list(outputs.items())


def _first(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output if output.is_floating_point() and output.ndim > 1 else None
    items = output.values() if isinstance(output, dict) else output
    if isinstance(output, dict | list | tuple):
        return next((tensor for tensor in map(_first, items) if tensor is not None), None)
    return None


def _with_first(output: Any, given: Tensor) -> Any:
    """An output with its first tensor of floats replaced, and counts of its frames with it."""
    if isinstance(output, Tensor):
        return given.to(output.dtype)
    keys = list(output) if isinstance(output, dict) else range(len(output))
    at = next(key for key in keys if _first(output[key]) is not None)
    copied = dict(output) if isinstance(output, dict) else list(output)
    copied[at] = _with_first(output[at], given)
    return copied if isinstance(output, dict) else type(output)(copied)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Laid:
    """Features out of a tensor of one utterance, and how they go back into it."""

    features: np.ndarray
    shape: tuple[int, ...]
    time: int
    width: int

    def back(self, features: np.ndarray) -> np.ndarray:
        shape = list(self.shape)
        shape[self.time] = len(features)
        frames = features if self.time < self.width else features.T
        return np.ascontiguousarray(frames).reshape(shape).astype(np.float32)


def _laid(value: Any, theirs: np.ndarray) -> _Laid | None:
    """``value`` as ``[T, D]`` where it has about as many frames and values as theirs."""
    array = np.asarray(value)
    axes = [axis for axis, size in enumerate(array.shape) if size != 1]
    if array.dtype.kind != "f" or len(axes) != 2:
        return None
    first, second = axes
    count = len(theirs)

    def off(axis: int) -> float:
        return abs(array.shape[axis] - count) / count

    same_width = [axis for axis in axes if array.shape[axis] == theirs.shape[1]]
    if same_width:
        width = same_width[0] if len(same_width) == 1 else max(axes, key=off)
    else:
        width = max(axes, key=off)
    time = first if width == second else second
    if off(time) > (0.5 if same_width else 0.1):
        return None
    flat = array.reshape(array.shape[first], array.shape[second])
    return _Laid(
        features=flat if time < width else flat.T, shape=array.shape, time=time, width=width
    )


def _distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """How unlike features are, whatever their scale; those of another width come last."""
    if ours.shape[1] != theirs.shape[1]:
        return 3.0 + abs(ours.shape[1] - theirs.shape[1])
    count = min(len(ours), len(theirs))
    a, b = ours[:count].astype(np.float64), theirs[:count].astype(np.float64)
    if np.allclose(a, b, rtol=1e-4, atol=1e-4):
        return 0.0
    spread = float(b.std()) or 1.0
    return min(float(np.sqrt(np.mean((a - b) ** 2))) / spread, 2.0)
