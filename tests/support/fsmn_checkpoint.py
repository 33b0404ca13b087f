"""Write a tiny FSMN-VAD checkpoint in exactly the format that FunASR publishes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml
from torch import nn

from exporter.models.fsmn_vad import Settings, upstream_encoder
from exporter.models.weights import seed_module
from exporter.speech.cmvn import seeded_cmvn
from tests.support.funasr_checkpoint import am_mvn_text

TINY: Mapping[str, Any] = {"fsmn_layers": 2, "linear_dim": 24, "proj_dim": 16, "output_dim": 12}


def write_fsmn_checkpoint(
    folder: Path, *, seed: int = 7, settings: Mapping[str, Any] = TINY, **changes: Any
) -> Path:
    """Write ``config.yaml``, ``model.pt`` and ``am.mvn``.

    Args:
        settings: as in a pipeline. changes: of sections of ``config.yaml``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sizes = Settings.model_validate(dict(settings))
    pipeline = SimpleNamespace(where=lambda *keys: ".".join(keys))
    named = nn.ModuleDict({"encoder": upstream_encoder(sizes, pipeline)})
    seed_module(named, seed)
    torch.save(dict(named.state_dict()), folder / "model.pt")
    statistics = seeded_cmvn(sizes.input_dim, seed)
    (folder / "am.mvn").write_text(am_mvn_text(*statistics), encoding="utf-8")
    config: dict[str, Any] = {
        "frontend": "WavFrontendOnline",
        "frontend_conf": {
            "fs": 16000,
            "window": "hamming",
            "n_mels": 80,
            "frame_length": 25,
            "frame_shift": 10,
            "dither": 0.0,
            "lfr_m": 5,
            "lfr_n": 1,
        },
        "model": "FsmnVADStreaming",
        "model_conf": {
            "sample_rate": 16000,
            "detect_mode": 1,
            "max_end_silence_time": 800,
            "speech_noise_thres": 0.6,
            "silence_pdf_num": 1,
            "sil_pdf_ids": [0],
        },
        "encoder": "FSMN",
        "encoder_conf": sizes.model_dump(exclude={"streaming", "sil_pdf_ids"}),
    }
    for section, change in changes.items():
        config[section] = {**config[section], **change} if isinstance(change, dict) else change
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder
