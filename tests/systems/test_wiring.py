"""What a driver's YAML names: held against the graphs before anything is driven."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from exporter.config.driver import Chain
from exporter.config.load_system import load_system
from exporter.config.system import Text
from exporter.core.errors import ConfigError
from exporter.drivers import DriverStoppedError
from exporter.drivers.chain import drive
from exporter.drivers.decisions import Decider
from exporter.systems.opened import check_wiring
from exporter.systems.tokenizer import detokenizer
from tests.config.test_load_system import SYSTEM, written
from tests.support.graphs import graph, spec

NAMES: Any = SimpleNamespace(inputs=(spec("x", "float32", 4),), outputs=(spec("y", "float32", 4),))


@pytest.mark.parametrize(
    ("feed", "right"),
    [("second.x: first.y", True), ("first.x: second.y", False), ("first.x: first.y", False)],
)
def test_a_graph_takes_only_what_is_there_already(tmp_path, feed, right):
    text = SYSTEM.replace("order: [first, second]", f"order: [first, second], feed: {{{feed}}}")
    system = load_system(written(tmp_path, text))
    graphs = {"first": NAMES, "second": NAMES}
    if right:
        check_wiring(system, graphs)
        return
    with pytest.raises(ConfigError, match="not there yet"):
        check_wiring(system, graphs)


def chained(lengths: list[float]) -> tuple[int, ...] | None:
    ids = np.array([[5, 6, 7], [8, 9, 0]])
    made = graph("g", [spec("x", "float32", 1)], ["ids", "n"], lambda x: (ids, np.array(lengths)))
    config = Chain(kind="chain", order=("g",), tokens="g.ids", lengths="g.n")
    return drive(config, {"g": made}, {"x": np.zeros(1, np.float32)}, Decider()).tokens


def test_lengths_cut_the_rows():
    assert chained([1, 3]) == (5, 8, 9, 0)


@pytest.mark.parametrize("lengths", [[1], [1, 4], [-1, 3], [1, np.nan]])
def test_lengths_that_no_row_has_stop_the_chain(lengths):
    with pytest.raises(DriverStoppedError, match="for 2 row"):
        chained(lengths)


def test_ids_that_are_none_have_no_text(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"good": 0, "day": 1}, "good"))
    made.save(str(tmp_path / "tokenizer.json"))
    decode = detokenizer(Text(tokenizer=tmp_path / "tokenizer.json"), None, "here")
    assert decode is not None and decode([0, -1, 1, 1 << 40]) == "good day"
    table = detokenizer(None, ["good", "day"], "here")
    assert table is not None and table([0, -1]) == "good<-1>"
