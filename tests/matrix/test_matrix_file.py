"""The YAML of a matrix: which cells there are, and every mistake with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter import cli
from exporter.matrix.cells import Cell
from exporter.matrix.covering import pairs_of, pairwise
from exporter.matrix.jobs import variant_job
from exporter.matrix.load import load_matrix
from tests.matrix import toy

ROOT = Path(__file__).resolve().parents[2]


def test_constraints_leave_what_may_be(tmp_path: Path):
    held = toy.matrix(
        tmp_path,
        "name: m\npipelines: [made.yaml]\n"
        "axes: {torch: [2.11.0, 2.12.0], onnxruntime: [1.23.2, 1.30.0], threads: [1, 2]}\n"
        "constraints:\n"
        "  - {when: {torch: 2.11.0}, only: {onnxruntime: '1.2*'}}\n"
        "  - {when: {torch: '2.12*', threads: 2, onnxruntime: 1.30.0}, never: true}\n",
    )
    cells = list(held.space.cells())
    pairs = {(c["torch"], c["onnxruntime"], c["threads"]) for c in cells}
    assert len(cells) == len(pairs) == 5
    assert ("2.11.0", "1.30.0", 1) not in pairs and ("2.12.0", "1.30.0", 2) not in pairs
    chosen = pairwise(held.space)
    assert set(chosen) <= set(cells)
    every = set().union(*map(pairs_of, cells))
    assert set().union(*map(pairs_of, chosen)) == every


def test_keys_of_the_pipeline_are_axes(tmp_path: Path):
    held = toy.matrix(
        tmp_path,
        "name: m\npipelines: [made.yaml]\n"
        "axes: {opset: [18, 20], set: {model.settings.num_blocks: [1, 2]}, level: [all, basic]}\n",
    )
    names = {variant_job(held, cell, trust=False).name for cell in held.space.cells()}
    assert len(names) == 4  # the level is of a run, not of a file
    said = variant_job(held, next(held.space.cells()), trust=False).said["yaml"]
    assert said["export"] == {"opset": 18}
    assert said["model"] == {"settings": {"num_blocks": 1}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: m\npipelines: [made.yaml]\naxes: {onnxruntime: [1.30]}\n", "toy.yaml:3"),
        ("name: m\npipelines: [made.yaml]\naxis: {threads: [1]}\n", "did you mean 'axes'"),
        ("name: m\npipelines: [gone.yaml]\n", "gone.yaml"),
        ("name: m\npipelines: []\n", "toy.yaml:2"),
        ("name: m\npipelines: [made.yaml, made.yaml]\n", "two pipelines are called 'made'"),
        ("name: m\npipelines: [made.yaml]\naxes: {case: [three]}\n", "no pipeline has a case"),
        ("name: m\npipelines: [made.yaml]\naxes: {threads: [0]}\n", "toy.yaml:3"),
        ("name: m\npipelines: [made.yaml]\naxes: {threads: [1, 1]}\n", "has a value twice"),
        (
            "name: m\npipelines: [made.yaml]\nconstraints: [{when: {x: 1}, never: true}]\n",
            "no axis",
        ),
        (
            "name: m\npipelines: [made.yaml]\naxes: {threads: [1]}\n"
            "constraints: [{when: {threads: 1}, never: true}]\n",
            "leave no combination",
        ),
        ("name: m\npipelines: [made.yaml]\naxes: {case: [one], length: [5]}\n", "not both"),
        ("name: [m\n", "this is not YAML"),
    ],
)
def test_a_mistake_is_told_with_its_place(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    toy.matrix(tmp_path)
    (tmp_path / "toy.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["matrix", "toy.yaml"]) == 2
    assert said in capsys.readouterr().err


def test_a_scheduler_that_nobody_is_at_is_told(tmp_path: Path, monkeypatch, capsys):
    toy.matrix(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["matrix", "toy.yaml", "--scheduler", "nonsense"]) == 2
    assert "--scheduler: nobody answers at nonsense" in capsys.readouterr().err


def test_every_committed_matrix_loads():
    found = sorted((ROOT / "matrices").glob("*.yaml"))
    assert found
    for path in found:
        held = load_matrix(path)
        chosen = pairwise(held.space)
        assert all(isinstance(cell, Cell) for cell in chosen)
        assert len(chosen) < sum(1 for _ in held.space.cells())
