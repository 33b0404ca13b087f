"""Model Explorer itself, with its extension for ONNX, draws the shipped file under our keys."""

from __future__ import annotations

import json
import subprocess
import venv
from pathlib import Path

import pytest

from exporter.report.overlay import render_overlay
from exporter.report.write import OVERLAY
from tests.support.tiny_run import TinyRun

pytestmark = pytest.mark.slow

# The releases that this was seen with. They bring a server and a notebook, hence a folder apart.
PACKAGES = ("ai-edge-model-explorer==0.1.34", "model-explorer-onnx==0.4.2")
SHOWN = """
import json, sys
from model_explorer_onnx.main import ONNXAdapter
graphs = ONNXAdapter().convert(sys.argv[1], {})["graphs"]
print(json.dumps({node.id: node.namespace for graph in graphs for node in graph.nodes}))
"""


@pytest.fixture(scope="module")
def model_explorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that has the two packages."""
    home = tmp_path_factory.mktemp("model_explorer")
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *PACKAGES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return python


def shown(python: Path, model: Path) -> dict[str, str]:
    """Key of every node that Model Explorer draws of a file -> the group that it stands in."""
    done = subprocess.run(
        [str(python), "-c", SHOWN, str(model)], capture_output=True, text=True, cwd=python.parent
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_every_key_of_the_overlay_is_a_node_that_it_draws(model_explorer, tiny_run: TinyRun):
    drawn = shown(model_explorer, tiny_run.model_path)
    overlay = json.loads((tiny_run.folder / OVERLAY).read_text(encoding="utf-8"))
    keys = set(overlay["results"])
    assert len(keys) > 10 and keys <= set(drawn)
    # Names of values, which the overlay once had for keys, are not what it draws.
    names = set(json.loads(render_overlay(tiny_run.report))["results"])
    assert 10 * len(names & set(drawn)) < len(names)


def test_nodes_stand_in_groups_of_the_modules_they_come_from(model_explorer, tiny_run: TinyRun):
    groups = set(shown(model_explorer, tiny_run.model_path).values())
    report = tiny_run.report
    modules = {layer.module for link in report.links for layer in link.layers}
    inside = {group.split("/", 1)[1].replace("/", ".") for group in groups if "/" in group}
    assert len(inside & modules) > 3, (sorted(inside)[:9], sorted(modules)[:9])
