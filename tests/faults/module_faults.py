"""Faults in the module before it is exported; the reference is always the clean module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exporter.speech.fbank import KaldiFbank
from exporter.speech.vad import SileroVad
from tests.faults.fault import ModuleFault


def module_preemphasis_of_095(module: nn.Module) -> None:
    """The filter bank is built with pre-emphasis 0.95."""
    module.fbank = KaldiFbank(preemphasis=0.95).eval()


def module_weight_in_float16(module: nn.Module) -> None:
    """One layer was loaded from a checkpoint in float16."""
    weight = module.get_parameter("model.encoder.encoders.0.feed_forward.w_1.weight")
    weight.data.copy_(weight.data.half())


def module_dropout_in_training(module: nn.Module) -> None:
    """One dropout layer was left in training mode."""
    module.get_submodule("model.encoder.encoders.0.feed_forward.dropout").train()


def module_keeps_lstm_state(module: nn.Module) -> None:
    """The VAD keeps its LSTM's state from one recording to the next."""
    module.vad = _Remembering(module.vad.network)


class _Remembering(SileroVad):
    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.register_buffer("h", torch.zeros(1, 1, 128))
        self.eval()

    def forward(self, waveform: Tensor) -> Tensor:
        probabilities = super().forward(waveform)
        self.h.add_(probabilities.mean())
        return probabilities + 0 * self.h.sum()


MODULE_FAULTS = (
    ModuleFault(change=module_preemphasis_of_095, layers=("fbank",)),
    ModuleFault(
        change=module_weight_in_float16, layers=("model.encoder.encoders.0.feed_forward.w_1",)
    ),
    ModuleFault(
        change=module_dropout_in_training,
        layers=("model.encoder.encoders.0.feed_forward.dropout",),
        refused=True,
    ),
    ModuleFault(change=module_keeps_lstm_state, layers=("vad",), refused=True),
)
