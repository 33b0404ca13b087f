"""Healthy files of every kind that is read, small, made once: what mutations begin with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
TOY, RUN, GOLDEN, TENSORS, AUDIO = "toy", "run", "golden", "tensors", "audio"
ARRAYS, MONITOR = "arrays", "monitor"
_DONE = "done.2.json"


def make_corpus(folder: Path) -> Path:
    """Write the corpus below ``folder``, or take the one that lies there; 30 s when it is new.

    toy/        toy.yaml, toy_model.py; run/ a finished run of it; golden/toy its golden
    monitor/    the golden again, with what a service needs beside it
    tensors/    weights of the toy, as .safetensors and .pt
    sensevoice/ fsmn/ paraformer/ mimi/ metavoice/   checkpoints, with a pipeline.yaml each
    audio/      mono.wav, mono.flac
    arrays/     x.npy, x.npz, x.safetensors, x.ark, text.ark, packed.ark: inputs of the toy
    """
    if (folder / _DONE).is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _toy(folder / TOY)
    _tensors(folder)
    _checkpoints(folder)
    _audio(folder / AUDIO)
    _arrays(folder / ARRAYS)
    (folder / _DONE).write_text(json.dumps({"made": True}))
    return folder


def _toy(folder: Path) -> None:
    from tests.support.toy_project import project

    project(folder)
    toy = ["toy.yaml", "--trust", "--output-dir", RUN, "-q"]
    _command(folder, "run", *toy)
    recorded = ["--from-run", "--reason", "fuzz", "--golden-dir", GOLDEN]
    _command(folder, "golden", "record", *toy, *recorded)
    monitor = folder.parent / MONITOR
    shutil.copytree(folder / GOLDEN, monitor)
    _command(folder, "monitor", "record", *toy[:-1], "--golden-dir", str(monitor))
    # Two megabytes of scripts in it; it is written, never read.
    (folder / RUN / "report.html").unlink()


def _command(folder: Path, *words: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "exporter", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "EXPORT_VERIFY_CACHE": "off"},
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _tensors(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    to = folder / TENSORS
    to.mkdir()
    sys.path.insert(0, str(folder / TOY))
    try:
        import toy_model  # type: ignore[import-not-found]

        state = toy_model.build().state_dict()
    finally:
        sys.path.remove(str(folder / TOY))
        # Another folder's model of that name is not this one.
        sys.modules.pop("toy_model", None)
    save_file(state, to / "toy.safetensors")
    torch.save(state, to / "toy.pt")
    torch.save(state, to / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": state, "epoch": 3}, to / "nested.pt")


def _checkpoints(folder: Path) -> None:
    from tests.support import funasr_checkpoint, metavoice, mimi, paraformer_checkpoint
    from tests.support.fsmn_checkpoint import TINY, write_fsmn_checkpoint

    funasr_checkpoint.write_checkpoint(folder / "sensevoice")
    _pipeline(folder / "sensevoice", "sensevoice_tiny", **funasr_checkpoint.TINY_SETTINGS)
    paraformer_checkpoint.write_checkpoint(folder / "paraformer")
    _pipeline(folder / "paraformer", "paraformer_tiny", **paraformer_checkpoint.TINY_PARAFORMER)
    write_fsmn_checkpoint(folder / "fsmn", settings={**TINY, "fsmn_layers": 4})
    _pipeline(folder / "fsmn", "fsmn_vad_tiny", **{**TINY, "fsmn_layers": 4})
    mimi.write_kyutai(folder / "mimi")
    _pipeline(folder / "mimi", "mimi_decoder_tiny")
    mimi.write_transformers(folder / "mimi_theirs")
    _pipeline(folder / "mimi_theirs", "mimi_decoder_tiny", implementation="transformers")
    _metavoice(folder / "metavoice", metavoice)


def _metavoice(folder: Path, support: Any) -> None:
    from exporter.models.metavoice import Settings

    folder.mkdir()
    settings = Settings.model_validate(support.TINY)
    file = folder / "first_stage.pt"
    support.write_checkpoint(file, support.tiny(), settings)
    _pipeline(folder, "metavoice_tiny", **support.TINY)


def _pipeline(folder: Path, extends: str, **settings: Any) -> None:
    text = f"extends: {ROOT / 'pipelines' / extends}.yaml\nname: fuzzed\n"
    text += f"model: {{weights: '.', settings: {json.dumps(settings)}}}\n"
    (folder / "pipeline.yaml").write_text(text)


def _audio(folder: Path) -> None:
    import soundfile

    folder.mkdir()
    samples = np.random.default_rng(0).normal(size=1600).astype(np.float32) / 10
    soundfile.write(folder / "mono.wav", samples, 16000, subtype="PCM_16")
    soundfile.write(folder / "mono.flac", samples, 16000)
    soundfile.write(folder / "float.wav", samples, 16000, subtype="FLOAT")


def _arrays(folder: Path) -> None:
    import kaldiio
    from safetensors.numpy import save_file

    folder.mkdir()
    frames = np.random.default_rng(1).normal(size=(20, 16)).astype(np.float32)
    np.save(folder / "x.npy", frames[None])
    np.savez_compressed(folder / "x.npz", x=frames[None], other=np.arange(4))
    save_file({"x": frames[None], "other": frames}, folder / "x.safetensors")
    held = {"x": frames, "other": frames[:3], "one": frames[0]}
    kaldiio.save_ark(str(folder / "x.ark"), held)
    kaldiio.save_ark(str(folder / "text.ark"), {"x": frames, "other": frames}, text=True)
    kaldiio.save_ark(str(folder / "packed.ark"), {"x": frames}, compression_method=2)
