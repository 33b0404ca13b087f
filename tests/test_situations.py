"""The page of situations: each has a YAML that can be read, and a verdict that a test holds."""

from __future__ import annotations

import ast

import pytest

from exporter.config import load_pipeline
from exporter.config.load_system import is_system, load_system
from exporter.graph.wrap import wrap
from tests.support.planted_streams import judged
from tests.support.situations import PAGE, ROOT, SITUATIONS, Situation

STREAMS = [held for held in SITUATIONS if not held.held_by]


def name(held: Situation) -> str:
    return held.thread


def test_there_are_nineteen_and_the_page_has_them_in_this_order():
    assert len(SITUATIONS) == 19
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 19
    for row, held in zip(rows, SITUATIONS, strict=True):
        assert held.thread in row
        assert f"`pipelines/{held.says}`" in row
        assert f"| {held.verdict}" in row
        assert held.told in row


@pytest.mark.parametrize("held", SITUATIONS, ids=name)
def test_each_has_a_yaml_that_can_be_read(held):
    path = ROOT / "pipelines" / held.says
    assert (load_system if is_system(path) else load_pipeline)(path).cases


@pytest.mark.parametrize("held", [h for h in SITUATIONS if h.held_by], ids=name)
def test_the_test_that_holds_it_is_there(held):
    file, _, test = held.held_by.partition("::")
    tree = ast.parse((ROOT / "tests" / file).read_text("utf-8"))
    assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.slow
@pytest.mark.parametrize("held", STREAMS, ids=name)
def test_a_stream_gets_the_verdict_that_is_right(held):
    pipeline = load_pipeline(ROOT / "pipelines" / held.says).with_trust()
    found = judged(pipeline, wrap(pipeline), limits=True)
    assert found.status.value == held.verdict, found.reason
    assert held.told in found.reason
