"""The zoo: every YAML is read, and names a factory that is there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from exporter.config import load_pipeline

ZOO = Path(__file__).resolve().parents[1] / "pipelines" / "zoo"
MODELS = sorted(path.stem for path in ZOO.glob("*.yaml"))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_the_zoo_has_a_factory_and_a_case_of_its_own(name):
    pipeline = load_pipeline(ZOO / f"{name}.yaml")
    module, _, made = str(pipeline.model.factory).partition(":")
    tree = ast.parse((ZOO / f"{module}.py").read_text())
    there = {getattr(node, "name", None) for node in tree.body}
    there |= {
        t.id
        for n in tree.body
        if isinstance(n, ast.Assign)
        for t in n.targets
        if isinstance(t, ast.Name)
    }
    assert made in there and pipeline.name == name and pipeline.cases


def test_the_zoo_is_as_large_as_it_is_said_to_be():
    assert len(MODELS) >= 100
