"""What a person sees first when a run has failed says what is wrong and what to do, by itself.

Every report here is of a command that really ran and really failed.
"""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from exporter import cli
from exporter.core.errors import ArtifactError, StageError
from exporter.execution.onnx_runs import FileRun
from exporter.golden.store import write_golden
from exporter.graph import weights_on_disk
from exporter.graph.certificate import check_certificate
from exporter.graph.simplify import Simplified
from exporter.report.advice import next_steps
from exporter.report.schema import Report, read_report
from tests.golden import made
from tests.golden.test_check import change_weight
from tests.support import toy_project

LINES = 25
Simplify = Callable[[onnx.ModelProto], Simplified]


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A command that has ended: its exit code, its first screen in each form, its folder."""

    code: int
    folder: Path
    terminal: str
    markdown: str
    page: str

    @property
    def report(self) -> Report:
        return read_report(self.folder / "report.json")

    def says(self, *words: str) -> None:
        """Every form says all of it on its first screen."""
        for name in ("terminal", "markdown", "page"):
            shown = getattr(self, name)
            for word in words:
                assert squeezed(word) in squeezed(shown), f"{name} lacks {word!r}:\n{shown}"


def squeezed(text: str) -> str:
    """Without white space and frames, since a line may break anywhere."""
    return re.sub(r"[\s│]", "", text)


def first_lines(text: str) -> str:
    return "\n".join([line for line in text.splitlines() if line.strip()][:LINES])


def failed(code: int, folder: Path, printed: str) -> Failed:
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    markdown = html.unescape(re.sub(r"</?code>|<!-- -->", "", markdown)).replace("\\", "")
    page = (folder / "report.html").read_text(encoding="utf-8")
    page = re.sub(r"(?s)<script\b.*?</script>|<style>.*?</style>|<head>.*?</head>", "", page)
    return Failed(
        code=code,
        folder=folder,
        terminal=first_lines(printed),
        markdown=first_lines(markdown),
        page=first_lines(html.unescape(re.sub(r"<[^>]+>", " ", page))),
    )


@pytest.fixture
def run_toy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Failed]:
    """Run the toy project; its output folder is not the default one."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(**files: str) -> Failed:
        path = toy_project.project(tmp_path / "toy", **files)
        folder = tmp_path / "my out"
        command = ["run", str(path), "--trust", "--output-dir", str(folder), "--threads", "1"]
        code = cli.main([*command, "--golden-dir", str(tmp_path / "golden")])
        return failed(code, folder, capsys.readouterr().out)

    return run


def commands(run: Failed) -> list[list[str]]:
    """Command lines on the terminal, one screen line each, as a shell takes them apart."""
    found = [re.search(r"^-> .*?export-verify (.*)", line) for line in run.terminal.splitlines()]
    return [shlex.split(held[1]) for held in found if held]


def verdict_of(path: Path) -> str | None:
    """The certified verdict; ``None`` without certificate, and without file."""
    if not path.exists():
        return None
    certificate = check_certificate(path).certificate
    return None if certificate is None else certificate["verdict"]


def broken(model: onnx.ModelProto) -> Simplified:
    raise StageError("simplify", "onnxsim changed the outputs: ['y'] became []\nmore of it")


def test_a_stage_that_stops(run_toy: Callable[..., Failed], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weights_on_disk, "simplify", broken)
    run = run_toy()
    assert run.code == run.report.exit_code == 1
    assert run.report.verdict == "fail"
    run.says(
        "stage 'simplify' stopped: onnxsim changed the outputs: ['y'] became []",
        "export: {simplify: false}",
        "toy.yaml",
        f"{run.folder}/stopped.txt",
        "export-verify run",
        "--trust",
    )
    verdicts = {link.name: link.verdict for link in run.report.links}
    assert verdicts == {
        "eager -> captured": "not run",
        "captured -> exported": "not run",
        "exported -> simplified": "fail",
        "layers: captured -> simplified": "not run",
        "simplified -> cpu/all/1 thread(s)": "not run",
    }
    assert run.report.stopped is not None
    assert run.report.stopped.finished == ["wrap", "capture", "export"]
    assert "more of it" in (run.folder / "stopped.txt").read_text()
    assert [line for line in run.report.not_checked if "nothing was compared" in line]
    (again,) = commands(run)
    assert again[:1] == ["run"] and again[2:] == ["--output-dir", str(run.folder), "--trust"]


def test_a_model_that_cannot_be_captured_leaves_a_report_too(run_toy: Callable[..., Failed]):
    run = run_toy(module=toy_project.DECIDES)
    assert run.code == 2  # the model is the user's
    assert run.report.exit_code == 1 and run.report.links[0].verdict == "fail"
    for shown in (run.markdown, run.page):
        for word in ("stage 'capture' stopped at", "toy_model.py:12", "data-dependent", "no dec"):
            assert squeezed(word) in squeezed(shown)
    assert "traced so far" in (run.folder / "stopped.txt").read_text()


def test_a_file_that_onnxruntime_refuses(
    run_toy: Callable[..., Failed], monkeypatch: pytest.MonkeyPatch
):
    def refused(self: FileRun, path: Path, deployment: object = None) -> None:
        raise ArtifactError("onnxruntime refuses the file: no kernel for Foo", where=str(path))

    monkeypatch.setattr(FileRun, "__init__", refused)
    run = run_toy()
    assert run.code == 1
    run.says("stage 'run onnxruntime' stopped", "exported.onnx", "no kernel for Foo", "opset")
    verdicts = {link.name: link.verdict for link in run.report.links}
    assert verdicts["captured -> exported"] == "fail"
    assert verdict_of(run.folder / "model.onnx") is None


def test_a_run_that_stops_takes_the_old_reports_and_the_old_certificate_away(
    run_toy: Callable[..., Failed], monkeypatch: pytest.MonkeyPatch
):
    good = run_toy()
    shipped = good.folder / "model.onnx"
    assert good.code == 0 and verdict_of(shipped) == "pass"
    assert check_certificate(shipped).intact
    recorded = {held.name: held.sha256 for held in good.report.artifacts}
    from exporter.core.artifact import sha256_of

    assert recorded["model.onnx"] == sha256_of(shipped)
    monkeypatch.setattr(weights_on_disk, "simplify", broken)
    assert run_toy().code == 1
    assert verdict_of(shipped) is None
    assert "FAIL" in (good.folder / "report.html").read_text()

    def bug(*values: object, **options: object) -> None:
        raise KeyError("ours")

    monkeypatch.setattr("exporter.flows.judged_run.build", bug)
    with pytest.raises(FileNotFoundError):
        run_toy()
    assert not (good.folder / "report.json").exists()
    assert not (good.folder / "stopped.txt").exists()


@pytest.fixture
def weak_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Simplify = weights_on_disk.simplify

    def weakened(model: onnx.ModelProto) -> Simplified:
        done = real(model)
        toy_project.weaken(done.model, (32, 16), -1)
        return done

    monkeypatch.setattr(weights_on_disk, "simplify", weakened)


@pytest.mark.usefixtures("weak_layer")
def test_a_layer_that_is_wrong(run_toy: Callable[..., Failed]):
    run = run_toy()
    assert run.code == 1
    (culprit,) = run.report.culprits
    assert culprit.layer == "model.blocks.1.outer"
    run.says(
        "FAIL",
        "simplify: layer 'model.blocks.1.outer'",
        "aten.linear.default",
        "toy_model.py:12",
        "rms error",
        "limit",
        "ONNX is wrong",
        "export-verify debug",
        "--layer model.blocks.1.outer",
        f"--output-dir '{run.folder}'",
    )
    assert verdict_of(run.folder / "model.onnx") == "fail"
    (debug,) = commands(run)
    assert cli.main(debug) == 1  # the pasted command works, and finds the culprit


def test_a_contract_that_is_broken(run_toy: Callable[..., Failed]):
    run = run_toy(yaml=toy_project.CAUSAL)
    assert run.code == 1
    run.says(
        "contract 'causality' (torch) in model.conv",
        "toy_model.py:22",
        "sees 1 step ahead, 0 declared",
        "pad on the left only",
        "lookahead_samples: 1",
        "export-verify check",
        "--contract causality",
    )
    (check,) = commands(run)
    assert cli.main(check) == 1


def test_a_contract_with_a_wrong_option_is_said_before_anything_is_exported(
    run_toy: Callable[..., Failed], tmp_path: Path
):
    with pytest.raises(FileNotFoundError):  # no report: the YAML is wrong
        run_toy(yaml=toy_project.CAUSAL.replace("lookahead_samples", "lookahead"))
    assert not (tmp_path / "my out").exists()


def half(values: np.ndarray) -> None:
    values *= 0.5


@pytest.mark.parametrize("weight", ["W1", "W2"])
def test_a_golden_that_moved(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    weight: str,
):
    monkeypatch.setenv("COLUMNS", "100")
    write_golden(made.golden(tmp_path, made.pipeline(tmp_path)), tmp_path / "golden" / "made")
    given = made.write_onnx(tmp_path, change_weight(weight, half))
    out = tmp_path / "my out"
    command = ["golden", "check", str(tmp_path / "made.yaml"), "--onnx", str(given)]
    code = cli.main([*command, "--golden-dir", str(tmp_path / "golden"), "--output-dir", str(out)])
    run = failed(code, out / "golden_check", capsys.readouterr().out)
    assert code == run.report.exit_code == 1
    layer, source = {"W1": ("first", "net.py:1"), "W2": ("second", "net.py:3")}[weight]
    run.says(
        "moved",
        "output scores",
        "off by",
        "limit",
        f"first layer that moved: '{layer}', aten.linear.default at {source}",
        "export-verify verify",
        f"--onnx {given}",
        f"--output-dir '{out}'",
        "export-verify golden record",
    )
    held = run.report.golden[0]
    assert held.observed is not None and held.limit is not None and held.observed > held.limit


def test_a_golden_that_holds_leaves_a_report_that_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_golden(made.golden(tmp_path, made.pipeline(tmp_path)), tmp_path / "golden" / "made")
    given = made.write_onnx(tmp_path)
    command = ["golden", "check", str(tmp_path / "made.yaml"), "--onnx", str(given)]
    code = cli.main(
        [*command, "--golden-dir", str(tmp_path / "golden"), "--output-dir", str(tmp_path / "o")]
    )
    assert code == 0
    report = read_report(tmp_path / "o" / "golden_check" / "report.json")
    assert (report.verdict, report.exit_code) == ("pass", 0)
    assert report.not_checked and next_steps(report) == []
    assert "report.html" in capsys.readouterr().out
