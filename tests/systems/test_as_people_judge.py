"""Sound and embeddings that come out of a system: measured, judged, and never green by absence."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.config.load_system import load_system
from exporter.config.system import Judged
from exporter.parity.status import Status, worst
from exporter.systems.judge_case import as_people_judge, of_all
from tests.config.test_load_system import written

VECTOR = np.array([[1.0, 2.0, -1.0]])
SOUND = np.sin(np.arange(4000) * 0.2)[None]


def judged(tmp_path, section, expected, actual):
    system = load_system(written(tmp_path))
    system = system.model_copy(update={"judge": Judged.model_validate(section)})
    found, statuses = as_people_judge(system, expected, actual)
    return found, worst(status for status, _ in statuses) if statuses else None


@pytest.mark.parametrize(
    ("actual", "status"),
    [
        ({"second.y": VECTOR * 3}, None),
        ({"second.y": VECTOR + 0.1}, Status.FAIL),
        ({"second.y": VECTOR * 0}, Status.NOT_RUN),
        ({"second.y": VECTOR * np.nan}, Status.NOT_RUN),
        ({"second.z": VECTOR}, Status.NOT_RUN),
        ({}, Status.NOT_RUN),
    ],
)
def test_an_embedding_is_judged_by_its_direction(tmp_path, actual, status):
    section = {"embeddings": {"output": "y"}}
    found, held = judged(tmp_path, section, {"second.y": VECTOR}, actual)
    assert held is status
    assert (found["cosine"] is None) == (status is Status.NOT_RUN)


@pytest.mark.parametrize(
    ("actual", "status"),
    [
        ({"second.y": SOUND * 0.5}, Status.PASS),
        ({"second.y": SOUND + np.random.default_rng(0).standard_normal(4000)}, Status.FAIL),
        ({"second.y": SOUND[:, 1:]}, Status.FAIL),
        ({"second.y": SOUND * np.nan}, Status.FAIL),
        ({"second.z": SOUND}, Status.NOT_RUN),
    ],
)
def test_a_sound_is_judged_by_its_distortion(tmp_path, actual, status):
    section = {"waveforms": {"outputs": ["y"], "min_si_sdr_db": 40.0}}
    found, held = judged(tmp_path, section, {"second.y": SOUND}, actual)
    assert held is status
    if status is Status.PASS:
        assert found["heard"][0].level_db == pytest.approx(-6.02, abs=0.01)


def test_silence_has_no_distortion_and_does_not_pass_where_one_is_asked_for(tmp_path):
    section = {"waveforms": {"outputs": ["y"], "min_si_sdr_db": 40.0}}
    silent = {"second.y": SOUND * 0}
    assert judged(tmp_path, section, silent, silent)[1] is Status.FAIL


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([], Status.NOT_RUN),
        ([Status.PASS, Status.PASS], Status.PASS),
        ([Status.EMPTY_AS_DECLARED, Status.PASS], Status.EMPTY_AS_DECLARED),
        ([Status.EMPTY_AS_DECLARED, Status.FAIL, Status.NOT_RUN], Status.FAIL),
        ([Status.PASS, Status.EMPTY_AS_DECLARED], Status.PASS),
        ([Status.PASS, Status.AMBIGUOUS], Status.AMBIGUOUS),
        ([Status.PASS, Status.NOT_RUN], Status.NOT_RUN),
    ],
)
def test_an_empty_hypothesis_is_no_pass_whatever_agrees_beside_it(parts, status):
    assert of_all([(part, part.value) for part in parts]) == (
        (status, status.value) if parts else (status, "nothing came out")
    )
