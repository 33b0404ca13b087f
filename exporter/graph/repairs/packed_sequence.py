"""Packed sequences: rows stay padded and keep their lengths beside them.

``pack_padded_sequence`` sorts rows and counts how many of them reach each frame: numbers that are
read from data, of which no graph has the same number twice. Here a packed sequence is the padded
tensor with its lengths, a recurrent layer of torch.nn computes each row up to its length
(``sequence_ops``; in the file: ``sequence_lens`` of ONNX), and ``pad_packed_sequence`` cuts off
what no row reaches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import rnn

from exporter.graph.repairs import sequence_ops
from exporter.graph.repairs.frame import Log, NotRepairedError, Repair, holders_of, replaced_names
from exporter.graph.repairs.lists_of_sizes import is_symbolic_list
from exporter.graph.repairs.module_run import ModuleRun


class PackedFrames:
    """What passes for a ``PackedSequence``: frames ``[T, B, ...]`` and how many each row has."""

    def __init__(self, frames: Tensor, lengths: Tensor):
        self.frames = frames
        self.lengths = lengths

    @property
    def __class__(self) -> type:  # type: ignore[override]
        return rnn.PackedSequence

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise _unrepaired(f"'{name}' of a packed sequence")

    def __iter__(self) -> Iterator[Any]:
        raise _unrepaired("the parts of a packed sequence")


def _unrepaired(what: str) -> NotRepairedError:
    return NotRepairedError(
        f"{what} is used outside of torch's own recurrent layers, which no graph can follow",
        "unpack before (pad_packed_sequence), compute on the padded rows, and mask behind",
    )


def _is_rows(value: Any) -> bool:
    return type(value) is PackedFrames


def _pack(log: Log, own: Callable[..., Any]) -> Callable[..., Any]:
    def pack_padded_sequence(
        input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
    ) -> Any:
        log.at("pack_padded_sequence()")
        counts = _lengths(lengths, input.device)
        if isinstance(enforce_sorted, bool) and enforce_sorted and not _is_abstract(counts):
            own(input, counts.cpu(), batch_first, enforce_sorted)  # raises where PyTorch does
        return PackedFrames(input.transpose(0, 1) if batch_first else input, counts)

    return pack_padded_sequence


def _is_abstract(value: Tensor) -> bool:
    return type(value) is not Tensor


def _lengths(given: Any, device: torch.device) -> Tensor:
    if is_symbolic_list(given):
        given = given.tensor
    if not isinstance(given, Tensor):
        given = torch.stack([torch.scalar_tensor(each, dtype=torch.int64) for each in given])
    return given.to(device=device, dtype=torch.int64)


def _pad(own: Callable[..., Any]) -> Callable[..., Any]:
    def pad_packed_sequence(
        sequence: Any,
        batch_first: bool = False,
        padding_value: float = 0.0,
        total_length: int | None = None,
    ) -> Any:
        if not _is_rows(sequence):
            return own(sequence, batch_first, padding_value, total_length)
        frames, lengths = sequence.frames, sequence.lengths
        if total_length is None:
            longest: Any = lengths.max().item()
            torch._check(longest >= 1)
            torch._check(longest <= frames.shape[0])
            frames = frames[:longest]
        elif total_length is not frames.shape[0]:
            frames = _stretched(frames, total_length)
        # Also what was never in a recurrent layer: packing alone drops what lies behind a row.
        steps = torch.arange(frames.shape[0], device=frames.device)
        there = steps.unsqueeze(1) < lengths.unsqueeze(0)
        there = there.reshape(*there.shape, *[1] * (frames.dim() - 2))
        frames = torch.where(there, frames, torch.scalar_tensor(padding_value, dtype=frames.dtype))
        return (frames.transpose(0, 1) if batch_first else frames), lengths

    return pad_packed_sequence


def _stretched(frames: Tensor, length: Any) -> Tensor:
    rest = length - frames.shape[0]
    return nn.functional.pad(frames, (0, 0) * (frames.dim() - 1) + (0, rest))


def _layer(log: Log, own: Callable[..., Any]) -> Callable[..., Any]:
    """``forward`` of a recurrent layer: of rows what the ops over rows give."""

    def forward(self: nn.RNNBase, input: Any, hx: Any = None) -> Any:
        if not _is_rows(input):
            return own(self, input, hx)
        if self.proj_size:
            raise _unrepaired("a packed sequence of an LSTM with proj_size")
        log.at(type(self).__name__)
        x, lengths = input.frames, input.lengths
        directions = 2 if self.bidirectional else 1
        shape = (self.num_layers * directions, x.shape[1], self.hidden_size)
        is_lstm = isinstance(self, nn.LSTM)
        if hx is None:
            zeros = torch.zeros(shape, dtype=x.dtype, device=x.device)
            hx = (zeros, torch.zeros_like(zeros)) if is_lstm else zeros
        given = (self._flat_weights, self.bias, self.num_layers, self.bidirectional)
        if is_lstm:
            y, *last = sequence_ops.lstm_of_lengths(x, lengths, *hx, *given)
            return PackedFrames(y, lengths), tuple(last)
        if isinstance(self, nn.GRU):
            y, state = sequence_ops.gru_of_lengths(x, lengths, hx, *given)
        else:
            relu = self.mode == "RNN_RELU"
            y, state = sequence_ops.rnn_of_lengths(x, lengths, hx, *given, relu)
        return PackedFrames(y, lengths), state

    return forward


@contextlib.contextmanager
def _apply(run: ModuleRun, log: Log) -> Iterator[None]:
    ours = {
        rnn.pack_padded_sequence: _pack(log, rnn.pack_padded_sequence),
        rnn.pad_packed_sequence: _pad(rnn.pad_packed_sequence),
    }
    names = [
        (owner, name, replacement)
        for own, replacement in ours.items()
        for owner, name in holders_of(own)
        if owner is not sequence_ops
    ]
    layers = [(kind, "forward", _layer(log, kind.forward)) for kind in (nn.LSTM, nn.GRU, nn.RNN)]
    with replaced_names([*names, *layers]):
        yield


def _matches(run: ModuleRun) -> bool:
    return any(isinstance(part, nn.RNNBase) for part in run.module.modules())


REPAIR = Repair(
    name="packed_sequence",
    replaces="packed rows are padded rows with their lengths (sequence_lens in the file)",
    strategy="padded rows with lengths in place of packed ones",
    matches=_matches,
    apply=_apply,
)
