"""What a case names and nothing reads: values of one's own were drawn instead, and it passed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from exporter.cases.at_lengths import sized_cases
from exporter.cases.load import load_cases
from exporter.config import load_pipeline
from exporter.core.errors import ExportVerifyError, exit_code
from exporter.core.tensors import Case
from exporter.models.factory import input_specs
from tests.false_passes.way import Told, way

RATE = 16000
YAML = """\
name: toy
model: {{factory: "toy_model:build"}}
inputs:
{inputs}
outputs: [y]
lengths: {lengths}
cases:
  - {case}
default_case: c
"""
SAMPLES = "  samples: {dtype: float32, shape: [batch, num_samples]}"
FRAMES = "  feats: {dtype: float32, shape: [batch, frames, 8]}"
LANGUAGE = "  language: {dtype: int64, shape: [batch], choices: {zh: 0, en: 1}}"
LENGTHS = "  samples_lengths: {dtype: int64, shape: [batch]}"


def recording(folder: Path, rate: int = RATE) -> np.ndarray:
    wave = np.sin(np.arange(3200) * 0.1).astype(np.float32) * 0.5
    soundfile.write(folder / "x.wav", wave, rate, subtype="FLOAT")
    return wave


def load(folder: Path, case: str, *inputs: str, lengths: str = "{}") -> tuple[Case, ...]:
    """The case, and the same at the lengths of the pipeline."""
    path = folder / "toy.yaml"
    path.write_text(YAML.format(inputs="\n".join(inputs), case=case, lengths=lengths))
    pipeline = load_pipeline(path)
    specs = input_specs(pipeline)
    loaded = load_cases(pipeline, specs, ["c"])
    return (*loaded, *sized_cases(pipeline, specs, loaded))


def told(folder: Path, case: str, *inputs: str, lengths: str = "{}") -> Told:
    try:
        load(folder, case, *inputs, lengths=lengths)
    except ExportVerifyError as error:
        return Told(exit_code=exit_code(error), text=str(error))
    return Told(exit_code=0, text="taken")


@way("a recording for a graph of features: random features are drawn", says="no input takes")
def test_recording_without_input(tmp_path):
    recording(tmp_path)
    return told(tmp_path, "{name: c, audio: x.wav}", FRAMES)


@way("a recording that two inputs could take goes into neither", says="name it: audio:")
def test_recording_for_one_of_two(tmp_path):
    recording(tmp_path)
    second = SAMPLES.replace("samples:", "reference:").replace("num_samples", "more")
    return told(tmp_path, "{name: c, audio: x.wav}", SAMPLES, second)


@way("a recording for an input that does not exist", says="cases[0].audio")
def test_recording_of_unknown_input(tmp_path):
    recording(tmp_path)
    return told(tmp_path, "{name: c, audio: {file: x.wav, input: sample}}", SAMPLES)


@way("a recording at another rate than the pipeline's", says="8000 Hz")
def test_recording_of_another_rate(tmp_path):
    recording(tmp_path, 8000)
    return told(tmp_path, "{name: c, audio: {file: x.wav, input: samples}}", SAMPLES)


@way("a recording for an input of features", says="cannot take a recording")
def test_recording_into_features(tmp_path):
    recording(tmp_path)
    return told(tmp_path, "{name: c, audio: {file: x.wav, input: feats}}", FRAMES)


@way("a value beside the recording of the same input", says="give one of the two")
def test_recording_and_value(tmp_path):
    recording(tmp_path)
    case = "{name: c, audio: {file: x.wav, input: samples}, inputs: {samples: 0.5}}"
    return told(tmp_path, case, SAMPLES)


@way("a value for an input that does not exist", says="inputs.langauge")
def test_value_of_unknown_input(tmp_path):
    case = "{name: c, random: {samples: {kind: normal}}, inputs: {langauge: en}}"
    return told(tmp_path, case, SAMPLES, LANGUAGE)


@way("a draw for an input that does not exist", says="no input 'sampels'")
def test_draw_of_unknown_input(tmp_path):
    return told(tmp_path, "{name: c, random: {sampels: {kind: normal}}}", SAMPLES)


@way("a draw that has a value as well, which nobody reads", says="give one of the two")
def test_drawn_and_written(tmp_path):
    case = "{name: c, random: {language: {kind: integers}}, inputs: {language: en}}"
    return told(tmp_path, case, SAMPLES, LANGUAGE)


@way("a size of an axis that the input has not", says="no axis 'frames'")
def test_size_of_unknown_axis(tmp_path):
    case = "{name: c, random: {samples: {kind: normal, sizes: {frames: 9}}}}"
    return told(tmp_path, case, SAMPLES)


@way("an output that does not exist is declared to be empty", says="no output 'tokens'")
def test_unknown_output_is_empty(tmp_path):
    case = "{name: c, random: {samples: {kind: normal}}, expect_empty: [tokens]}"
    return told(tmp_path, case, SAMPLES)


@way("lengths of an input that does not exist", says="did you mean 'samples'")
def test_lengths_of_unknown_input(tmp_path):
    case = "{name: c, random: {samples: {kind: normal}}}"
    return told(tmp_path, case, SAMPLES, lengths="{sample: [100]}")


@way("lengths of an input that has no length", says="no axis of 'language' varies")
def test_lengths_of_a_batch(tmp_path):
    case = "{name: c, random: {samples: {kind: normal}}}"
    return told(tmp_path, case, SAMPLES, LANGUAGE, lengths="{language: [100]}")


@way("more rows of choices than of what is drawn", says="axis 0 ('batch')")
def test_rows_that_do_not_fit(tmp_path):
    drawn = "random: {samples: {kind: normal, shape: [3, 100]}}"
    case = f"{{name: c, {drawn}, inputs: {{language: [zh, en]}}}}"
    return told(tmp_path, case, SAMPLES, LANGUAGE)


@way("half a number for an input of integers is cut off", says="whole numbers")
def test_fractions_of_integers(tmp_path):
    case = "{name: c, random: {samples: {kind: normal}}, inputs: {speaker: 1.5}}"
    return told(tmp_path, case, SAMPLES, "  speaker: {dtype: int64, shape: []}")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("[num_samples]", (3200,)), ("[batch, num_samples]", (1, 3200)), ("[N, 1, n]", (1, 1, 3200))],
)
def test_the_only_input_of_samples_takes_the_recording_and_it_is_said(tmp_path, shape, expected):
    wave = recording(tmp_path)
    (case,) = load(
        tmp_path, "{name: c, audio: x.wav}", f"  sig: {{dtype: float32, shape: {shape}}}", FRAMES
    )
    assert case.inputs["sig"].shape == expected
    assert np.array_equal(case.inputs["sig"].reshape(-1), wave)
    assert "x.wav" in case.origin and "as 'sig'" in case.origin


def test_a_recording_names_its_input_and_the_other_one_is_drawn(tmp_path):
    wave = recording(tmp_path)
    second = SAMPLES.replace("samples:", "reference:").replace("num_samples", "more")
    (case,) = load(
        tmp_path, "{name: c, audio: {file: x.wav, input: reference}}", SAMPLES, second, LENGTHS
    )
    assert np.array_equal(case.inputs["reference"][0], wave)
    assert case.inputs["samples"].shape[0] == 1


def test_lengths_of_a_recorded_input_follow_it(tmp_path):
    recording(tmp_path)
    (case,) = load(tmp_path, "{name: c, audio: x.wav}", SAMPLES, LENGTHS)
    assert case.inputs["samples_lengths"].tolist() == [3200]


def test_choices_work_per_row(tmp_path):
    drawn = "{name: c, random: {samples: {kind: normal, shape: [2, 100]}}, inputs: "
    (case,) = load(tmp_path, drawn + "{language: [zh, en]}}", SAMPLES, LANGUAGE)
    assert case.inputs["language"].tolist() == [0, 1]
    (case,) = load(tmp_path, drawn + "{language: en}}", SAMPLES, LANGUAGE)
    assert case.inputs["language"].tolist() == [1, 1]


def test_a_recording_is_given_to_as_many_rows_as_there_are_choices(tmp_path):
    wave = recording(tmp_path)
    (case,) = load(
        tmp_path, "{name: c, audio: x.wav, inputs: {language: [zh, en]}}", SAMPLES, LANGUAGE
    )
    assert case.inputs["samples"].shape == (2, 3200)
    assert np.array_equal(case.inputs["samples"][1], wave)


def test_lengths_move_the_axis_that_varies_and_all_inputs_that_have_it(tmp_path):
    mask = "  gain: {dtype: float32, shape: [batch, frames]}"
    counts = "  feats_lengths: {dtype: int64, shape: [batch]}"
    case = "{name: c, random: {feats: {kind: normal, shape: [2, 30, 8]}}}"
    _, by_input, by_axis = load(
        tmp_path, case, FRAMES, mask, counts, lengths="{feats: [13], frames: [40]}"
    )
    assert by_input.inputs["feats"].shape == (2, 13, 8)
    assert by_input.inputs["gain"].shape == (2, 13)
    assert by_input.inputs["feats_lengths"].tolist() == [13, 13]
    assert by_axis.inputs["feats"].shape == (2, 40, 8)
