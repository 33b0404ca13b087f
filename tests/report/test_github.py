"""What GitHub shows: one annotation per cause, a summary, alike for every command."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
import yaml
from click.testing import CliRunner

from exporter.cli import cli
from exporter.report.github import report_annotations, report_summary
from exporter.report.schema import ContractRecord, write_report
from tests.support.reports import layer_fail as failing_report
from tests.support.reports import passed as passing_report

ROOT = Path(__file__).resolve().parents[2]
JUDGING = ("run", "verify", "check", "judge", "report", "golden check")
SHOWING = ("compare", "debug", "explain", "list", "doctor", "inspect", "cache info", "golden diff")


def contract(side: str, source: str, verdict: str = "fail") -> ContractRecord:
    return ContractRecord(
        name="padding", side=side, verdict=verdict, reason="row 1 differs", source=source
    )


def test_a_good_report_has_no_annotation():
    assert report_annotations(passing_report(), "p.yaml") == []


def test_a_cause_is_one_annotation_whatever_follows_from_it():
    report = failing_report()
    causes = [held for held in report.culprits if held.by_itself] or report.culprits[:1]
    found = report_annotations(report.model_copy(update={"contracts": []}), "p.yaml")
    assert len(found) == min(len(causes), 10)
    assert all(line.startswith("::error file=p.yaml,") for line in found)


def test_both_sides_of_a_contract_at_one_line_are_one_cause(tmp_path, monkeypatch):
    (tmp_path / "model.py").write_text("x\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    held = [contract("torch", "model.py:7"), contract("onnx", "model.py:7"), contract("onnx", "")]
    report = passing_report().model_copy(
        update={"contracts": held, "exit_code": 1, "verdict": "fail", "culprits": []}
    )
    found = report_annotations(report, "p.yaml")
    assert len(found) == 1 and "file=model.py,line=7,title=" in found[0]
    assert "(torch%2C onnx)" in found[0]


def test_nothing_that_a_report_says_ends_an_annotation_or_starts_another():
    held = contract("torch", "").model_copy(update={"reason": "a\n::error::b%0A"})
    report = passing_report().model_copy(update={"contracts": [held], "exit_code": 1})
    for line in report_annotations(report, "p,title=x:1.yaml\n::warning::"):
        assert "\n" not in line and line.count("::") >= 2
        assert line.index("::error ") == 0


def test_the_summary_says_verdict_and_links():
    report = failing_report()
    text = report_summary(report)
    assert text.startswith("### ") and all(held.verdict in text for held in report.links)


@pytest.mark.parametrize("name", JUDGING)
def test_every_command_that_judges_has_junit_and_json(name):
    command = cli
    for word in name.split():
        command = command.get_command(None, word)
    options = {option for held in command.params for option in held.opts}
    assert {"--junit", "--format"} <= options


@pytest.mark.parametrize("name", SHOWING)
def test_every_command_that_shows_has_json(name):
    command = cli
    for word in name.split():
        command = command.get_command(None, word)
    assert "--format" in {option for held in command.params for option in held.opts}


def test_a_saved_report_is_json_and_junit_on_demand(tmp_path):
    write_report(passing_report(), tmp_path / "report.json")
    place = tmp_path / "junit.xml"
    done = CliRunner().invoke(
        cli, ["explain", str(tmp_path), "--format", "json"], catch_exceptions=False
    )
    assert json.loads(done.output)["headline"]
    done = CliRunner().invoke(
        cli, ["report", str(tmp_path), "--format", "json", "--junit", str(place)]
    )
    assert json.loads(done.output)["schema_version"] and Xml.parse(place).getroot().tag


def test_the_action_passes_inputs_as_variables_alone():
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    assert {"command", "pipeline", "onnx", "arguments"} <= set(action["inputs"])
    for step in action["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
