"""A batch as served: lengths, languages and loudness mixed; what a row does to another is found."""

from __future__ import annotations

import pytest

from exporter.parity.status import Status
from tests.support.planted_rows import FAULTS, judged_rows

pytestmark = pytest.mark.slow
WHERE = dict.fromkeys(FAULTS, "model") | {"lengths ignored": "encoders0.0.self_attn"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_row_is_what_it_is_alone(fault):
    found = judged_rows(fault)
    assert found.status is (Status.FAIL if fault else Status.PASS), found.reason
    *moved, kept = found.details["rows by module"]
    assert "as it is alone" in kept and bool(moved) == bool(fault)
    if fault:
        assert found.where is not None and WHERE[fault] in found.where.module, found.where
