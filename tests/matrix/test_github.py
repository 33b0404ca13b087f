"""The workflow in docs/matrix.md: GitHub takes it, and its steps do what they say, run by hand."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.matrix.load import load_matrix
from tests.matrix import toy

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "matrix.md"


def workflow() -> str:
    """The workflow as a reader copies it, below the two keys that the page leaves to him."""
    text = PAGE.read_text(encoding="utf-8").partition("## On GitHub Actions")[2]
    found = re.search(r"```yaml\n(jobs:.*?)```", text, re.DOTALL)
    assert found is not None
    return f"name: matrix\non: [push]\n{found[1]}"


def accepted(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "workflow.yaml"
    path.write_text(text)
    command = ["check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    return subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False
    )


def test_github_takes_the_workflow(tmp_path: Path):
    assert accepted(workflow(), tmp_path).returncode == 0
    # It would say so of one that it does not take.
    for old, new in (("runs-on:", "run-on:"), ("needs: plan", "needs: {plan: 1}")):
        done = accepted(workflow().replace(old, new), tmp_path)
        assert done.returncode == 1, done.stdout


def test_what_jobs_give_each_other_is_there():
    jobs: dict[str, Any] = yaml.safe_load(workflow())["jobs"]
    for job in jobs.values():
        text = json.dumps(job)
        for step, output in re.findall(r"steps\.(\w+)\.outputs\.(\w+)", text):
            (named,) = (held for held in job["steps"] if held.get("id") == step)
            assert f"{output}=" in named["run"] and "GITHUB_OUTPUT" in named["run"]
        for other, output in re.findall(r"needs\.(\w+)\.outputs\.(\w+)", text):
            assert output in jobs[other]["outputs"] and job["needs"] == other
        if re.search(r"matrix\.shard", text):
            assert "fromJSON" in job["strategy"]["matrix"]
            assert job["strategy"]["fail-fast"] is False, "a shard that fails would end the others"


@pytest.mark.slow
def test_its_steps_run_every_cell_in_one_shard_each(tmp_path: Path):
    """The steps as GitHub's shell runs them, but for pip's; hashes are drawn anew in each."""
    held = toy.matrix(tmp_path, toy.TEXT.replace("[1, 2]", "[1, 2, 3]"))
    toy.put_files(held, tmp_path, tmp_path / "runs" / "matrix-toy")
    plan, cells = yaml.safe_load(workflow())["jobs"].values()
    (planned,) = (step["run"] for step in plan["steps"] if "--github" in step.get("run", ""))
    (shard,) = (step["run"] for step in cells["steps"] if "--shard" in step.get("run", ""))
    outputs = tmp_path / "outputs"

    def shell(command: str) -> None:
        command = command.replace("matrices/speech_releases.yaml", "toy.yaml")
        command = command.replace("export-verify", shlex.join([sys.executable, "-m", "exporter"]))
        variables = {
            "PYTHONPATH": str(ROOT),
            "GITHUB_OUTPUT": str(outputs),
            "PYTHONHASHSEED": "random",
        }
        subprocess.run(
            ["bash", "-e", "-c", command], cwd=tmp_path, check=True, env=os.environ | variables
        )

    shell(planned.replace("--jobs 20", "--jobs 2"))
    name, _, said = outputs.read_text().partition("=")
    shards = json.loads(said)["shard"]
    assert name == "matrix" and shards == ["1/2", "2/2"]
    ran: list[str] = []
    for held_shard in shards:
        shell(shard.replace("${{ matrix.shard }}", held_shard))
        result = json.loads((tmp_path / "runs" / "matrix-toy" / "matrix.json").read_text())
        assert result["verdict"] == "pass"
        ran += [json.dumps(cell["values"]) for cell in result["cells"]]
    assert len(ran) == len(set(ran)) == 6


def test_shards_are_the_same_cells_whoever_cuts_them(tmp_path: Path):
    """Jobs of one workflow are processes that know nothing of each other."""
    toy.matrix(tmp_path, toy.TEXT + "  opset: [18, 19, 20]\n  seed: [1, 2, 3]\n")
    code = (
        "import sys; from exporter.matrix.load import load_matrix;"
        "from exporter.matrix.run import MatrixOptions, chosen_cells;"
        "matrix = load_matrix(sys.argv[1]);"
        "print([c.label() for c in chosen_cells(matrix, MatrixOptions(shard=(1, 3)))])"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "toy.yaml")],
            capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(told) == 1 and load_matrix(tmp_path / "toy.yaml").file.name in "toy"
