"""Pipelines of streams pass, and each way to call them wrongly is found and told."""

from __future__ import annotations

import pytest

from exporter.parity.status import Status
from tests.support.planted_streams import PIPELINES, PLANTED, judged, load

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built():
    """Pipelines, each built once when it is first asked for."""
    held = {}

    def of(name: str):
        if name not in held:
            held[name] = load(name)
        return held[name]

    return of


@pytest.mark.parametrize("name", PIPELINES)
def test_a_stream_called_rightly_passes(built, name):
    found = judged(*built(name))
    assert found.status is Status.PASS, found.reason


@pytest.mark.parametrize("planted", PLANTED, ids=lambda p: f"{p.pipeline}: {p.words}")
def test_a_stream_called_wrongly_is_told_what_is_wrong(built, planted):
    found = judged(*built(planted.pipeline), planted)
    assert found.status is Status.FAIL
    assert planted.told in found.reason, found.reason


def test_each_pipeline_has_four_faults_planted():
    counts = [sum(p.pipeline == name for p in PLANTED) for name in PIPELINES]
    assert min(counts) >= 4
