"""ONNX translations of recurrent aten ops that torch's own library bakes sizes into, or gets wrong.

torch 2.13's translation of ``aten.lstm.input`` writes the example's number of frames into a
Reshape, and knows no projections. These write one ONNX node per layer and nothing that depends on
the length. Sources: ONNX operator specification, LSTM-14, GRU-14, RNN-14; torch.nn.LSTM's, GRU's
and RNN's documentation for the gate order and ``proj_size``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from onnxscript.onnx_opset import opset18

# onnxscript types its operators by overloads that a traced value does not fit.
op: Any = opset18

# torch stacks the gates as input, forget, cell, output; ONNX as input, output, forget, cell.
_LSTM_GATES = (0, 3, 1, 2)
# torch: reset, update, new; ONNX: update, reset, hidden.
_GRU_GATES = (1, 0, 2)
_RNN_GATES = (0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Direction:
    """Weights of one direction of a layer; ``project`` is ``[P, H]`` or None."""

    w_ih: Any
    w_hh: Any
    biases: Sequence[Any]
    project: Any

    def hidden(self, gates: Sequence[int]) -> int:
        return int(self.w_hh.shape[0]) // len(gates)


def _ints(*values: int) -> Any:
    return op.Constant(value_ints=list(values))


def _reorder(stacked: Any, gates: Sequence[int], hidden: int) -> Any:
    """Reorder stacked gates of ``hidden`` rows each from torch's to ONNX's order."""
    parts = [op.Slice(stacked, _ints(g * hidden), _ints((g + 1) * hidden), _ints(0)) for g in gates]
    return _join(parts)


def _join(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else op.Concat(*parts, axis=0)


def _stacked(parts: list[Any]) -> Any:
    """One value per direction -> ``[D, ...]``."""
    return _join([op.Unsqueeze(part, _ints(0)) for part in parts])


def _layers(
    params: Sequence[Any], has_biases: bool, num_layers: int, directions: int
) -> list[list[_Direction]]:
    count = len(params) // (num_layers * directions)
    projected = count == (5 if has_biases else 3)
    parts = [params[first : first + count] for first in range(0, len(params), count)]
    made = [
        _Direction(
            w_ih=part[0],
            w_hh=part[1],
            biases=part[2:4] if has_biases else (),
            project=part[-1] if projected else None,
        )
        for part in parts
    ]
    return [made[at : at + directions] for at in range(0, len(made), directions)]


def _weights(layer: list[_Direction], gates: Sequence[int]) -> tuple[list[Any], ...]:
    """W, R and B of a layer without projections, by direction; no B without biases."""
    hidden = layer[0].hidden(gates)
    w, r, b = [], [], []
    for each in layer:
        w.append(op.Unsqueeze(_reorder(each.w_ih, gates, hidden), _ints(0)))
        r.append(op.Unsqueeze(_reorder(each.w_hh, gates, hidden), _ints(0)))
        if each.biases:
            both = op.Concat(*(_reorder(bias, gates, hidden) for bias in each.biases), axis=0)
            b.append(op.Unsqueeze(both, _ints(0)))
    return w, r, b


def _of_layer(states: Sequence[Any], layer: int, directions: int) -> list[Any]:
    lo, hi = _ints(layer * directions), _ints((layer + 1) * directions)
    return [op.Slice(state, lo, hi, _ints(0)) for state in states]


def _joined(parts: list[Any]) -> Any:
    """The directions as one value; None for no parts."""
    return _join(parts) if parts else None


def _side_by_side(y: Any) -> Any:
    """ONNX's ``[T, D, B, H]`` as torch's ``[T, B, D*H]``."""
    return op.Reshape(op.Transpose(y, perm=[0, 2, 1, 3]), _ints(0, 0, -1))


def _way(directions: int) -> str:
    return "bidirectional" if directions == 2 else "forward"


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
    *,
    counts: Any = None,
) -> tuple[Any, Any, Any]:
    """``aten.lstm.input`` -> ONNX ``LSTM`` (layout 0).

    Shapes: input ``[T, B, I]`` (``[B, T, I]`` if ``batch_first``), hx ``[L*D, B, H]`` (with a
    projection the first is ``[L*D, B, P]``) twice; returns output ``[T, B, D*H]``, h_n and c_n.
    ``counts`` is ``[B]`` int32, frames of each row (not with a projection); None: all of them.
    """
    directions = 2 if bidirectional else 1
    x = op.Transpose(input, perm=[1, 0, 2]) if batch_first else input
    last_h, last_c = [], []
    for number, layer in enumerate(_layers(params, has_biases, num_layers, directions)):
        if layer[0].project is not None:
            x, y_h, y_c = _projected(x, hx, layer, number)
        else:
            x, y_h, y_c = _plain(x, hx, layer, number, counts)
        last_h.append(y_h)
        last_c.append(y_c)
    output = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
    return output, _join(last_h), _join(last_c)


def _plain(
    x: Any, hx: Sequence[Any], layer: list[_Direction], number: int, counts: Any
) -> tuple[Any, Any, Any]:
    w, r, b = _weights(layer, _LSTM_GATES)
    h, c = _of_layer(hx, number, len(layer))
    y, y_h, y_c = op.LSTM(
        x,
        _join(w),
        _join(r),
        _joined(b),
        counts,
        h,
        c,
        hidden_size=layer[0].hidden(_LSTM_GATES),
        direction=_way(len(layer)),
    )
    return _side_by_side(y), y_h, y_c


def _projected(
    x: Any, hx: Sequence[Any], layer: list[_Direction], number: int
) -> tuple[Any, Any, Any]:
    """A layer with ``proj_size``, which ONNX's LSTM does not have, as one without.

    With r the values before the projection, h = r W_hr^T, and W_hh h = (W_hh W_hr) r: an LSTM that
    hands on r, projected behind it. Only the first h is given and no r belongs to it, so it comes
    in as further features of the first step (for the other direction, of the last).
    """
    hidden = layer[0].hidden(_LSTM_GATES)
    h, c = _of_layer(hx, number, len(layer))
    w, r = [], []
    features = [x]
    for direction, each in enumerate(layer):
        parts = [each.w_ih]
        for other in range(len(layer)):
            size = _ints(len(_LSTM_GATES) * hidden, int(each.w_hh.shape[1]))
            parts.append(
                each.w_hh if other == direction else op.CastLike(op.ConstantOfShape(size), x)
            )
        w.append(_reorder(op.Concat(*parts, axis=1), _LSTM_GATES, hidden))
        r.append(_reorder(op.MatMul(each.w_hh, each.project), _LSTM_GATES, hidden))
        features.append(_at_one_end(h, x, direction))
    none = op.Expand(op.CastLike(op.Constant(value_float=0.0), x), op.Shape(c))
    y, y_r, y_c = op.LSTM(
        op.Concat(*features, axis=2),
        _stacked(w),
        _stacked(r),
        _joined(_weights(layer, _LSTM_GATES)[2]),
        None,
        none,
        c,
        hidden_size=hidden,
        direction=_way(len(layer)),
    )
    back = _stacked([op.Transpose(each.project, perm=[1, 0]) for each in layer])  # [D, H, P]
    y = op.MatMul(op.Transpose(y, perm=[1, 0, 2, 3]), op.Unsqueeze(back, _ints(1)))  # [D, T, B, P]
    return _side_by_side(op.Transpose(y, perm=[1, 0, 2, 3])), op.MatMul(y_r, back), y_c


def _at_one_end(h: Any, x: Any, direction: int) -> Any:
    """``[T, B, P]``: the state of a direction at the step that it begins with, zeros elsewhere."""
    first = op.Slice(h, _ints(direction), _ints(direction + 1), _ints(0))
    others = op.Sub(op.Shape(x, start=0, end=1), _ints(1))
    ends = (_ints(0, 0, 0), others, _ints(0, 0))
    if direction:
        ends = (others, _ints(0, 0), _ints(0, 0, 0))
    return op.Pad(first, op.Concat(*ends, axis=0), op.CastLike(op.Constant(value_float=0.0), x))


def gru_input(
    input: Any,
    hx: Any,
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
    *,
    counts: Any = None,
) -> tuple[Any, Any]:
    """``aten.gru.input`` -> ONNX ``GRU``; shapes as for ``lstm_input``, one state."""

    def step(x: Any, hx: Any, layer: list[_Direction], number: int) -> tuple[Any, Any]:
        w, r, b = _weights(layer, _GRU_GATES)
        return op.GRU(
            x,
            _join(w),
            _join(r),
            _joined(b),
            counts,
            *_of_layer([hx], number, len(layer)),
            hidden_size=layer[0].hidden(_GRU_GATES),
            # torch applies the reset gate behind the product, its bias included.
            linear_before_reset=1,
            direction=_way(len(layer)),
        )

    layers = _layers(params, has_biases, num_layers, 2 if bidirectional else 1)
    return _one_state(input, hx, layers, batch_first, step)


def rnn_input(activation: str) -> Callable[..., tuple[Any, Any]]:
    """Translation of ``aten.rnn_tanh.input`` (activation "Tanh") or ``aten.rnn_relu.input``."""

    def of_activation(
        input: Any,
        hx: Any,
        params: Sequence[Any],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
        *,
        counts: Any = None,
    ) -> tuple[Any, Any]:
        """``aten.rnn_*.input`` -> ONNX ``RNN``; shapes as for ``lstm_input``, one state."""

        def step(x: Any, hx: Any, layer: list[_Direction], number: int) -> tuple[Any, Any]:
            w, r, b = _weights(layer, _RNN_GATES)
            return op.RNN(
                x,
                _join(w),
                _join(r),
                _joined(b),
                counts,
                *_of_layer([hx], number, len(layer)),
                hidden_size=layer[0].hidden(_RNN_GATES),
                activations=[activation] * len(layer),
                direction=_way(len(layer)),
            )

        layers = _layers(params, has_biases, num_layers, 2 if bidirectional else 1)
        return _one_state(input, hx, layers, batch_first, step)

    return of_activation


def _one_state(
    input: Any,
    hx: Any,
    layers: list[list[_Direction]],
    batch_first: bool,
    step: Callable[[Any, Any, list[_Direction], int], tuple[Any, Any]],
) -> tuple[Any, Any]:
    x = op.Transpose(input, perm=[1, 0, 2]) if batch_first else input
    last = []
    for number, layer in enumerate(layers):
        y, y_h = step(x, hx, layer, number)
        x = _side_by_side(y)
        last.append(y_h)
    return op.Transpose(x, perm=[1, 0, 2]) if batch_first else x, _join(last)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.lstm.input: lstm_input,
    torch.ops.aten.gru.input: gru_input,
    torch.ops.aten.rnn_tanh.input: rnn_input("Tanh"),
    torch.ops.aten.rnn_relu.input: rnn_input("Relu"),
}
