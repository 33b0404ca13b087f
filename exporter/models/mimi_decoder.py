"""Mimi's decoder: codec frames to a waveform, by moshi's own class or by transformers'.

``moshi.modules.SEANetDecoder`` as ``moshi.models.loaders`` builds it, or
``transformers.models.mimi.modeling_mimi.MimiDecoder``; at the published size 14,724,641 parameters,
960 samples at 24 kHz a frame. Equal weights give equal waveforms, bit by bit on the CPU.

Two graphs (``streaming``):

    false    z [batch, 512, frames]                 -> waveform [batch, 1, 960 frames]
    true     z and ten states [batch, C, k]         -> waveform, next states

The first is upstream's forward as it is. The second is for chunks; see ``mimi_stream``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field, Strict
from torch import Tensor, nn

from exporter.config import Pipeline
from exporter.config.section import Section
from exporter.core.tensors import Axis, TensorSpec
from exporter.models.built import Built
from exporter.models.mimi_checkpoint import CONFIG, check_config, read_decoder
from exporter.models.mimi_layers import by_moshi_names, convolutions
from exporter.models.mimi_stream import NEXT, StreamingMimiDecoder
from exporter.models.seeding import seed_weights
from exporter.models.settings import MOST_LAYERS, MOST_WIDTH, read_settings
from exporter.models.upstream import upstream_package
from exporter.models.weights import describe_weights, load_strictly, weights_of


class Settings(Section):
    """``model.settings``; the defaults are the published size. Names of sizes are moshi's."""

    implementation: Literal["moshi", "transformers"] = "moshi"
    streaming: bool = False
    dimension: int = Field(default=512, ge=1, le=MOST_WIDTH)
    n_filters: int = Field(default=64, ge=2, le=MOST_WIDTH)
    n_residual_layers: int = Field(default=1, ge=1, le=MOST_LAYERS)
    ratios: Annotated[tuple[Annotated[int, Field(ge=1, le=MOST_WIDTH)], ...], Strict(False)] = (
        Field(default=(8, 6, 5, 4), min_length=1, max_length=100)
    )
    kernel_size: int = Field(default=7, ge=1, le=MOST_WIDTH)
    residual_kernel_size: int = Field(default=3, ge=1, le=MOST_WIDTH)
    last_kernel_size: int = Field(default=3, ge=1, le=MOST_WIDTH)
    compress: int = Field(default=2, ge=1, le=MOST_WIDTH)
    dilation_base: int = Field(default=2, ge=1, le=MOST_WIDTH)


class OfflineMimiDecoder(nn.Module):
    """Upstream's forward with its result under a name.

    Args:
        upstream: a ``SEANetDecoder`` or a ``MimiDecoder``.
    """

    def __init__(self, upstream: Any) -> None:
        super().__init__()
        self.decoder: nn.Module = upstream

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        """Decode ``z [B, dimension, T]`` to ``waveform [B, 1, hop T]``."""
        return {"waveform": self.decoder(z)}


def build(pipeline: Pipeline) -> Built:
    """Build the decoder as a pipeline describes it.

    Raises:
        ConfigError: a setting is wrong, or contradicts the checkpoint.
        WeightsError: the checkpoint is missing or does not fit.
        MissingPackageError: moshi, or transformers, is not installed.
    """
    settings = read_settings(Settings, pipeline)
    source = weights_of(pipeline, files=True)
    decoder = upstream_decoder(settings)
    named = by_moshi_names(decoder)
    if source.folder is None:
        seed_weights(named, pipeline.model.seed)
    else:
        check_config(source.folder, settings.model_dump(), pipeline)
        state, file = read_decoder(source.folder, transformers_names(decoder))
        load_strictly(named, state, where=str(file))
    module = StreamingMimiDecoder(decoder) if settings.streaming else OfflineMimiDecoder(decoder)
    module.eval().requires_grad_(False)
    return Built(
        module=module,
        takes="tensors",
        inputs=(_frames(settings), *_states(module, "")),
        outputs=(_waveform(pipeline.sample_rate_hz), *_states(module, NEXT)),
        weights=describe_weights(named, source),
    )


def upstream_decoder(settings: Settings) -> Any:
    """Return the decoder of either package, with weights that mean nothing yet.

    Raises:
        MissingPackageError: the package is not installed.
    """
    make = {"moshi": _moshi, "transformers": _transformers}[settings.implementation]
    # Not on the meta device: transformers computes sizes of paddings as tensors when it is built.
    with torch.random.fork_rng(devices=[]):
        return make(settings)


def _moshi(settings: Settings) -> Any:
    with upstream_package("implementation 'moshi'", "moshi", "scripts/install-upstream moshi"):
        from moshi.modules.seanet import SEANetDecoder
    sizes = settings.model_dump(exclude={"implementation", "streaming", "ratios"})
    return SEANetDecoder(
        channels=1,
        causal=True,
        activation="ELU",
        disable_norm_outer_blocks=0,
        norm="none",
        pad_mode="constant",
        ratios=list(settings.ratios),
        true_skip=True,
        **sizes,
    )


def _transformers(settings: Settings) -> Any:
    install = "scripts/install-upstream transformers"
    with upstream_package("implementation 'transformers'", "transformers", install):
        from transformers import MimiConfig
        from transformers.models.mimi.modeling_mimi import MimiDecoder
    sizes = settings.model_dump(mode="json")  # ratios as a list
    return MimiDecoder(MimiConfig(**{theirs: sizes[ours] for theirs, ours in CONFIG.items()}))


def transformers_names(decoder: Any) -> dict[str, str]:
    """transformers' name of every tensor of either decoder -> moshi's."""
    names = {}
    for item in convolutions(decoder):
        _, *around, _, _ = item.name.split(".")
        short = ".".join(["layers", *around, "conv"])
        for tensor, _ in item.inner.named_parameters():
            names[f"{short}.{tensor}"] = f"{item.name}.{tensor}"
    return names


_BATCH = Axis(name="batch", minimum=1)


def _frames(settings: Settings) -> TensorSpec:
    frames = Axis(name="frames", minimum=1)
    unit = "codec frames behind the decoder's transformer and upsampling"
    return TensorSpec.of("z", "float32", _BATCH, settings.dimension, frames, unit=unit)


def _waveform(sample_rate_hz: int) -> TensorSpec:
    samples = Axis(name="num_samples", minimum=1)
    unit = f"samples at {sample_rate_hz} Hz"
    return TensorSpec.of("waveform", "float32", _BATCH, 1, samples, unit=unit)


def _states(module: nn.Module, prefix: str) -> tuple[TensorSpec, ...]:
    if not isinstance(module, StreamingMimiDecoder):
        return ()
    return tuple(
        TensorSpec.of(
            prefix + item.state,
            "float32",
            *(_BATCH, item.channels, item.carried),
            initial=None if prefix else 0.0,
            unit=f"carried by {item.name.rpartition('.')[0]}; zeros before the first chunk",
        )
        for item in module.states
    )
