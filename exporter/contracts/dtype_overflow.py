"""The first layer, op and value that float16 cannot hold, by running both precisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from exporter.contracts.recorder import Call, ModuleStack, OpRecorder, Recorder
from exporter.contracts.result import Place

LARGEST = 65504.0
_MASKING = ("masked_fill", "where", "full", "fill", "scalar_tensor", "zeros", "ones", "_to_copy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overflow:
    """Where a finite float32 value became infinite or NaN in float16.

    Attributes:
        value: the largest float32 magnitude at that layer.
    """

    place: Place
    value: float

    def __str__(self) -> str:
        return f"{self.place} holds {self.value:.6g} in float32"


def find_overflow(
    full: nn.Module, low: nn.Module, full_args: tuple[Any, ...], low_args: list[Any]
) -> Overflow | None:
    """Compare layer by layer; the op inside the first bad layer is named."""
    wide: dict[str, Call] = {}
    narrow: list[Call] = []
    with torch.no_grad():
        with Recorder(full, take=lambda call: wide.__setitem__(call.key, call)):
            full(*[a.clone() if isinstance(a, Tensor) else a for a in full_args])
        with Recorder(low, take=narrow.append):
            low(*[a.clone() if isinstance(a, Tensor) else a for a in low_args])
    for call in narrow:
        reference = wide.get(call.key)
        if reference is None or not call.value.is_floating_point():
            continue
        if reference.value.shape != call.value.shape:
            continue
        lost = ~torch.isfinite(call.value) & torch.isfinite(reference.value)
        if bool(lost.any()):
            finite = reference.value[torch.isfinite(reference.value)]
            peak = float(finite.abs().max())
            place, inner = _op(full, low, call.place, full_args, low_args)
            return Overflow(place=place, value=max(peak, inner))
    return None


def _op(
    full: nn.Module, low: nn.Module, layer: Place, full_args: tuple[Any, ...], low_args: list[Any]
) -> tuple[Place, float]:
    """The first op in the layer with a value that is not finite; masks are made that way."""
    bad: list[Call] = []
    peaks: list[tuple[str, float]] = []

    def take(call: Call) -> None:
        value = call.value
        if not value.is_floating_point() or call.place.op.split(".")[1].startswith(_MASKING):
            return
        if not bool(torch.isfinite(value).all()) and not bool((value == -torch.inf).all()):
            bad.append(call)

    def measure(call: Call) -> None:
        value = call.value
        if value.is_floating_point() and value.numel():
            finite = value[torch.isfinite(value)]
            if finite.numel():
                peaks.append((call.place.source, float(finite.abs().max())))

    with torch.no_grad():
        with ModuleStack(low) as stack, OpRecorder(stack, layer.module, take=take):
            low(*[a.clone() if isinstance(a, Tensor) else a for a in low_args])
        with ModuleStack(full) as stack, OpRecorder(stack, layer.module, take=measure):
            full(*[a.clone() if isinstance(a, Tensor) else a for a in full_args])
    if not bad:
        return layer, 0.0
    place = bad[0].place
    here = [peak for source, peak in peaks if source == place.source]
    return place, max(here, default=0.0)
