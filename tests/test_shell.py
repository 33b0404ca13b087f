"""What a shell does with the program: pipes that close, and the runner beside a shipped file."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.build.runner_script import write_runner
from exporter.config.inputs import Case, Draw
from exporter.core.tensors import Axis, TensorSpec
from exporter.flows.judge import rejudge
from exporter.report.headline import headline_of
from exporter.report.schema import write_report
from tests.support.reports import layer_fail, passed

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(("report", "code"), [(passed(), 0), (layer_fail(), 1)])
def test_a_closed_pipe_is_no_failure_and_the_exit_code_is_the_verdicts(report, code, tmp_path):
    report = report.model_copy(update={"artifacts": []})
    write_report(report, tmp_path / "report.json")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "exporter", "judge", str(tmp_path), "--format", "json"],
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        text=True,
        check=False,
    )
    os.close(writer)
    assert done.returncode == code, done.stderr
    assert done.stderr == ""


def test_judging_again_counts_contracts_in_the_headline():
    report = passed()
    kept = sum(held.verdict == "pass" for held in report.contracts)
    report = report.model_copy(update={"headline": headline_of(report)})
    again = rejudge(report, factor=report.policy.factor * 2)
    assert kept and f"{kept} contract checks pass" in again.headline


def runner(folder: Path, inputs: dict) -> str:
    specs = (
        TensorSpec.of("waveform", "float32", Axis(name="num_samples")),
        TensorSpec.of("language", "int64", choices={"auto": 0, "zh": 3, "en": 4}),
    )
    names = ("segments", "token_ids", "token_lengths")
    draws = {"waveform": Draw(kind="silence")}
    default = Case(name="english", random=draws, inputs=inputs)
    assert write_runner(folder, specs, names, 16000, None, default) == ["run_model.py"]
    return (folder / "run_model.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("given", "number"), [({"language": "en"}, 4), ({"language": 3}, 3), ({}, 0)]
)
def test_the_runner_takes_the_prompts_of_the_reports_case(tmp_path, given, number):
    text = runner(tmp_path, given)
    assert f'"language": np.array({number}, dtype="int64")' in text
    assert "english" in str(ast.get_docstring(ast.parse(text)))


def test_the_runner_without_arguments_says_how_it_is_used(tmp_path):
    runner(tmp_path, {})
    done = subprocess.run(
        [sys.executable, "run_model.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "Usage: python run_model.py recording.wav" in done.stderr
    assert "Traceback" not in done.stderr
