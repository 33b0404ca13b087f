"""A verdict is of the very bytes that were judged: files, code and weights that changed since."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exporter import cli
from exporter.core.artifact import sha256_of
from exporter.graph.certificate import strip_certificate
from exporter.report.beside import held_against_files
from exporter.report.schema import ArtifactRecord, read_report, write_report
from tests.false_passes.conftest import Toy
from tests.false_passes.way import Told, way
from tests.support.reports import base

pytest_plugins = ["pytester"]


def tamper(path: Path) -> None:
    """Another weight, and no certificate: a file as any other tool would write it."""
    strip_certificate(path)
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if len(t.dims) > 1)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] += np.float32(0.5)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)


def command(capsys: pytest.CaptureFixture[str], *words: object) -> Told:
    """What a command answers."""
    capsys.readouterr()
    code = cli.main([str(word) for word in words])
    printed = capsys.readouterr()
    # Tables fold what is long.
    return Told(exit_code=code, text=" ".join((printed.out + printed.err).split()))


def reused(pytester: pytest.Pytester, toy: Toy) -> Told:
    """The plugin on a run that lies there."""
    result = pytester.runpytest_inprocess(
        *("-p", "exporter.pytest_plugin", "--export-verify", "--export-verify-reuse"),
        *("--export-verify-trust", f"--export-verify-runs={toy.runs}"),
        *(f"--export-verify-golden={toy.golden}", "-p", "no:cacheprovider", str(toy.yaml)),
    )
    passed = result.parseoutcomes().get("passed", 0)
    return Told(exit_code=int(bool(result.ret and not passed)), text=result.stdout.str())


def change_the_code(toy: Toy) -> None:
    """The model computes something else now; the YAML is as it was."""
    source = toy.yaml.with_name("toy_model.py")
    source.write_text(source.read_text().replace("return x + self", "return x - self"))


@way("pytest reuses a run whose model.onnx was overwritten", says="is not the file that was judged")
def test_reused_run_with_another_file(toy, pytester):
    tamper(toy.model)
    return reused(pytester, toy)


@way("pytest reuses a run whose model.onnx is gone", says="is not there")
def test_reused_run_without_its_file(toy, pytester):
    toy.model.unlink()
    return reused(pytester, toy)


@way("judge reads a report beside a file that was overwritten", says="is not the file that was")
def test_judged_report_beside_another_file(toy, capsys):
    tamper(toy.model)
    return command(capsys, "judge", toy.run, "--factor", "60")


@way("explain reads a report beside a file that was overwritten", says="is not the file that was")
def test_explained_report_beside_another_file(toy, capsys):
    tamper(toy.model)
    return command(capsys, "explain", toy.run)


@way("report renders a report beside a file that was overwritten", says="is not the file that was")
def test_rendered_report_beside_another_file(toy, capsys, tmp_path):
    tamper(toy.model)
    told = command(capsys, "report", toy.run, "--junit", tmp_path / "junit.xml")
    assert "failure" in (tmp_path / "junit.xml").read_text()
    assert "FAIL" in (toy.run / "report.md").read_text().splitlines()[0]
    return told


@way("exported.onnx was overwritten, model.onnx was not", says="exported.onnx is not the file")
def test_other_file_of_the_run(toy, capsys):
    tamper(toy.run / "exported.onnx")
    return command(capsys, "explain", toy.run)


@way("the weights beside a file were overwritten, the file was not", says="its data 'w.bin'")
def test_external_data(tmp_path):
    model, data = tmp_path / "model.onnx", tmp_path / "w.bin"
    model.write_bytes(b"graph")
    data.write_bytes(b"weights")
    record = ArtifactRecord(
        name="model.onnx",
        path=str(model),
        sha256=sha256_of(model),
        nodes=1,
        bytes=5,
        external={"w.bin": sha256_of(data)},
    )
    report = base(verdict="pass").model_copy(update={"artifacts": [record]})
    write_report(report, tmp_path / "report.json")
    assert held_against_files(report, tmp_path / "report.json").exit_code == report.exit_code
    data.write_bytes(b"weightz")
    found = held_against_files(read_report(tmp_path / "report.json"), tmp_path / "report.json")
    return Told(exit_code=found.exit_code, text=found.headline)


@way("a changed file without certificate is its own reference for verify", says="was exported")
def test_file_that_is_its_own_reference(toy, capsys):
    tamper(toy.model)
    words = ("verify", toy.yaml, "--onnx", toy.model, "--output-dir", toy.run, "--trust")
    told = command(capsys, *words)
    assert (toy.run / "verify" / "reference" / "model.onnx").is_file()
    return told


@way("golden check takes an old run for what the changed code exports", says="moved")
def test_golden_check_after_the_code_changed(toy, capsys):
    change_the_code(toy)
    words = ("--golden-dir", toy.golden, "--output-dir", toy.run, "--trust")
    return command(capsys, "golden", "check", toy.yaml, *words)


@way("golden check takes a tampered file of a run for its own", says="is not the file that was")
def test_golden_check_of_a_tampered_run(toy, capsys):
    tamper(toy.model)
    words = ("--golden-dir", toy.golden, "--output-dir", toy.run, "--trust")
    return command(capsys, "golden", "check", toy.yaml, *words)


@way("a golden is recorded from a run of older code", says="weights, upstream")
def test_golden_recorded_from_an_old_run(toy, capsys):
    change_the_code(toy)
    words = ("--golden-dir", toy.golden, "--output-dir", toy.run, "--trust", "--from-run")
    return command(capsys, "golden", "record", toy.yaml, *words, "--reason", "x")


@way("a golden is recorded from a run whose file was overwritten", says="is not the file that the")
def test_golden_recorded_from_a_tampered_run(toy, capsys):
    tamper(toy.model)
    words = ("--golden-dir", toy.golden, "--output-dir", toy.run, "--trust", "--from-run")
    return command(capsys, "golden", "record", toy.yaml, *words, "--reason", "x")


def test_healthy_twins_pass(toy, pytester, capsys, tmp_path):
    assert command(capsys, "judge", toy.run).exit_code == 0
    assert command(capsys, "explain", toy.run).exit_code == 0
    assert command(capsys, "report", toy.run).exit_code == 0
    words = ("--golden-dir", toy.golden, "--output-dir", toy.run, "--trust")
    told = command(capsys, "golden", "check", toy.yaml, *words)
    assert told.exit_code == 0 and not (toy.run / "golden_check" / "model.onnx").exists(), told
    result = pytester.runpytest_inprocess(
        *("-p", "exporter.pytest_plugin", "--export-verify", "--export-verify-reuse"),
        *("--export-verify-trust", f"--export-verify-runs={toy.runs}"),
        *(f"--export-verify-golden={toy.golden}", "-p", "no:cacheprovider", str(toy.yaml)),
    )
    result.assert_outcomes(passed=7)
    # A report may travel without its files; then it says so.
    toy.model.unlink()
    told = command(capsys, "explain", toy.run)
    assert told.exit_code == 0
