"""A part of scripts/foreign_table.py: an LSTM's file by some tools, healthy and with faults."""

from __future__ import annotations

import pytest

from scripts import foreign_table
from scripts.marked_page import between
from tests.support import foreign_tools as foreign


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> foreign.Source:
    return foreign.recurrent(tmp_path_factory.mktemp("foreign") / "LSTM")


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["legacy exporter", "onnxruntime all", "quantize_dynamic"])
def test_verdict_and_layer_are_right(source: foreign.Source, tool: str):
    row = foreign_table.judged("LSTM", tool, source)
    assert row is not None
    assert row.answers == {"healthy": "passes", **dict.fromkeys(foreign.FAULTS[1:], "found")}
    assert row.joined is not None and row.joined >= 0.8


def test_a_fault_that_passes_would_be_seen():
    row = foreign_table.Row("LSTM", "renamed", 0.9, {"healthy": "passes", "weight": "PASSES"}, 3)
    assert "0 of 1 planted faults fail" in foreign_table.summary([row])
    assert foreign_table.Row.read(row.line()) == row


def test_the_page_holds_what_is_claimed():
    page = between(foreign_table.PAGE.read_text("utf-8"), foreign_table.MARK)
    lines = [line for line in page.splitlines() if " % | " in line]
    rows = [foreign_table.Row.read(line) for line in lines]
    assert len({row.tool for row in rows}) >= 14
    for row in rows:
        # One limit is too coarse to show anything: eight bits through a small LSTM to its output.
        coarse = (row.model, row.tool) == ("LSTM", "quantize_static, QDQ")
        assert row.answers["healthy"] == ("ambiguous" if coarse else "passes"), row
        assert row.joined is not None and row.joined >= 0.8, row
        assert "PASSES" not in row.answers.values(), row
    assert foreign_table.summary(rows) in page
