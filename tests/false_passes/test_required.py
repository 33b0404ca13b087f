"""``required: false`` lets a check stay "not run"; one that failed has failed, everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter import cli, load_pipeline
from exporter.flows.certify import certificate_facts
from exporter.graph.certificate import check_certificate
from exporter.parity.tolerance import Policy
from exporter.report.junit import render_junit
from exporter.report.schema import Report, read_report
from tests.false_passes.project import report_of
from tests.false_passes.way import Told, way
from tests.support.toy_project import CAUSAL, YAML, project

OPTIONAL = CAUSAL.replace("lookahead_samples: {y: 0}", "lookahead_samples: {y: 0}, required: false")
"""A promise that the model breaks, and that is not required."""


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose only contract failed, and is not required."""
    folder = tmp_path_factory.mktemp("optional")
    report_of(project(folder, yaml=OPTIONAL))
    return folder


def saved(folder: Path) -> Report:
    return read_report(folder / "out" / "report.json")


@way("run: a contract with required: false fails", says="causality")
def test_verdict_of_the_run(broken):
    report = saved(broken)
    assert report.verdict == "fail" and not report.contracts[0].required
    return Told(exit_code=report.exit_code, text=report.headline)


@way("inspect: the certificate of such a run", says="certified FAIL")
def test_certificate(broken, capsys):
    held = check_certificate(broken / "out" / "model.onnx").certificate or {}
    assert held["verdict"] == "fail"
    assert certificate_facts(saved(broken), Policy(), {})["verdict"] == "fail"
    code = cli.main(["inspect", str(broken / "out" / "model.onnx")])
    return Told(exit_code=code, text=capsys.readouterr().out)


@way("judge: the report of such a run", says="FAIL")
def test_judged_again(broken, capsys):
    code = cli.main(["judge", str(broken / "out"), "--factor", "60"])
    return Told(exit_code=code, text=capsys.readouterr().out)


@way("JUnit: the report of such a run", says="<failure")
def test_junit(broken):
    text = render_junit(saved(broken))
    return Told(exit_code=int("<failure" in text), text=text)


@way("golden record: from such a run", says="did not pass")
def test_recorded(broken, capsys):
    words = ["--from-run", "--trust", "--reason", "x", "--golden-dir", str(broken / "golden")]
    yaml, out = str(broken / "toy.yaml"), str(broken / "out")
    code = cli.main(["golden", "record", yaml, "--output-dir", out, *words])
    return Told(exit_code=code, text=capsys.readouterr().err)


def test_the_healthy_twin_passes(tmp_path):
    report = report_of(project(tmp_path, yaml=YAML + "required: false\n"))
    assert (report.verdict, report.exit_code) == ("pass", 0)
    assert load_pipeline(tmp_path / "toy.yaml").required is False
