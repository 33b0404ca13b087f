"""Small Mimi decoders, ways to break one layer of them, and checkpoints in both formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from exporter.config import load_pipeline
from exporter.models.mimi_decoder import Settings, transformers_names, upstream_decoder
from exporter.models.mimi_layers import by_moshi_names, layers_of
from exporter.models.seeding import seed_weights

PIPELINES = Path(__file__).parents[2] / "pipelines"
TINY: dict[str, Any] = {"n_filters": 8}
LONG = 64
"""Steps from which on the stand-in for cuDNN is coarse."""


def pipeline(*, weights: str = "seeded", name: str = "mimi_decoder_tiny", **settings: Any) -> Any:
    """A tiny pipeline with other settings or weights."""
    found = load_pipeline(PIPELINES / f"{name}.yaml").with_weights(weights)
    model = found.model.model_copy(update={"settings": {**found.model.settings, **settings}})
    return found.model_copy(update={"model": model})


def write_kyutai(folder: Path, *, seed: int = 7, dtype: torch.dtype = torch.float32) -> Path:
    """kyutai's layout: the codec beside a language model that is called model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {f"decoder.{name}": tensor for name, tensor in seeded(seed).items()}
    state["encoder.model.0.conv.conv.weight"] = torch.ones(8, 1, 7)
    state["upsample.convtr.convtr.convtr.weight"] = torch.ones(512, 1, 4)
    save_file({name: tensor.to(dtype) for name, tensor in state.items()},
              folder / "tokenizer-0a1b2c3d-checkpoint125.safetensors")  # fmt: skip
    save_file({"text_emb.weight": torch.ones(4, 4)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "moshi", "dim": 4096}))
    return folder


def write_transformers(folder: Path, *, seed: int = 7, **config: Any) -> Path:
    """transformers' layout of the whole codec."""
    folder.mkdir(parents=True, exist_ok=True)
    decoder = upstream_decoder(Settings(implementation="transformers", **TINY))
    theirs = {moshi: name for name, moshi in transformers_names(decoder).items()}
    state = {f"decoder.{theirs[name]}": tensor for name, tensor in seeded(seed).items()}
    state["encoder.layers.0.conv.weight"] = torch.ones(8, 1, 7)
    state["decoder_transformer.layers.0.mlp.fc1.weight"] = torch.ones(4, 4)
    save_file(state, folder / "model.safetensors")
    stated = {"model_type": "mimi", "num_filters": 8, "hidden_size": 512, "use_causal_conv": True,
              "upsampling_ratios": [8, 6, 5, 4], "sampling_rate": 24000, **config}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(stated))
    return folder


def seeded(seed: int) -> dict[str, Tensor]:
    """A tiny decoder's tensors by moshi's names."""
    named = by_moshi_names(upstream_decoder(Settings(implementation="transformers", **TINY)))
    seed_weights(named, seed)
    return dict(named.state_dict())


class Symmetric(nn.Module):
    """moshi's convolution with half of its padding on the right."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.conv = layer.conv

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv.conv
        total = (inner.kernel_size[0] - 1) * inner.dilation[0]
        return self.conv(nn.functional.pad(x, (total - total // 2, total // 2)))


class TrimmedLeft(nn.Module):
    """moshi's transposed convolution, trimmed on the left: everything comes too early."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.convtr = layer.convtr

    def forward(self, x: Tensor) -> Tensor:
        inner = self.convtr.convtr
        return self.convtr(x)[..., inner.kernel_size[0] - inner.stride[0] :]


class CoarseConv(nn.Conv1d):
    """A backend that rounds operands to TF32 where an input is long enough for it to pay."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] < LONG:
            return super().forward(x)
        weight = to_tf32(self.weight)
        return nn.functional.conv1d(to_tf32(x), weight, self.bias, self.stride, 0, self.dilation)


class CoarseConvTranspose(nn.ConvTranspose1d):
    """The same for a transposed convolution."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        if x.shape[-1] < LONG:
            return super().forward(x)
        return nn.functional.conv_transpose1d(
            to_tf32(x), to_tf32(self.weight), self.bias, self.stride
        )


def to_tf32(value: Tensor) -> Tensor:
    """Ten bits of mantissa, rounded to nearest, with the gradient of a copy; wider types stay."""
    if value.dtype != torch.float32:
        return value
    bits = value.detach().contiguous().view(torch.int32)
    return value + (((bits + 0x1000) & ~0x1FFF).view(torch.float32) - value.detach())


def pad_symmetrically(decoder: Any) -> str:
    """Break the padding of one residual block; returns the module's path in the decoder."""
    block: Any = layers_of(decoder)[6].get_submodule("block")
    if hasattr(decoder, "model"):
        block[1] = Symmetric(block[1])
        return "model.6.block.1"
    block[1].causal = False
    return "layers.6.block.1"


def trim_wrongly(decoder: Any) -> str:
    """Trim one transposed convolution on the left; returns the module's path in the decoder."""
    if hasattr(decoder, "model"):
        decoder.model[5] = TrimmedLeft(decoder.model[5])
        return "model.5"
    layer = decoder.layers[5]
    layer.padding_left, layer.padding_right = layer.padding_right, layer.padding_left
    return "layers.5"


def round_when_long(decoder: Any) -> None:
    """Let every convolution choose its algorithm by length."""
    for part in decoder.modules():
        if type(part) is nn.Conv1d:
            part.__class__ = CoarseConv
        elif type(part) is nn.ConvTranspose1d:
            part.__class__ = CoarseConvTranspose
