"""A capture that fails in every way names the line of the user's code and what to change in it."""

from __future__ import annotations

import sys

import pytest

from exporter.core.errors import StageError
from exporter.graph.refused_line import change_of
from exporter.graph.strategies import capture_openly
from tests.graph.test_strategies import ADDED, model

LOOP = (
    "y = x[:, 0]\nfor at in range(1, x.shape[1]):\n    if at == 5: break\n"
    "    y = y * 0.5 + x[:, at]\n"
    f"return y + {ADDED}[..., 0]"
)
REFUSED = {
    "a loop over an axis": (LOOP, 11, "torch.nn", "freezes 'frames' at the example's 12"),
    "a branch on values": (
        f"y = x * 2\nif x.sum() > 0:\n    y = -y\nreturn y + {ADDED}",
        11,
        "torch.where",
        "mask or torch.where",
    ),
    "a mask that picks rows, in a branch": (
        f"rows = x[x_lengths > 1]\nreturn x + (1 if rows.shape[0] > 1 else 2) + {ADDED}",
        11,
        "compute both",
        "mask or torch.where",
    ),
    "a later obstacle than the repaired one": (
        f"n = int(x_lengths.max())\ny = x[:, :n]\nif y.sum() > 0:\n    y = -y\nreturn y + {ADDED}",
        12,
        "torch.where",
        "mask or torch.where",
    ),
}


@pytest.fixture(autouse=True)
def _forgotten():
    yield
    sys.modules.pop("my_model", None)


@pytest.mark.parametrize("name", REFUSED)
def test_the_line_the_pattern_and_the_change_are_named(tmp_path, name):
    forward, line, change, advice = REFUSED[name]
    with pytest.raises(StageError) as raised:
        capture_openly(model(tmp_path, forward))
    assert raised.value.source.endswith(f"my_model.py:{line}")
    remedy = str(raised.value.remedy)
    code = forward.splitlines()[line - 10].strip()
    assert change in remedy and advice in remedy and code in remedy


def test_a_line_without_a_known_pattern_gives_no_change(tmp_path):
    (tmp_path / "m.py").write_text("y = x + 1\nfor t in range(n):\n")
    assert change_of(f"{tmp_path}/m.py:1") == change_of("gone.py:7") == change_of("") == ""
    assert "recurrent layer" in change_of(f"{tmp_path}/m.py:2")
