"""Pipelines of streams pass, and each way to call them wrongly is found and told."""

from __future__ import annotations

import pytest

from exporter.parity.status import Status
from tests.support.planted_stream_files import PLANTED_FILES, judged_file, stand_of
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


@pytest.fixture(scope="module")
def stands(tmp_path_factory):
    """Files of pipelines, each made once when it is first asked for."""
    held = {}

    def of(name: str):
        if name not in held:
            held[name] = stand_of(name, tmp_path_factory.mktemp(name))
        return held[name]

    return of


@pytest.mark.parametrize("name", PIPELINES)
def test_a_file_as_it_is_made_passes(stands, tmp_path, name):
    found = judged_file(stands(name), None, tmp_path)
    assert found.status is Status.PASS, found.reason


@pytest.mark.parametrize("planted", PLANTED_FILES, ids=lambda p: f"{p.pipeline}: {p.words}")
def test_a_fault_in_a_file_is_found(stands, tmp_path, planted):
    found = judged_file(stands(planted.pipeline), planted, tmp_path)
    assert found.status is Status.FAIL
    assert planted.told in found.reason, found.reason
    assert planted.where in str(found.where)


def test_each_file_has_four_faults_planted():
    counts = [sum(p.pipeline == name for p in PLANTED_FILES) for name in PIPELINES]
    assert min(counts) >= 4
