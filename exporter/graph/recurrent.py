"""ONNX translations of recurrent aten ops that torch's own library bakes sizes into.

torch 2.13's translation of ``aten.lstm.input`` writes the example's number of frames into a
Reshape. These write one ONNX ``LSTM`` node per layer and nothing that depends on the length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript.onnx_opset import opset18

# onnxscript types its operators by overloads that a traced value does not fit.
op: Any = opset18

# torch stacks the gates as input, forget, cell, output; ONNX as input, output, forget, cell.
_GATE_ORDER = (0, 3, 1, 2)


def _ints(*values: int) -> Any:
    return op.Constant(value_ints=list(values))


def _reorder(stacked: Any, hidden: int, *, axis: int = 0) -> Any:
    """Reorder four stacked gates of ``hidden`` rows each from torch's to ONNX's order."""
    parts = [
        op.Slice(stacked, _ints(g * hidden), _ints((g + 1) * hidden), _ints(axis))
        for g in _GATE_ORDER
    ]
    return op.Concat(*parts, axis=axis)


def lstm_input(
    input: Any,
    hx: Sequence[Any],
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Any, Any, Any]:
    """``aten.lstm.input`` -> ONNX ``LSTM`` (layout 0).

    Shapes: input ``[T, B, I]`` (``[B, T, I]`` if ``batch_first``), hx two of ``[L*D, B, H]``;
    returns output ``[T, B, D*H]``, h_n and c_n ``[L*D, B, H]``. Source: ONNX operator
    specification, LSTM-14, and torch.nn.LSTM's documentation for the gate order.
    """
    directions = 2 if bidirectional else 1
    per_direction = 4 if has_biases else 2
    x = op.Transpose(input, perm=[1, 0, 2]) if batch_first else input
    last_h, last_c = [], []
    for layer in range(num_layers):
        weights, recurrents, biases = [], [], []
        for direction in range(directions):
            first = (layer * directions + direction) * per_direction
            w_ih, w_hh, *bias = params[first : first + per_direction]
            hidden = int(w_hh.shape[1])
            weights.append(op.Unsqueeze(_reorder(w_ih, hidden), _ints(0)))
            recurrents.append(op.Unsqueeze(_reorder(w_hh, hidden), _ints(0)))
            if has_biases:
                both = op.Concat(*(_reorder(b, hidden) for b in bias), axis=0)
                biases.append(op.Unsqueeze(both, _ints(0)))
        hidden = int(params[layer * directions * per_direction + 1].shape[1])
        lo, hi = _ints(layer * directions), _ints((layer + 1) * directions)
        y, y_h, y_c = op.LSTM(
            x,
            _join(weights),
            _join(recurrents),
            _join(biases) if has_biases else None,
            None,
            op.Slice(hx[0], lo, hi, _ints(0)),
            op.Slice(hx[1], lo, hi, _ints(0)),
            hidden_size=hidden,
            direction="bidirectional" if bidirectional else "forward",
        )
        # y is [T, D, B, H]; torch wants the directions side by side: [T, B, D*H].
        x = op.Reshape(op.Transpose(y, perm=[0, 2, 1, 3]), _ints(0, 0, -1))
        last_h.append(y_h)
        last_c.append(y_c)
    output = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
    return output, _join(last_h), _join(last_c)


def _join(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else op.Concat(*parts, axis=0)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.lstm.input: lstm_input,
}
