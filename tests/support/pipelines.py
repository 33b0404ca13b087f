"""Pipelines for tests that do not read YAML."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

TINY: dict[str, Any] = {"num_blocks": 2, "tp_blocks": 1, "vocab_size": 300}
TINY_PARAFORMER: dict[str, Any] = {
    "num_blocks": 3,
    "decoder_num_blocks": 3,
    "decoder_att_layer_num": 2,
    "vocab_size": 300,
}
ALL_OUTPUTS = ("logits", "logit_lengths", "segments", "speech_probs", "token_ids", "token_lengths")


def sensevoice(
    *,
    weights: str = "seeded",
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    outputs: tuple[str, ...] = ALL_OUTPUTS,
    vad: bool = True,
    **vad_settings: Any,
) -> Any:
    """Return what ``exporter.models`` and ``exporter.graph.wrap`` read of a pipeline."""
    silero = {
        "threshold": 0.5,
        "negative_threshold": 0.35,
        "min_speech_ms": 250,
        "min_silence_ms": 100,
        "speech_pad_ms": 30,
        "max_segment_ms": 30000,
        "round_to_ms": True,
        **vad_settings,
    }
    return SimpleNamespace(
        file_alone=None,
        name="tiny",
        model=SimpleNamespace(
            kind="sensevoice",
            weights=weights,
            seed=seed,
            settings=TINY if settings is None else settings,
        ),
        sample_rate_hz=16000,
        vad=SimpleNamespace(**silero) if vad else None,
        features=SimpleNamespace(
            num_mels=80, frame_length_ms=25, frame_shift_ms=10, window="hamming", lfr_m=7, lfr_n=6
        ),
        outputs=outputs,
        states={},
        cases=(),
        where=lambda *keys: "tiny.yaml:1: " + ".".join(keys),
    )


def paraformer(
    *,
    weights: str = "seeded",
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    outputs: tuple[str, ...] = ALL_OUTPUTS,
    vad: bool = True,
    **vad_settings: Any,
) -> Any:
    """The same front end around a tiny Paraformer."""
    pipeline = sensevoice(weights=weights, seed=seed, outputs=outputs, vad=vad, **vad_settings)
    pipeline.model.kind = "paraformer"
    pipeline.model.settings = TINY_PARAFORMER if settings is None else settings
    return pipeline
