"""``run_model.py``: what a user of the shipped file starts from, written beside it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from exporter.tensors import TensorSpec

_SPEECH = '''"""Usage: python run_model.py recording.wav"""
import json, os, sys
import numpy as np, onnxruntime, soundfile

here = os.path.dirname(os.path.abspath(__file__))
session = onnxruntime.InferenceSession(os.path.join(here, "model.onnx"), providers=["CPUExecutionProvider"])
waveform, rate = soundfile.read(sys.argv[1], dtype="float32")
assert waveform.ndim == 1 and rate == {rate}, "the model takes mono at {rate} Hz"
inputs = {{"waveform": waveform, {prompts}}}
outputs = dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs)))
table = os.path.join(here, "tokens.json")
text = json.load(open(table, encoding="utf-8")) if os.path.exists(table) else None
for (start, end), ids, n in zip(outputs["segments"], outputs["token_ids"], outputs["token_lengths"]):
    tokens = ids[:n].tolist()
    print(f"{{start / rate:.3f}} - {{end / rate:.3f}}:", "".join(text[i] for i in tokens) if text else tokens)
'''


def write_runner(
    folder: Path,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[str, ...],
    sample_rate_hz: int,
    tokens: tuple[str, ...] | None,
) -> list[str]:
    """Write ``tokens.json`` (if there is a table) and, for a speech graph, ``run_model.py``.

    Returns the names of the files written.
    """
    written = []
    if tokens is not None:
        _write(folder / "tokens.json", json.dumps(list(tokens), ensure_ascii=False))
        written.append("tokens.json")
    if inputs[0].name == "waveform" and {"segments", "token_ids", "token_lengths"} <= set(outputs):
        prompts = ", ".join(
            f'"{spec.name}": np.array({next(iter(spec.choices.values()))})'
            for spec in inputs[1:]
            if spec.choices
        )
        _write(folder / "run_model.py", _SPEECH.format(rate=sample_rate_hz, prompts=prompts))
        written.append("run_model.py")
    return written


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
