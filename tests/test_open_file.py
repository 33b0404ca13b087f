"""A run parses the shipped file once, and builds one session of it per deployment."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.execution.onnx_runs import FileRun
from tests.support.cached_project import YAML, run_cached, write


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What was opened: file and "graph", or file and level of its session."""
    import exporter.contracts.onnx_side as onnx_side
    import exporter.judge.layer_walks as layer_walks

    seen: list[tuple[str, str]] = []
    build, read = FileRun.__init__, layer_walks.open_graph

    def building(self, path, deployment=None):
        build(self, path, deployment)
        seen.append((path.name, self.deployment.level))

    def reading(path):
        seen.append((path.name, "graph"))
        return read(path)

    monkeypatch.setattr(FileRun, "__init__", building)
    monkeypatch.setattr(layer_walks, "open_graph", reading)
    monkeypatch.setattr(onnx_side, "open_graph", reading)
    return seen


def test_contracts_take_over_what_the_chain_has_open(opened, tmp_path: Path):
    report = run_cached(write(tmp_path / "toy"), tmp_path / "out", cache=False)
    assert report.exit_code == 0
    assert {(c.name, c.side, c.verdict) for c in report.contracts} == {
        ("mutation", "torch", "pass"),
        ("mutation", "onnx", "pass"),
    }
    assert sorted(opened) == [
        ("exported.onnx", "disable"),
        ("model.onnx", "all"),
        ("model.onnx", "disable"),
        ("model.onnx", "graph"),
    ]


def test_without_contracts_no_session_is_kept(opened, tmp_path: Path, monkeypatch):
    import exporter.judge.chain as chain

    held = []
    real = chain.Chain.open_file
    monkeypatch.setattr(
        chain.Chain, "open_file", lambda self: held.append(found := real(self)) or found
    )
    yaml = YAML.replace("contracts: {mutation: }\n", "")
    run_cached(write(tmp_path / "toy", yaml=yaml), tmp_path / "out", cache=False)
    assert [found.session for found in held] == [None]
    assert opened.count(("model.onnx", "all")) == 1


def test_of_several_deployments_the_first_ones_session_is_handed_over(opened, tmp_path: Path):
    yaml = YAML + "deploy: {levels: [basic, all]}\n"
    report = run_cached(write(tmp_path / "toy", yaml=yaml), tmp_path / "out", cache=False)
    assert report.exit_code == 0
    assert opened.count(("model.onnx", "basic")) == opened.count(("model.onnx", "all")) == 1


def test_the_session_of_a_large_file_is_not_kept_beside_the_layers(
    opened, tmp_path: Path, monkeypatch
):
    import exporter.flows.judged_run as judged_run

    monkeypatch.setattr(judged_run, "EXTERNAL_LIMIT", 100)
    report = run_cached(write(tmp_path / "toy"), tmp_path / "out", cache=False)
    assert report.exit_code == 0
    assert opened.count(("model.onnx", "all")) == 2
