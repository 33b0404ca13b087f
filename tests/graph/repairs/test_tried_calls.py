"""A layer that is tried with an argument that it does not take."""

from __future__ import annotations

import pytest

from exporter.core.errors import StageError
from exporter.graph.strategies import capture_openly
from tests.graph.repairs.models import holds, model

LAYERS = "self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)])"
TRIED = """\
for layer in self.layers:
    try:
        x = layer(x, lengths=x_lengths)
    except TypeError:
        x = layer(x)
return x + x_lengths[:, None, None]"""
LATE = """\
try:
    y = self.layers(x)
except RuntimeError:
    y = self.layers[0](x)
return y + x_lengths[:, None, None]"""


def test_a_call_that_fails_and_is_caught_is_forgotten(tmp_path):
    found = holds(model(tmp_path, TRIED, LAYERS, name="tried"), tmp_path, ([9, 2], [20, 3, 1]))
    (note,) = [note for note in found.notes if "tried_calls" in note]
    assert "a call of Linear that raises TypeError at" in note and "tried.py:14 (2 times)" in note
    assert "Tanh" in note


def test_so_is_one_that_fails_behind_its_first_layer(tmp_path):
    init = "self.layers = nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 4))"
    found = holds(model(tmp_path, LATE, init, name="tried_late"), tmp_path, ([9, 2], [20]))
    assert "RuntimeError" in "".join(found.notes)


def test_without_the_repair_torch_loses_its_place(tmp_path):
    wrapped = model(tmp_path, TRIED, LAYERS, name="tried_not_caught")
    with pytest.raises(StageError):
        capture_openly(wrapped, without=["tried_calls"])
