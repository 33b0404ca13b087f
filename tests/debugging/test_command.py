"""``export-verify debug`` as a user runs it."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from exporter import cli
from exporter.core.artifact import sha256_of
from exporter.debugging.pair import Pair
from exporter.report.comparison import CulpritRecord
from exporter.report.schema import read_report
from tests.debugging.conftest import Tamper
from tests.support.tiny_run import TINY, TinyRun

NORM = "model.encoder.encoders0.0.norm1"
RELU = "model.encoder.encoders.0.feed_forward.activation"


@pytest.fixture
def debug(tiny_run: TinyRun, tmp_path: Path):
    def run(*arguments: object, folder: Path | None = None) -> int:
        given = ["debug", str(TINY), "--output-dir", str(folder or tiny_run.folder)]
        given += ["--threads", "1", "--bundles", str(tmp_path / "bundles")]
        return cli.main([*given, *(str(a) for a in arguments)])

    return run


@pytest.fixture
def two_faults(tamper: Tamper, tmp_path: Path) -> Path:
    path = tmp_path / "tampered.onnx"
    onnx.save(tamper("relu_removed", "epsilon_of_the_first_norm"), str(path))
    return path


def test_a_clean_run_has_no_culprit_and_exits_0(debug, capsys):
    assert debug() == 0
    assert "No culprit" in capsys.readouterr().out


def test_a_clean_layer_is_shown_op_by_op_and_exits_0(debug, capsys, tmp_path):
    assert debug("--layer", NORM) == 0
    printed = capsys.readouterr().out
    assert "nothing is wrong with this layer" in printed
    assert "op by op" in printed
    assert "variations" in printed
    assert (tmp_path / "bundles" / NORM / "repro.py").is_file()


def test_all_names_both_faults(debug, capsys, two_faults, tmp_path):
    assert debug("--onnx", two_faults, "--all") == 1
    printed = capsys.readouterr().out
    assert "epsilon" in printed
    assert "Relu" in printed
    assert {p.name for p in (tmp_path / "bundles").iterdir()} == {NORM, RELU}


def test_without_all_the_first_is_taken_apart_and_the_others_are_counted(
    debug, capsys, two_faults, tmp_path
):
    assert debug("--onnx", two_faults) == 1
    printed = capsys.readouterr().out
    assert "1 more culprit(s)" in printed
    assert [p.name for p in (tmp_path / "bundles").iterdir()] == [NORM]


def test_a_layer_of_a_tampered_file_that_is_clean_itself_points_upstream(debug, capsys, two_faults):
    assert debug("--onnx", two_faults, "--layer", "model.encoder.tp_norm", "--quiet") == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "look upstream at" in printed
    assert NORM in printed


def test_issue_prints_markdown_alone(debug, capsys, two_faults):
    assert debug("--onnx", two_faults, "--issue") == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("# ")
    assert "### To reproduce" in printed.out
    assert printed.err == ""


def test_the_first_culprit_of_the_last_run_is_taken_apart(
    debug, capsys, folder_of, tamper: Tamper, pair: Pair, tmp_path: Path
):
    folder = folder_of(model_onnx=tamper("cmvn_divides_by_variance").SerializeToString())
    report = read_report(folder / "report.json")
    tap = next(t.tap for t in pair.planned if t.tap.module == "cmvn")
    culprit = CulpritRecord(
        link="layers: captured -> simplified",
        stage="simplify",
        layer="cmvn",
        op=tap.op,
        tap=tap.name,
        source=tap.source,
        case="english",
        local_error=1.0,
        propagated_error=1.0,
        ratio=None,
        limit=None,
        who="onnx",
        reason="too far",
    )
    digest = sha256_of(folder / "model.onnx")
    artifacts = [
        a.model_copy(update={"sha256": digest}) if a.name == "model.onnx" else a
        for a in report.artifacts
    ]
    changed = report.model_copy(update={"culprits": [culprit], "artifacts": artifacts})
    (folder / "report.json").unlink()
    (folder / "report.json").write_text(changed.model_dump_json())
    assert debug(folder=folder) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "weight 'cmvn.scale'" in printed
    assert (tmp_path / "bundles" / "cmvn" / "README.md").is_file()
