"""``verify`` reads the file that it is given and writes beside it only; changed files are no
reference."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import onnx
import pytest

from exporter import cli
from exporter.core.errors import StageError
from exporter.graph import weights_on_disk
from exporter.report.advice import next_steps
from exporter.report.schema import Report, read_report
from tests.false_passes.project import write
from tests.false_passes.test_truth import SIZE
from tests.support import toy_project


def verify(yaml: Path, given: Path, out: Path) -> tuple[int, Report]:
    command = ["verify", str(yaml), "--onnx", str(given), "--output-dir", str(out), "--trust"]
    code = cli.main([*command, "--threads", "1", "--quiet"])
    return code, read_report(out / "verify" / "report.json")


@pytest.fixture
def project(tmp_path: Path) -> tuple[Path, Path]:
    """The YAML of the toy project, and the folder of its finished run."""
    yaml, out = toy_project.project(tmp_path / "toy"), tmp_path / "out"
    command = ["run", str(yaml), "--output-dir", str(out), "--trust", "--threads", "1"]
    assert cli.main([*command, "--quiet", "--golden-dir", str(tmp_path / "golden")]) == 0
    return yaml, out


def tampered(path: Path) -> None:
    """Another weight, the metadata kept, as a careless tool would write it."""
    model = onnx.load(path)
    toy_project.weaken(model, (32, 16), -1)
    onnx.save(model, path)


def test_a_certified_file_is_judged_and_left_alone(project: tuple[Path, Path], tmp_path: Path):
    yaml, out = project
    given = tmp_path / "given.onnx"
    shutil.copy(out / "model.onnx", given)
    before = given.read_bytes()
    code, report = verify(yaml, given, out)
    assert code == 0
    assert "as it was certified, with the verdict 'pass'" in report.notes
    assert given.read_bytes() == (out / "model.onnx").read_bytes() == before
    assert not (out / "verify" / "reference").exists()


def test_a_file_of_the_run_that_was_changed_is_no_reference_for_itself(
    project: tuple[Path, Path],
):
    yaml, out = project
    given = out / "model.onnx"
    tampered(given)
    before = given.read_bytes()
    code, report = verify(yaml, given, out)
    assert code == 1 and report.verdict == "fail"
    assert report.culprits[0].layer == "model.blocks.1.outer"
    assert any("changed after it was certified: the weights" in note for note in report.notes)
    assert report.structure, "the file differs from a fresh export in its weights"
    assert given.read_bytes() == before
    assert (out / "verify" / "reference" / "model.onnx").is_file()


def test_a_run_of_another_state_of_the_pipeline_is_not_written_over(project: tuple[Path, Path]):
    yaml, out = project
    given = out / "model.onnx"
    before = given.read_bytes()
    yaml.write_text(yaml.read_text().replace("minimum: 1", "minimum: 2"))
    _, report = verify(yaml, given, out)
    assert report.links
    assert given.read_bytes() == before
    assert (out / "report.json").is_file()


def test_the_advice_after_a_verify_without_a_run_works_as_it_is_pasted(
    project: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    yaml, out = project
    tampered(out / "model.onnx")
    code, report = verify(yaml, out / "model.onnx", tmp_path / "empty")
    assert code == 1 and not report.finished_run
    (step,) = [step for step in next_steps(report) if "debug" in step]
    assert f"--onnx {out / 'model.onnx'} --output-dir {tmp_path / 'empty'}" in step
    words = shlex.split(step.partition("export-verify ")[2])
    assert cli.main([*words, "--threads", "1"]) == 1
    assert "model.blocks.1.outer" in capsys.readouterr().out


def test_a_reference_that_cannot_be_made_leaves_a_report(
    project: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def broken(model: onnx.ModelProto) -> None:
        raise StageError("simplify", "onnxsim changed the outputs")

    monkeypatch.setattr(weights_on_disk, "simplify", broken)
    yaml, out = project
    code, report = verify(yaml, out / "model.onnx", tmp_path / "empty")
    assert code == 1 and report.verdict == "fail"
    assert report.stopped is not None and report.stopped.stage == "simplify"
    assert "stage 'simplify' stopped" in report.headline


def test_a_pass_says_which_sizes_it_is_for(tmp_path: Path):
    body = "y = self.mix(x)\n        return -y if x.shape[1] > 200 else y"
    code = SIZE.replace("BODY", body)
    yaml, out = write(tmp_path / "long", code), tmp_path / "out"
    command = ["run", str(yaml), "--output-dir", str(out), "--trust", "--threads", "1"]
    assert cli.main([*command, "--quiet"]) == 0
    _, report = verify(yaml, out / "model.onnx", out)
    assert report.takes == ["4 to 200 frames"] and "takes 4 to 200 frames only" in report.headline
