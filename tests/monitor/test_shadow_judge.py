"""The worker's judgement on a real program: what was served against PyTorch, and who moved."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from exporter.cases.audio import read_waveform
from exporter.core.errors import UserInputError
from exporter.core.files import write_text
from exporter.flows.monitor import shadow_judge
from exporter.golden.outcome import CaseOutcome, State
from exporter.golden.record import CaseJudgement
from exporter.golden.values import GoldenCase, GoldenOutput
from exporter.monitor.log import read_log
from exporter.monitor.shadow import (
    AMBIGUOUS,
    DOOR,
    MOVED,
    NOT_RUN,
    ROUNDING,
    SAME,
    Worker,
    judge_request,
)
from exporter.monitor.spool import RESULTS, SERVICE, Request, Spool
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
    judge = shadow_judge(tmp_path, tiny_run.folder, tiny_run.model_path)
    Worker(tmp_path, judge).work(once=True)
    honest, wrong = read_log(tmp_path / RESULTS, DOOR)
    assert honest["state"] in (SAME, ROUNDING) and honest["strain"] < 1
    assert honest["margin"] > 0 and 0 < honest["commonest"] <= 1
    assert wrong["state"] == MOVED and wrong["first_layer"] is None
    assert "token_ids" in wrong["reason"] and "provider" in wrong["advice"]


@pytest.mark.slow
def test_the_file_that_is_judged_is_the_served_one_whatever_lies_beside_the_program(
    tmp_path: Path, tiny_run
):
    wave = read_waveform(ROOT / "golden" / "audio" / "english.wav", 16000)[:40000]
    inputs = {"waveform": wave, "language": np.array(4), "text_norm": np.array(15)}
    served = tmp_path / "served.onnx"
    model = onnx.load(tiny_run.model_path)
    weight = max(model.graph.initializer, key=lambda held: held.ByteSize())
    array = onnx.numpy_helper.to_array(weight) * np.float32(1.01)
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    onnx.save(model, served)
    spool = Spool(tmp_path / "spool")
    write_text(spool.folder / SERVICE, json.dumps({"model": str(served)}))
    spool.add(inputs, SpeechRunner(served, threads=1).run_arrays(inputs))
    Worker(spool.folder, shadow_judge(spool.folder, tiny_run.folder)).work(once=True)
    (row,) = read_log(spool.folder / RESULTS, DOOR)
    assert row["state"] == MOVED and row["first_layer"]


def test_a_served_file_that_is_elsewhere_is_not_replaced_by_another(tmp_path: Path):
    spool = Spool(tmp_path / "spool")
    write_text(spool.folder / SERVICE, json.dumps({"model": str(tmp_path / "gone.onnx")}))
    (tmp_path / "model.onnx").write_bytes(b"another")
    with pytest.raises(UserInputError, match="the served file is not here") as refused:
        shadow_judge(spool.folder, tmp_path)
    assert "--onnx" in refused.value.remedy


class Judges:
    """A recorder that has judged already."""

    def __init__(self, state: State, file: np.ndarray, scores: np.ndarray):
        outputs = {"token_ids": TOKENS, "scores": SCORES}
        golden = GoldenCase(
            name="c",
            origin="served",
            inputs={},
            expect_empty=(),
            outputs=tuple(
                GoldenOutput(
                    name=name,
                    dtype=value.dtype.name,
                    shape=value.shape,
                    values=value,
                    limit_max=1e-3,
                    limit_rms=1e-3,
                    witness=b"",
                )
                for name, value in outputs.items()
            ),
            taps=(),
        )
        self._judgement = CaseJudgement(
            golden=golden,
            outcome=CaseOutcome(case="c", state=state, reason="because"),
            outputs={"token_ids": file, "scores": scores},
            margin=None,
            commonest=None,
        )

    def judge(self, case: object) -> CaseJudgement:
        return self._judgement


TOKENS, OTHER = np.array([[1, 2]]), np.array([[1, 3]])
SCORES = np.array([0.5, 0.25], np.float32)
FURTHER = SCORES + np.float32(0.1)


@pytest.mark.parametrize(
    ("file", "tokens", "scores", "state"),
    [
        (State.AMBIGUOUS, OTHER, FURTHER, AMBIGUOUS),  # as the file here
        (State.AMBIGUOUS, TOKENS, SCORES, AMBIGUOUS),  # as PyTorch
        (State.AMBIGUOUS, np.array([[7, 3]]), FURTHER, MOVED),  # a third thing
        (State.AMBIGUOUS, OTHER, SCORES + np.float32(0.3), MOVED),
        (State.AMBIGUOUS, OTHER, FURTHER + np.float32(5e-4), AMBIGUOUS),
        (State.AMBIGUOUS, OTHER[:, :1], FURTHER, MOVED),
        (State.AMBIGUOUS, OTHER, FURTHER * np.float32(np.nan), MOVED),
        (State.MISSING, TOKENS, SCORES, NOT_RUN),
        (State.MISSING, np.array([[7, 2]]), SCORES, MOVED),
        (State.WITHIN_ROUNDING, OTHER, SCORES, MOVED),
        (State.WITHIN_ROUNDING, TOKENS, SCORES, SAME),
        (State.MOVED, TOKENS, SCORES, MOVED),
    ],
)
def test_the_worst_of_the_file_and_of_what_was_served_counts(
    file: State, tokens: np.ndarray, scores: np.ndarray, state: str
):
    unsure = file is State.AMBIGUOUS
    recorder = Judges(file, OTHER if unsure else TOKENS, FURTHER if unsure else SCORES)
    request = Request(name="r", inputs={}, outputs={"token_ids": tokens, "scores": scores})
    assert judge_request(recorder, request).state == state
