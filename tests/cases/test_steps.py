"""Cases in several calls: what each call is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporter.cases.load import load_cases
from exporter.config import load_pipeline
from exporter.core.errors import ConfigError
from exporter.core.tensors import Axis, Case, TensorSpec

YAML = """
name: talk
model: {{kind: sensevoice}}
outputs: [y]
cases:
  - name: c
    random: {{x: {{kind: normal, seed: 1, sizes: {{batch: 2, frames: {frames}}}}}}}
    inputs: {{start: 5, x_lengths: [{frames}, {frames}]}}
    steps: {steps}
default_case: c
"""
BATCH, FRAMES = Axis(name="batch"), Axis(name="frames")
SPECS = (
    TensorSpec(name="x", dtype="float32", shape=("batch", "frames", 3), axes=(BATCH, FRAMES)),
    TensorSpec(name="x_lengths", dtype="int64", shape=("batch",), axes=(BATCH,)),
    TensorSpec(name="start", dtype="int64", shape=()),
    TensorSpec(name="state", dtype="float32", shape=("batch", 4), axes=(BATCH,), initial=0.0),
)


def loaded(folder: Path, steps: str, frames: int = 11) -> Case:
    path = folder / "talk.yaml"
    path.write_text(YAML.format(steps=steps, frames=frames), encoding="utf-8")
    return load_cases(load_pipeline(path), SPECS, ["c"])[0]


def sizes(case: Case) -> list[int]:
    return [call["x"].shape[1] for call in (case.inputs, *case.later)]


def test_a_number_is_that_many_steps_of_one_behind_what_is_left(tmp_path):
    assert sizes(loaded(tmp_path, "4")) == [7, 1, 1, 1, 1]


def test_a_size_alone_cuts_everything_and_drops_what_is_left(tmp_path):
    assert sizes(loaded(tmp_path, "{size: 4}")) == [4, 4]


def test_steps_of_a_size(tmp_path):
    assert sizes(loaded(tmp_path, "{count: 2, size: 3}")) == [5, 3, 3]
    assert sizes(loaded(tmp_path, "{count: 2, size: 3}", frames=6)) == [3, 3]


def test_the_calls_together_are_the_whole(tmp_path):
    whole = loaded(tmp_path, "null").inputs["x"]
    case = loaded(tmp_path, "{count: 3, size: 2}")
    parts = [call["x"] for call in (case.inputs, *case.later)]
    assert np.array_equal(np.concatenate(parts, axis=1), whole)
    assert loaded(tmp_path, "null").later == ()


def test_lengths_follow_the_piece_and_the_position_counts(tmp_path):
    case = loaded(tmp_path, "{count: 2, position: start}")
    assert [call["x_lengths"].tolist() for call in (case.inputs, *case.later)] == [
        [9, 9],
        [1, 1],
        [1, 1],
    ]
    assert [int(call["start"]) for call in (case.inputs, *case.later)] == [5, 14, 15]
    assert [int(call["start"]) for call in loaded(tmp_path, "2").later] == [5, 5]


def test_state_begins_in_the_size_of_the_batch(tmp_path):
    case = loaded(tmp_path, "2")
    assert case.inputs["state"].shape == (2, 4) and not case.inputs["state"].any()


def test_another_axis_may_be_cut(tmp_path):
    case = loaded(tmp_path, "{size: 1, axis: batch}")
    assert case.inputs["x"].shape == (1, 11, 3) and len(case.later) == 1
    assert loaded(tmp_path, "{size: 1, input: x, axis: 2}").inputs["x"].shape == (2, 11, 1)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("12", "11 are not enough"),
        ("{size: 6}", "11 are not enough"),
        ("{input: y}", r"no input can be cut into steps \(y\)"),
        ("{axis: samples}", r"no input can be cut into steps \(samples\)"),
        ("{count: 1, position: x}", "'x' is no input of integers"),
        ("{count: 1, position: begin}", "'begin' is no input of integers"),
        ("0", "cases.0..steps"),
        ("{conut: 1}", "unknown key"),
    ],
)
def test_steps_that_cannot_be_are_refused_with_their_place(tmp_path, steps, said):
    with pytest.raises(ConfigError, match=said) as caught:
        loaded(tmp_path, steps)
    assert "talk.yaml:9: cases[0].steps" in str(caught.value)
