"""The worker's judgement on a real program: what was served against PyTorch, and who moved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporter.cases.audio import read_waveform
from exporter.flows.monitor import shadow_judge
from exporter.monitor.log import read_log
from exporter.monitor.shadow import DOOR, MOVED, ROUNDING, SAME, Worker
from exporter.monitor.spool import RESULTS, Spool
from exporter.runtime import SpeechRunner

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_an_honest_answer_agrees_and_another_is_the_services_doing(tmp_path: Path, tiny_run):
    wave = read_waveform(ROOT / "golden" / "audio" / "english.wav", 16000)[:40000]
    inputs = {"waveform": wave, "language": np.array(4), "text_norm": np.array(15)}
    outputs = SpeechRunner(tiny_run.model_path, threads=1).run_arrays(inputs)
    other = {**outputs, "token_ids": outputs["token_ids"].copy()}
    other["token_ids"][0, 0] += 1
    spool = Spool(tmp_path)
    spool.add(inputs, outputs)
    spool.add(inputs, other)
    Worker(tmp_path, shadow_judge(tmp_path, tiny_run.folder)).work(once=True)
    honest, wrong = read_log(tmp_path / RESULTS, DOOR)
    assert honest["state"] in (SAME, ROUNDING) and honest["strain"] < 1
    assert honest["margin"] > 0 and 0 < honest["commonest"] <= 1
    assert wrong["state"] == MOVED and wrong["first_layer"] is None
    assert "token_ids" in wrong["reason"] and "provider" in wrong["advice"]
