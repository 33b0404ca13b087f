"""``torch.hann_window(x.shape[1])``: a window as long as the input, which torch takes as a number.

While a model is traced, a window whose length is a size of the graph is computed from its steps,
by torch's own formula, so that it grows with the input.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from exporter.graph.repairs.frame import Log, Repair, is_tracing

_NARROW = (torch.float16, torch.bfloat16)


def _turns(steps: Tensor, last: Any, turns: float) -> Tensor:
    return (steps * (turns * math.pi) / last).cos()


def _hann(steps: Tensor, last: Any) -> Tensor:
    return _hamming(steps, last, 0.5, 0.5)


def _hamming(steps: Tensor, last: Any, alpha: float = 0.54, beta: float = 0.46) -> Tensor:
    return alpha - beta * _turns(steps, last, 2)


def _blackman(steps: Tensor, last: Any) -> Tensor:
    return 0.08 * _turns(steps, last, 4) - 0.5 * _turns(steps, last, 2) + 0.42


def _bartlett(steps: Tensor, last: Any) -> Tensor:
    return 1 - (2 * steps / last - 1).abs()


_WINDOWS: dict[Any, tuple[str, Callable[..., Tensor]]] = {
    torch.hann_window: ("hann_window()", _hann),
    torch.hamming_window: ("hamming_window()", _hamming),
    torch.blackman_window: ("blackman_window()", _blackman),
    torch.bartlett_window: ("bartlett_window()", _bartlett),
}
"""All but Kaiser's, whose Bessel function ONNX does not have."""


class _Lengths(TorchFunctionMode):
    def __init__(self, log: Log):
        super().__init__()
        self.log = log

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        length = args[0] if args else kwargs.get("window_length")
        # Outside of a trace, for the proof, every length is a number, and all are computed.
        wanted = isinstance(length, torch.SymInt) or not is_tracing()
        if func not in _WINDOWS or not wanted:
            return func(*args, **kwargs)
        name, window = _WINDOWS[func]
        self.log.at(name)
        return _computed(window, length, *args[1:], **kwargs)


def _computed(
    window: Callable[..., Tensor],
    length: Any,
    periodic: bool = True,
    *coefficients: float,
    dtype: torch.dtype | None = None,
    device: Any = None,
    **named: Any,
) -> Tensor:
    """``[length]``, of which torch makes a single 1 where the length is one."""
    dtype = dtype or torch.get_default_dtype()
    wide = torch.float32 if dtype in _NARROW else dtype
    more = {key: named[key] for key in ("alpha", "beta") if key in named}
    steps = torch.arange(length, dtype=wide, device=device)
    last = length if periodic else torch.sym_max(length - 1, 1)
    values = window(steps, last, *coefficients, **more)
    return torch.where(steps.sum() == 0, torch.ones_like(values), values).to(dtype)


REPAIR = Repair(
    name="window_lengths",
    replaces="the window is computed from its steps, as many as there are",
    strategy="windows computed from sizes",
    matches=lambda run: True,
    apply=lambda run, log: _Lengths(log),
)
