"""From taps to the run: the worst counts, gaps in coverage fail, nothing is dropped."""

from __future__ import annotations

import pytest

from exporter.parity.rollup import Coverage, link_verdict, rollup
from exporter.parity.status import Status, Who
from exporter.parity.verdict import Verdict


def tap(name: str, status: Status, strain: float | None = None, *, weak: bool = False) -> Verdict:
    return Verdict(
        name=name, status=status, who=Who.UNKNOWN, reason=f"of {name}", strain=strain, weak=weak
    )


def full(taps: int, **more) -> Coverage:
    return Coverage(expected=taps, compared=taps, fused=0, missing=0, **more)


PASSED = tap("a", Status.PASS)
FAILED = tap("b", Status.FAIL)
AMBIGUOUS = tap("c", Status.AMBIGUOUS)
NOT_RUN = tap("d", Status.NOT_RUN)


def test_a_layer_is_as_good_as_its_worst_tap():
    layer = rollup("layer", [PASSED, FAILED, AMBIGUOUS])
    assert (layer.status, layer.worst, layer.reason) == (Status.FAIL, "b", "of b")
    assert layer.counts == {Status.PASS: 1, Status.FAIL: 1, Status.AMBIGUOUS: 1}


def test_among_failed_taps_the_furthest_beyond_its_limit_decides():
    layer = rollup("layer", [tap("x", Status.FAIL, 2.0), tap("y", Status.FAIL, 9.0), FAILED])
    assert layer.worst == "y"


def test_a_layer_without_taps_is_not_run():
    assert rollup("layer", []).status is Status.NOT_RUN


def test_counts_are_of_taps_at_every_level():
    link = rollup("link", [rollup("one", [PASSED, PASSED]), rollup("two", [PASSED])])
    assert link.counts == {Status.PASS: 3}


def test_weak_passes_are_counted():
    layer = rollup("layer", [tap("x", Status.PASS, weak=True), PASSED])
    assert rollup("link", [layer]).weak == 1


def test_a_link_with_all_its_taps_passes():
    assert link_verdict("link", [rollup("l", [PASSED])], full(1)).status is Status.PASS


@pytest.mark.parametrize(
    "coverage",
    [
        Coverage(expected=10, compared=8, fused=1, missing=1),
        Coverage(expected=10, compared=5, fused=0, missing=5, minimum=0.6),
        Coverage(expected=10, compared=0, fused=10, missing=0),
        Coverage(expected=10, compared=9, fused=0, missing=0, minimum=0.5),
    ],
)
def test_a_link_with_too_few_compared_taps_fails(coverage):
    link = link_verdict("link", [rollup("l", [PASSED])], coverage)
    assert link.status is Status.FAIL
    assert "taps" in link.reason


def test_missing_taps_pass_within_the_declared_coverage():
    coverage = Coverage(expected=10, compared=8, fused=1, missing=1, minimum=0.9)
    assert link_verdict("link", [rollup("l", [PASSED])], coverage).status is Status.PASS


def test_a_failed_layer_is_shown_rather_than_the_gap():
    coverage = Coverage(expected=10, compared=8, fused=0, missing=2)
    assert link_verdict("link", [FAILED], coverage).reason == "of b"
