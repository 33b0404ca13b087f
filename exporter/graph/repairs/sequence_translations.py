"""ONNX's LSTM, GRU and RNN with ``sequence_lens``, for the ops of ``sequence_ops``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript import INT32

from exporter.graph.recurrent import gru_input, lstm_input, op, rnn_input
from exporter.graph.repairs import sequence_ops as _registered

_OPS: Any = getattr(torch.ops, _registered.NAMESPACE)


def _counts(lengths: Any) -> Any:
    return op.Cast(lengths, to=INT32.dtype)


def lstm_of_lengths(
    x: Any,
    lengths: Any,
    h: Any,
    c: Any,
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
) -> tuple[Any, Any, Any]:
    """``lstm_of_lengths`` -> one ONNX ``LSTM`` per layer."""
    return lstm_input(
        x, (h, c), params, has_biases, num_layers, 0.0, False, bidirectional, False,
        counts=_counts(lengths),
    )  # fmt: skip


def gru_of_lengths(
    x: Any,
    lengths: Any,
    h: Any,
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
) -> tuple[Any, Any]:
    """``gru_of_lengths`` -> one ONNX ``GRU`` per layer."""
    return gru_input(
        x, h, params, has_biases, num_layers, 0.0, False, bidirectional, False,
        counts=_counts(lengths),
    )  # fmt: skip


def rnn_of_lengths(
    x: Any,
    lengths: Any,
    h: Any,
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
    relu: bool,
) -> tuple[Any, Any]:
    """``rnn_of_lengths`` -> one ONNX ``RNN`` per layer."""
    return rnn_input("Relu" if relu else "Tanh")(
        x, h, params, has_biases, num_layers, 0.0, False, bidirectional, False,
        counts=_counts(lengths),
    )  # fmt: skip


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    _OPS.lstm_of_lengths.default: lstm_of_lengths,
    _OPS.gru_of_lengths.default: gru_of_lengths,
    _OPS.rnn_of_lengths.default: rnn_of_lengths,
}
