"""Weights of a lowered file that are none of PyTorch's, rounded: by their numbers alone.

What a layer is fed may hide it: a wrong zero point moves nothing where the mean is zero, scales
along the other axis of a square weight move little where all channels are alike, and onnxruntime
gives the same numbers with the axis turned where it makes one integer product of the pair.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from exporter.core.tensors import COMPARED, PlannedTap
from exporter.graph.grids import QuantisedWeight
from exporter.graph.node_formats import Held
from exporter.graph.program import Op, Program

_MANY = 64
_SHIFTED = 0.75
"""Steps by which the mean of a weight may move: rounding moves it by 0.3 / sqrt(elements)."""
_ROUNDED = 1.0
"""Steps by which a number moves: half a one, and as much again where a zero point was rounded."""
_GAIN = 0.01
_CLEARLY = 0.5
"""A wrong scale or zero point leaves a weight nearer to its own than to any other by so much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongWeights:
    """What is wrong with weights, in words, by the tap whose piece reads them.

    Attributes:
        wrong: whatever comes out. scaled: a multiple of PyTorch's, which something else in the
            piece may take back: wrong where the piece is further off than its formats cost.
    """

    wrong: Mapping[str, str] = field(default_factory=dict)
    scaled: Mapping[str, str] = field(default_factory=dict)


def wrong_weights(
    program: Program, held: Mapping[str, Held], planned: Sequence[PlannedTap]
) -> WrongWeights:
    """Hold the weights that a file stores in integers against PyTorch's.

    Args:
        held: what the file holds where each op is computed (``held_of_ops``).
    """
    taps = {tap.tap.name: tap for tap in planned}
    users = {name: op.name for op in reversed(program.ops) for name in op.refs()}
    wrong: dict[str, str] = {}
    scaled: dict[str, str] = {}
    pieces: dict[str, dict[str, torch.Tensor]] = {}
    for op in program.ops:
        into = _shown_at(op.name, taps, users) if op.name in held else None
        if into is not None and into in held:
            pieces.setdefault(into, {}).update(_weights(program, op))
    for into, tensors in pieces.items():
        for values, weight in _origins(list(tensors.values()), held[into]):
            said = [_shifted(value, weight) or _turned(value, weight) for value in values]
            multiples = [_multiple(value, weight) for value in values]
            # Of several that it may have been rounded from, one that fits is enough.
            if said[0] is not None and None not in said:
                wrong[into] = said[0]
            elif multiples[0] is not None and None not in multiples:
                scaled[into] = multiples[0]
    return WrongWeights(wrong=wrong, scaled=scaled)


def _shown_at(name: str, taps: Mapping[str, PlannedTap], users: Mapping[str, str]) -> str | None:
    """The compared tap that shows an op: itself, what it is fused into, or a reader of it."""
    seen: set[str] = set()
    while name and name not in seen:
        seen.add(name)
        tap = taps.get(name)
        if tap is not None and tap.fate == COMPARED:
            return name
        name = (tap.into if tap is not None else None) or users.get(name, "")
    return None


def _weights(program: Program, op: Op) -> dict[str, torch.Tensor]:
    """What the op reads and a file may store in integers, by name."""
    keys = [program.weights[name] for name in op.refs() if name in program.weights]
    found = {key: program.tensors[key] for key in keys}
    return {
        key: tensor
        for key, tensor in found.items()
        if tensor.dim() > 1 and tensor.is_floating_point() and tensor.numel() >= _MANY
    }


def _origins(
    tensors: Sequence[torch.Tensor], here: Held
) -> list[tuple[list[torch.Tensor], QuantisedWeight]]:
    """Each weight of a piece of the file with those that it may have been rounded from.

    These have as many numbers. Where there are several (square products, both weights of an LSTM),
    of which the file may hold some in floats, it is the one whose numbers are nearest.
    """
    found: list[tuple[list[torch.Tensor], QuantisedWeight]] = []
    for count in sorted({tensor.numel() for tensor in tensors}):
        mine = [tensor for tensor in tensors if tensor.numel() == count]
        theirs = [weight for weight in here.weights if weight.elements == count]
        if len(theirs) > len(mine):
            continue  # whose the others are nobody knows
        unknown = []
        for weight in theirs:
            place = _nearest(mine, weight)
            if place is None:
                unknown.append(weight)
            else:
                found.append(([mine.pop(place)], weight))
        found += [(list(mine), weight) for weight in unknown]
    return found


def _nearest(values: Sequence[torch.Tensor], weight: QuantisedWeight) -> int | None:
    """Place of the tensor that a weight was rounded from, rightly or not; None: not to be told."""
    if len(values) < 2:
        return 0
    found = weight.real(False)
    if found is None:
        return None
    off = [_distance(value.detach().float().numpy(), found) for value in values]
    first, second = np.argsort(off)[:2]
    if off[first] < _CLEARLY * off[second]:
        return int(first)
    # An LSTM's gates stand in another order.
    same = (n for n, value in enumerate(values) if _is_multiple(value, weight, 1.0))
    return next(same, None)


def _distance(meant: np.ndarray, found: np.ndarray) -> float:
    """Rms difference of two weights, one of which may lie transposed."""
    plain = meant.reshape(-1, meant.shape[-1])
    flat = found.reshape(-1)
    return min(_rms(flat - side.reshape(-1)) for side in (plain, plain.T))


def _shifted(value: torch.Tensor, weight: QuantisedWeight) -> str | None:
    if weight.mean is None:
        return None
    mean, step = weight.mean
    steps = abs(mean - float(value.double().mean())) / step if step else math.inf
    if not steps > _SHIFTED:
        return None
    return (
        f"the weight '{weight.name}' stands {steps:.3g} of its steps beside PyTorch's on average:"
        " its zero point or its scale is wrong"
    )


def _turned(value: torch.Tensor, weight: QuantisedWeight) -> str | None:
    """Rounded from PyTorch's with its scales along the other axis, and not as it says."""
    other = weight.real(True)
    if other is None or value.dim() != 2 or weight.steps is None:
        return None
    meant, step = value.detach().float().numpy(), float(weight.steps.max())

    def off(found: np.ndarray | None) -> float:
        if found is None:
            return math.inf
        return min(float(np.abs(found - side).max()) for side in (meant, meant.T)) / step

    if not (off(other) <= _ROUNDED < off(weight.real(False))):
        return None
    return (
        f"the weight '{weight.name}' is PyTorch's with its scales along the other axis: its axis is"
        " wrong"
    )


def _multiple(value: torch.Tensor, weight: QuantisedWeight) -> str | None:
    """Rounded from a multiple of PyTorch's; numbers are compared in their order of size."""
    found = weight.real(False)
    if found is None or weight.steps is None:
        return None
    meant = value.detach().float().numpy()
    own = _rms(meant)
    gain = _rms(found) / own if own else 1.0
    if abs(gain - 1.0) < _GAIN or not math.isfinite(gain):
        return None
    if not _is_multiple(value, weight, gain):
        return None
    return f"the weight '{weight.name}' is {gain:.3g} times PyTorch's: its scale is wrong"


def _is_multiple(value: torch.Tensor, weight: QuantisedWeight, gain: float) -> bool:
    """Whether what is stored was rounded from so many times PyTorch's, in whatever order."""
    found = weight.real(False)
    if found is None or weight.steps is None:
        return False
    meant = np.sort(value.detach().float().numpy(), axis=None)
    apart = float(np.abs(np.sort(found, axis=None) / gain - meant).max())
    return apart * gain <= _ROUNDED * float(weight.steps.max())


def _rms(values: np.ndarray | None) -> float:
    if values is None or not values.size:
        return 0.0
    flat = values.reshape(-1)
    return math.sqrt(float(np.dot(flat, flat)) / flat.size)
