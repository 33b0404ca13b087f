"""Recurrent layers over padded rows of different lengths, as ops that a program and ONNX have.

    lstm_of_lengths(x [T, B, I], lengths [B], h, c, params ...) -> y [T, B, D*H], h_n, c_n
    gru_of_lengths(x, lengths, h, params ...)                   -> y, h_n
    rnn_of_lengths(...)                                         -> y, h_n

Each row ends at its length: y is zero behind it, the last states are those of its last frame, and
the backward direction begins there. Computed by torch's own packed kernels; ONNX has the same as
``sequence_lens`` of LSTM, GRU and RNN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import _VF, Tensor
from torch.nn.utils.rnn import pack_padded_sequence as _pack
from torch.nn.utils.rnn import pad_packed_sequence as _pad

NAMESPACE = "export_verify"
LSTM = f"{NAMESPACE}.lstm_of_lengths.default"
GRU = f"{NAMESPACE}.gru_of_lengths.default"
RNN = f"{NAMESPACE}.rnn_of_lengths.default"
OWN_TARGETS = frozenset({LSTM, GRU, RNN})


@torch.library.custom_op(f"{NAMESPACE}::lstm_of_lengths", mutates_args=())
def lstm_of_lengths(
    x: Tensor,
    lengths: Tensor,
    h: Tensor,
    c: Tensor,
    params: list[Tensor],
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """LSTM; see this module."""
    packed: Any = _pack(x, lengths.cpu(), enforce_sorted=False)
    order = packed.sorted_indices
    hx = (h.index_select(1, order), c.index_select(1, order))
    data, h_n, c_n = _VF.lstm(
        packed.data, packed.batch_sizes, hx, params, has_biases, num_layers, 0.0, False,
        bidirectional,
    )  # fmt: skip
    back = packed.unsorted_indices
    y = _unpacked(packed, data, x.shape[0])
    return y, h_n.index_select(1, back), c_n.index_select(1, back)


@torch.library.custom_op(f"{NAMESPACE}::gru_of_lengths", mutates_args=())
def gru_of_lengths(
    x: Tensor,
    lengths: Tensor,
    h: Tensor,
    params: list[Tensor],
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
) -> tuple[Tensor, Tensor]:
    """GRU; see this module."""
    return _one_state(_VF.gru, x, lengths, h, params, has_biases, num_layers, bidirectional)


@torch.library.custom_op(f"{NAMESPACE}::rnn_of_lengths", mutates_args=())
def rnn_of_lengths(
    x: Tensor,
    lengths: Tensor,
    h: Tensor,
    params: list[Tensor],
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
    relu: bool,
) -> tuple[Tensor, Tensor]:
    """RNN with tanh or relu; see this module."""
    kernel = _VF.rnn_relu if relu else _VF.rnn_tanh
    return _one_state(kernel, x, lengths, h, params, has_biases, num_layers, bidirectional)


def _one_state(
    kernel: object,
    x: Tensor,
    lengths: Tensor,
    h: Tensor,
    params: list[Tensor],
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
) -> tuple[Tensor, Tensor]:
    packed: Any = _pack(x, lengths.cpu(), enforce_sorted=False)
    data, h_n = kernel(  # type: ignore[operator]
        packed.data, packed.batch_sizes, h.index_select(1, packed.sorted_indices), params,
        has_biases, num_layers, 0.0, False, bidirectional,
    )  # fmt: skip
    return _unpacked(packed, data, x.shape[0]), h_n.index_select(1, packed.unsorted_indices)


def _unpacked(packed: Any, data: Tensor, frames: int) -> Tensor:
    return _pad(packed._replace(data=data), total_length=frames)[0]


@lstm_of_lengths.register_fake
def _(x, lengths, h, c, params, has_biases, num_layers, bidirectional):  # noqa: ANN001, ANN202
    return _shape(x, h, bidirectional), torch.empty_like(h), torch.empty_like(c)


@gru_of_lengths.register_fake
def _(x, lengths, h, params, has_biases, num_layers, bidirectional):  # noqa: ANN001, ANN202
    return _shape(x, h, bidirectional), torch.empty_like(h)


@rnn_of_lengths.register_fake
def _(x, lengths, h, params, has_biases, num_layers, bidirectional, relu):  # noqa: ANN001, ANN202
    return _shape(x, h, bidirectional), torch.empty_like(h)


def _shape(x: Tensor, h: Tensor, bidirectional: bool) -> Tensor:
    return x.new_empty((x.shape[0], x.shape[1], h.shape[2] * (2 if bidirectional else 1)))


def differentiable(target: str) -> Callable[..., Any]:
    """The function behind one of these ops, whose gradients are those of torch's kernels.

    A custom op itself has none.
    """
    forms = {LSTM: lstm_of_lengths, GRU: gru_of_lengths, RNN: rnn_of_lengths}
    return forms[target]._init_fn  # torch has no public name for it
