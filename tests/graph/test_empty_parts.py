"""``torch.cat`` that begins with ``torch.empty(0)`` is a Concat of the others."""

from __future__ import annotations

import pytest

from tests.graph.repairs.models import holds, model

CASES = ([9, 2], [30])


@pytest.mark.parametrize("parts", ["[kept, x, x * 2]", "[x, kept]", "[kept, x, kept]"])
def test_an_empty_tensor_of_one_axis_is_left_out(tmp_path, parts):
    forward = f"kept = torch.empty(0)\nreturn torch.cat({parts}, dim=1)"
    holds(model(tmp_path, forward, name="empty_model"), tmp_path, CASES)


def test_one_axis_that_holds_nothing_stays_where_all_have_one(tmp_path):
    forward = "kept = torch.empty(0)\nreturn torch.cat([kept, x.reshape(-1)])"
    holds(model(tmp_path, forward, name="flat_model"), tmp_path, CASES)
