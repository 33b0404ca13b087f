"""``chunk`` of an axis that is known to be a multiple gives as many parts at every size."""

from __future__ import annotations

import pytest

from exporter.core.errors import StageError
from exporter.graph.strategies import capture_openly
from tests.graph.repairs.models import holds, model

CASES = ([9, 2, 5, 1], [30], [3, 17])
BOTH = "both = torch.cat([x, x.flip(0)], dim=0)\n"


@pytest.mark.parametrize(
    "parted",
    [
        "a, b = both.chunk(2, dim=0)",
        "a, b = torch.chunk(both, chunks=2)",
        "a, b = torch.chunk(input=both, chunks=2, dim=0)",
    ],
)
def test_halves_of_what_was_joined(tmp_path, parted):
    found = holds(
        model(tmp_path, f"{BOTH}{parted}\nreturn a - 2 * b", name="halves_model"), tmp_path, CASES
    )
    assert [note for note in found.notes if "'equal_parts'" in note and "halves_model.py:" in note]


def test_parts_of_an_axis_that_is_no_known_multiple_are_refused(tmp_path):
    forward = "a, b = x.chunk(2, dim=1)\nreturn a.sum(1) + b.sum(1)"
    with pytest.raises(StageError, match="frames"):
        capture_openly(model(tmp_path, forward, name="halves_refused"))
