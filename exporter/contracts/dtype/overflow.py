"""The first layer, op and value that float16 cannot hold, by running both precisions."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from exporter.contracts.locate.recorder import Call, ModuleStack, OpRecorder, Recorder
from exporter.contracts.result import Location

LARGEST = 65504.0
LIMIT = "65504, the largest float16"
ADVICE = "keep this layer in float32, or scale its input down"
_MASKING = ("masked_fill", "where", "full", "fill", "scalar_tensor", "zeros", "ones", "_to_copy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overflow:
    """Where a finite float32 value became infinite or NaN in float16.

    Attributes:
        value: the largest float32 magnitude at that layer.
    """

    place: Location
    value: float

    def __str__(self) -> str:
        return f"{self.place} holds {self.value:.6g} in float32"


@dataclass(slots=True)
class Finiteness:
    """What is not finite in one run, and how large the rest is, per record of a module.

    Attributes:
        rows: key -> (place, values that are not finite, largest finite magnitude).
        returned: what the module returned.
    """

    rows: dict[str, tuple[Location, int, float]] = field(default_factory=dict)
    returned: Any = None

    def take(self, call: Call) -> None:
        """Reduce a record to two numbers."""
        value = call.value
        if not value.is_floating_point() or not value.numel():
            return
        low, high = (float(end) for end in torch.aminmax(value))
        if math.isfinite(low) and math.isfinite(high):
            self.rows[call.key] = (call.place, 0, max(-low, high))
            return
        finite = torch.isfinite(value)
        count = int(value.numel() - finite.sum())
        peak = float(torch.where(finite, value, torch.zeros_like(value)).abs().max())
        self.rows[call.key] = (call.place, count, peak)


def run_and_watch(module: nn.Module, args: Sequence[Any]) -> Finiteness:
    """Run a module on copies of its arguments and watch what every part returns."""
    with torch.no_grad(), watching(module) as seen:
        module(*tree_map(_copied, args))
    return seen


@contextlib.contextmanager
def watching(module: nn.Module) -> Iterator[Finiteness]:
    """Watch what a module, whoever calls it, and every part of it return; what it returns itself
    is kept of its first call."""
    seen = Finiteness()

    def keep(_module: nn.Module, _args: Any, returned: Any) -> None:
        if seen.returned is None:
            seen.returned = tree_map(_copied, returned)

    handle = module.register_forward_hook(keep)
    try:
        with Recorder(module, take=seen.take, copies=False):
            yield seen
    finally:
        handle.remove()


def find_overflow(
    full: nn.Module,
    low: nn.Module,
    full_args: Sequence[Any],
    low_args: Sequence[Any],
    wide: Finiteness,
    narrow: Finiteness,
) -> Overflow | None:
    """The first layer with more values that are not finite than in float32; its op is named.

    Args:
        full, low: the module in float32 and at the lower precision (may be one module).
        full_args, low_args: what each was called with.
        wide, narrow: what was seen when they ran.
    """
    for key, (place, count, _) in narrow.rows.items():
        reference = wide.rows.get(key)
        if reference is not None and count > reference[1]:
            overflow, inner = _op(full, low, place, full_args, low_args)
            return Overflow(place=overflow, value=max(reference[2], inner))
    return None


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _op(
    full: nn.Module,
    low: nn.Module,
    layer: Location,
    full_args: Sequence[Any],
    low_args: Sequence[Any],
) -> tuple[Location, float]:
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
            low(*tree_map(_copied, low_args))
        with ModuleStack(full) as stack, OpRecorder(stack, layer.module, take=measure):
            full(*tree_map(_copied, full_args))
    if not bad:
        return layer, 0.0
    place = bad[0].place
    here = [peak for source, peak in peaks if source == place.source]
    return place, max(here, default=0.0)
