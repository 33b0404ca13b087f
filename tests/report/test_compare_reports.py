"""Two reports beside each other: what changed, and whether anything is worse."""

from __future__ import annotations

import json

from exporter.cli import main
from exporter.report.compare_reports import changes, two_pipelines
from exporter.report.schema import write_report
from tests.support.reports import layer_fail, passed


def test_a_report_beside_itself_has_no_change():
    assert changes(passed(), passed()) == ()


def test_what_failed_since_is_worse_and_named_and_the_way_back_is_not():
    found = changes(passed(), layer_fail())
    worse = {(held.kind, held.name) for held in found if held.worse}
    assert ("verdict", "") in worse
    assert any(kind == "layer" and "feed_forward.w_2" in name for kind, name in worse)
    assert not any(held.worse for held in changes(layer_fail(), passed()) if held.after == "pass")


def test_a_contract_that_nobody_checks_any_more_is_worse():
    report = passed()
    found = changes(report, report.model_copy(update={"contracts": report.contracts[1:]}))
    assert [(held.kind, held.after, held.worse) for held in found] == [("contract", "", True)]


def test_another_version_is_a_fact_and_nothing_worse():
    report = passed()
    environment = report.environment.model_copy(
        update={"versions": {**report.environment.versions, "torch": "2.14.0"}}
    )
    found = changes(report, report.model_copy(update={"environment": environment}))
    assert [(held.kind, held.name, held.worse) for held in found] == [("facts", "torch", False)]


def test_a_layer_that_came_near_its_limit_is_told():
    report = passed()
    links = list(report.links)
    at = next(n for n, link in enumerate(links) if link.layers)
    first = links[at].layers[0].model_copy(update={"worst_local_strain": 0.9})
    layers = [first, *links[at].layers[1:]]
    links[at] = links[at].model_copy(update={"layers": layers})
    found = changes(report, report.model_copy(update={"links": links}))
    assert [held.kind for held in found] == ["error over limit"] and found[0].after == "0.9"


def test_the_command_exits_1_when_something_is_worse(tmp_path, capsys):
    for name, report in (("a", passed()), ("b", layer_fail())):
        (tmp_path / name).mkdir()
        write_report(report, tmp_path / name / "report.json")
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert main(["compare-reports", a, b, "--format", "json"]) == 1
    assert json.loads(capsys.readouterr().out)
    assert main(["compare-reports", b, a]) == 0
    assert "nothing is worse" in capsys.readouterr().out
    assert main(["compare-reports", a, a]) == 0
    assert "nothing differs" in capsys.readouterr().out


def of_another_pipeline(report, **more):
    held = report.pipeline.model_copy(update={"name": "other", **more})
    return report.model_copy(update={"pipeline": held})


def test_two_pipelines_are_said_to_be_two(tmp_path, capsys):
    other = of_another_pipeline(passed(), graph_digest="f" * 64)
    for name, report in (("a", passed()), ("b", other)):
        write_report(report, tmp_path / f"{name}.json")
    code = main(["compare-reports", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    said = capsys.readouterr()
    assert code == 2 and "two pipelines" in said.err and "'other'" in said.err
    assert "nothing is worse" not in said.out


def test_one_that_was_given_another_name_is_still_the_same():
    assert two_pipelines(passed(), of_another_pipeline(passed())) == ""
    assert two_pipelines(passed(), layer_fail()) == ""
