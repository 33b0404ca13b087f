"""Dask as the engine: verdicts come back, what is lost runs again, what is lacking is said."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as Xml

import psutil
import pytest

from exporter import cli
from exporter.matrix import work
from exporter.matrix.cells import digest_of
from exporter.matrix.engine import Engine
from exporter.matrix.jobs import cell_job, variant_job
from exporter.matrix.report import (
    render_html,
    render_json,
    render_markdown,
    sentence,
    write_matrix,
)
from exporter.matrix.run import Cells, MatrixOptions, Result, run_matrix
from exporter.matrix.verdict import VERDICT, CellVerdict, FirstLayer, written
from exporter.parity.status import Status
from exporter.report.progress import Progress
from tests.matrix import toy

MANY = (
    "name: many\npipelines: [made.yaml]\naxes: {threads: ["
    + ", ".join(map(str, range(1, 126)))
    + "], level: [disable, basic, extended, all]}\n"
)


def answered(place, folder, requirements, module, result):
    """A cell's process that is none: it fails on the level 'basic' with more than 60 threads."""
    said = json.loads((folder / "cell.json").read_text())
    bad = said["level"] == "basic" and said["threads"] > 60
    first = FirstLayer(module="norm", op="layer_norm") if bad else None
    status = Status.FAIL if bad else Status.PASS
    written(CellVerdict(status=status, reason="moved" if bad else "", first=first), result)
    return ""


def engine(folder: Path, **options) -> Engine:
    return Engine(folder / "out", folder / "environments", workers=2, processes=False, **options)


@pytest.mark.slow
def test_five_hundred_cells_are_run_explained_and_shown_within_a_gibibyte(tmp_path, monkeypatch):
    before = psutil.Process().memory_info().rss
    monkeypatch.setattr(work, "_run", answered)
    monkeypatch.setattr("exporter.matrix.run.Engine", lambda *a, **o: engine(tmp_path))
    held = toy.matrix(tmp_path, MANY.replace("name: many", "name: many\ncoverage: all"))
    toy.put_files(held, tmp_path, tmp_path / "out")
    result = run_matrix(held, MatrixOptions(output_dir=tmp_path / "out"), Progress(quiet=True))
    (item,) = result.explanations
    assert len(result.cells) == 500
    # Scheduler, workers and client are this one process.
    assert psutil.Process().memory_info().rss - before < 1 << 30
    assert "only level basic and threads at least 61" in sentence(result, item)
    assert "first layer 'norm' (layer_norm)" in sentence(result, item)
    assert result.decision.exit_code == 1
    page = render_html(result)
    assert page.count('class="fail"') == 65 and page.count("<details") >= 1
    assert "only level basic and threads at least 61" in render_markdown(result)
    data = json.loads(render_json(result))
    assert data["verdict"] == "fail" and len(data["cells"]) == 500
    assert data["explanations"][0]["first"]["module"] == "norm"


def test_a_resource_that_no_worker_has_is_said_and_is_not_green(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "_run", answered)
    needs = "resources: [{when: {threads: 2}, needs: {tpu: 1}}]\n"
    held = toy.matrix(tmp_path, toy.TEXT + needs)
    toy.put_files(held, tmp_path, tmp_path / "out")
    with engine(tmp_path) as running:
        found = Cells(held, running, Progress(quiet=True), trust=False)(held.space.cells())
    lacking = [v for c, v in found.items() if c["threads"] == 2]
    assert len(lacking) == 2 and all(v.status is Status.NOT_RUN for v in lacking)
    assert all("no worker has tpu" in v.reason for v in lacking)
    assert all(v.status is Status.PASS for c, v in found.items() if c["threads"] == 1)
    result = Result(name="toy", description="", space=held.space, total=4, first=4, cells=found)
    assert result.decision.exit_code == 1
    assert 'class="not-run"' in render_html(result)


@pytest.mark.parametrize("strain", [float("inf"), float("nan")])
def test_a_layer_that_cannot_be_compared_is_in_every_report(strain: float, tmp_path):
    """Its error is infinitely many limits, which is a word in JSON."""
    held = toy.matrix(tmp_path)
    verdict = CellVerdict(status=Status.FAIL, reason="other shapes", strain=strain)
    found = dict.fromkeys(held.space.cells(), verdict)
    result = Result(name="toy", description="", space=held.space, total=4, first=4, cells=found)
    write_matrix(result, tmp_path)
    data = json.loads((tmp_path / "matrix.json").read_text(), parse_constant=pytest.fail)
    assert {cell["strain"] for cell in data["cells"]} <= {"Infinity", "NaN"}


def test_shards_are_all_cells_each_once(tmp_path, monkeypatch, capsys):
    toy.matrix(tmp_path, MANY.replace("name: many", "name: many\ncoverage: all"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["matrix", "toy.yaml", "--github"]) == 0
    shards = json.loads(capsys.readouterr().out)["shard"]
    assert len(shards) == 250 and shards[-1] == "250/250"
    for no_part in ("9/8", "²/8", "1/" + "9" * 5000):
        assert cli.main(["matrix", "toy.yaml", "--shard", no_part]) == 2


def test_junit_says_what_was_not_run():
    from exporter.report.junit import render_matrix_junit

    root = Xml.fromstring(render_matrix_junit("m", [("a", "pass", ""), ("b", "not run", "why")]))
    (suite,) = root
    assert suite.get("errors") == "1" and suite.get("failures") == "0"
    assert Xml.fromstring(render_matrix_junit("m", []))[0].get("errors") == "1"


@pytest.mark.slow
def test_real_cells_pass_on_a_cluster_of_processes_and_a_second_start_knows_them(
    tmp_path, monkeypatch, capsys
):
    held = toy.matrix(tmp_path)
    toy.put_files(held, tmp_path, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    words = ["matrix", "toy.yaml", "--output-dir", "out", "--workers", "1", "--all"]
    assert cli.main(words) == 0
    assert "pass: 4 pass; 4 of 4 asked" in capsys.readouterr().out
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "cells").glob(f"*/{VERDICT}")}
    assert len(times) == 4
    assert cli.main(words) == 0
    assert times == {p: p.stat().st_mtime_ns for p in times}
    names = {digest_of(variant_job(held, c, trust=False).name) for c in held.space.cells()}
    assert len(names) == 1 and cell_job(held, next(held.space.cells())).requirements == ()
