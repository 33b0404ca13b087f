"""Values that no pipeline has: long paths, NUL, users that do not exist, sizes beyond memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.cases.at_lengths import sized_cases
from exporter.cases.load import load_cases
from exporter.config import load_pipeline
from exporter.core.errors import ConfigError, WeightsError
from exporter.graph.wrap import wrap
from exporter.models.weights import resolve_weights
from tests.support.toy_project import YAML, project

LONG, NUL, NOBODY = "x" * 5000, '"a\\0b"', "~nobody/x"
PATHS = (LONG, f"{'a/' * 3000}b", NUL, NOBODY, '"\\ud800"', "/dev/zero")


def loaded(path: Path, text: str) -> None:
    """Everything that a command reads before it exports."""
    project(path.parent, yaml=text)
    pipeline = load_pipeline(path, trust=True)
    wrapped = wrap(pipeline)
    cases = load_cases(pipeline, wrapped.inputs, [case.name for case in pipeline.cases])
    sized_cases(pipeline, wrapped.inputs, cases)


@pytest.mark.parametrize("path", [LONG, "a\0b", "~nobody/x.yaml", "\ud800", "a/" * 3000])
def test_a_path_that_no_file_has(path):
    with pytest.raises(ConfigError):
        load_pipeline(path)
    with pytest.raises(WeightsError):
        resolve_weights(path, seed=0)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "line",
    [
        "extends: {}\n",
        "cases: [{{name: a, audio: {}}}]\ndefault_case: a\n",
        "cases: [{{name: a, audio: {{file: {}, input: x}}}}]\ndefault_case: a\n",
    ],
)
def test_a_path_in_a_pipeline_that_no_file_has(tmp_path, line, path):
    text = YAML.split("cases:")[0] + line.format(path)
    with pytest.raises(ConfigError) as told:
        loaded(tmp_path / "toy.yaml", text)
    assert "toy.yaml:" in str(told.value)


@pytest.mark.parametrize("path", PATHS[:5])
def test_weights_that_no_file_has(tmp_path, path):
    text = YAML.replace('"toy_model:build"', f'"toy_model:build", weights: {path}')
    with pytest.raises((ConfigError, WeightsError)):
        loaded(tmp_path / "toy.yaml", text)


ABSURD = ("1e30", "10000000000", "9" * 6000, "0x" + "f" * 6000, ".inf", ".nan", "-1", "[1]", "null")


@pytest.mark.parametrize("size", ABSURD)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("sizes: {batch: 2, frames: 40}", "sizes: {{batch: 2, frames: {}}}"),
        ("sizes: {batch: 2, frames: 40}", "shape: [2, {}, 16]"),
        ("seed: 1, sizes: {batch: 2, frames: 40}", "num_samples: {}"),
        ("default_case: noise", "default_case: noise\nlengths: {{x: [{}]}}"),
        ("minimum: 1, example: 17", "minimum: {}"),
        ("[batch, frames, 16]", "[batch, frames, {}]"),
    ],
)
def test_a_size_that_no_input_has(tmp_path, old, new, size):
    text = YAML.replace(old, new.format(size))
    assert text != YAML
    try:
        loaded(tmp_path / "toy.yaml", text)
    except ConfigError as told:
        assert told.remedy
    else:
        assert size == "null"  # as if nothing were said


def test_a_healthy_pipeline_is_loaded(tmp_path):
    loaded(tmp_path / "toy.yaml", YAML)


def test_settings_that_would_build_for_hours(tmp_path):
    path = tmp_path / "x.yaml"
    tiny = Path(__file__).parents[2] / "pipelines" / "fsmn_vad_tiny.yaml"
    path.write_text(f"extends: {tiny}\nname: x\nmodel: {{settings: {{fsmn_layers: 1000000}}}}\n")
    with pytest.raises(ConfigError, match="fsmn_layers"):
        wrap(load_pipeline(path))
