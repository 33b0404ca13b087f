"""Silero VAD as it was got wrong: context dropped, state kept between files, other weights."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from exporter.models.silero_vad import SileroVadModel


def package_file(name: str) -> Path:
    """A file among the data of the installed silero-vad package."""
    spec = find_spec("silero_vad")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "data" / name


def other_weights(wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of ``silero_vad_16k.safetensors`` by the names of our network."""
    renamed = {
        "stft_conv.weight": "stft.weight",
        "lstm_cell.weight_ih": "lstm.weight_ih_l0",
        "lstm_cell.weight_hh": "lstm.weight_hh_l0",
        "lstm_cell.bias_ih": "lstm.bias_ih_l0",
        "lstm_cell.bias_hh": "lstm.bias_hh_l0",
        "final_conv.weight": "head.weight",
        "final_conv.bias": "head.bias",
        **{
            f"conv{layer + 1}.{part}": f"encoder.{2 * layer}.{part}"
            for layer in range(4)
            for part in ("weight", "bias")
        },
    }
    held = load_file(package_file("silero_vad_16k.safetensors"))
    return {new: held[old].reshape(wanted[new].shape) for old, new in renamed.items()}


def without_inner_context(network: nn.Module) -> None:
    """Only the first frame of a call keeps the samples before it."""

    def hook(_module: nn.Module, args: Any) -> Any:
        frames, context, h, c = args
        return frames, torch.cat([context[:1], torch.zeros_like(context[1:])]), h, c

    network.register_forward_pre_hook(hook)


class ForgetsContext(nn.Module):
    """A stream that hands over the LSTM's state, and zeros for the samples before (issue 771)."""

    def __init__(self, model: SileroVadModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveform: Tensor, state: Tensor, context: Tensor) -> dict[str, Tensor]:
        found = self.model(waveform, state, context)
        return {**found, "next_context": torch.zeros_like(found["next_context"])}


class KeepsItsState(nn.Module):
    """Takes a waveform alone and keeps the state of the call before in itself."""

    def __init__(self, model: SileroVadModel, *, reset: bool) -> None:
        super().__init__()
        self.model = model
        self.reset = reset
        samples = model.network.context_samples
        self.register_buffer("state", torch.zeros(2, 1, 128), persistent=False)
        self.register_buffer("context", torch.zeros(samples), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        if self.reset:
            self.state, self.context = torch.zeros(2, 1, 128), torch.zeros(len(self.context))
        found = self.model(waveform, self.state, self.context)
        self.state, self.context = found["next_state"], found["next_context"]
        return found["speech_probs"]
