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
    for op in program.ops:
        here = held.get(op.name)
        into = _shown_at(op.name, taps, users) if here is not None else None
        if here is None or into is None:
            continue
        for value, weight in _pairs(program, op, here):
            said = _shifted(value, weight) or _turned(value, weight)
            if said is not None:
                wrong[into] = said
            elif (multiple := _multiple(value, weight)) is not None:
                scaled[into] = multiple
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


def _pairs(program: Program, op: Op, here: Held) -> list[tuple[torch.Tensor, QuantisedWeight]]:
    """Weights of the op, each with the file's own of as many numbers; several by their sizes."""
    tensors = [program.tensors[program.weights[n]] for n in op.refs() if n in program.weights]
    tensors = [t for t in tensors if t.dim() > 1 and t.is_floating_point() and t.numel() >= _MANY]
    found: list[tuple[torch.Tensor, QuantisedWeight]] = []
    for count in sorted({tensor.numel() for tensor in tensors}):
        mine = [tensor for tensor in tensors if tensor.numel() == count]
        theirs = [weight for weight in here.weights if weight.elements == count]
        if len(theirs) == 1:
            found += [(tensor, theirs[0]) for tensor in mine]
        elif len(theirs) == len(mine):
            found += _matched(mine, theirs)
    return found


def _matched(
    mine: list[torch.Tensor], theirs: list[QuantisedWeight]
) -> list[tuple[torch.Tensor, QuantisedWeight]]:
    """Each with what it was rounded from; if one of each is left, these two as well."""
    found: list[tuple[torch.Tensor, QuantisedWeight]] = []
    for weight in list(theirs):
        for place, tensor in enumerate(mine):
            if _is_multiple(tensor, weight, 1.0):
                found.append((mine.pop(place), weight))
                theirs.remove(weight)
                break
    return [*found, *zip(mine, theirs, strict=True)] if len(mine) == 1 else found


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
