"""Windows that a model makes while it runs, ``torch.hann_window(400)``, with torch's own values.

ONNX's ``HammingWindow`` has other coefficients than torch's (25/46 in the place of 0.54: up to
3.5e-3 of the largest value), the exporter writes it all the same, and of windows that are symmetric
or have coefficients of their own it knows nothing. torch takes the length as a plain number, so
that such a window is the same in every run: it is computed here, and stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import to_torch_dtype

from exporter.graph.recurrent import op

WINDOWS = ("hann", "hamming", "blackman", "bartlett", "kaiser")


def _stored(overload: Any) -> Callable[..., Any]:
    """What an overload returns, as a constant."""

    def window(
        window_length: Any,
        periodic: Any = None,
        alpha: Any = None,
        beta: Any = None,
        *,
        dtype: int = -1,
        layout: str = "",
        device: str = "",
        pin_memory: bool = False,
    ) -> Any:
        given = [value for value in (periodic, alpha, beta) if value is not None]
        named = {} if dtype in (None, -1) else {"dtype": to_torch_dtype(ir.DataType(dtype))}
        return op.Constant(value=ir.tensor(overload(window_length, *given, **named)))

    return window


def _overloads() -> Iterator[Any]:
    """All that return a window, in the place of writing one into a tensor."""
    for name in WINDOWS:
        packet = getattr(torch.ops.aten, f"{name}_window")
        overloads = (getattr(packet, each) for each in packet.overloads())
        yield from (each for each in overloads if not each._schema.is_mutable)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    overload: _stored(overload) for overload in _overloads()
}
