"""One record of options: what it takes, what it refuses, and that every flow reads the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.config import load_pipeline
from exporter.config.run_options import RunOptions
from exporter.core.errors import UserInputError
from tests.support.tiny_export import TINY


def test_single_fields_win_over_the_record():
    options = RunOptions(threads=2, weights="w")
    found = RunOptions.given(options, {"threads": 1, "output_dir": "here", "cases": ["a"]})
    assert (found.threads, found.weights, found.cases) == (1, "w", ("a",))
    assert found.output_dir == Path("here") and options.threads == 2


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"thread": 1}, "option thread:"),
        ({"threads": 0}, "option threads:"),
        ({"memory_budget": -1}, "option memory_budget:"),
        ({"cases": "english"}, "option cases:"),
        ({"audio": "my.wav"}, "option audio:"),
        ({"output_dir": 3}, "option output_dir:"),
    ],
)
def test_what_no_option_can_be_is_the_users_error(fields, said):
    with pytest.raises(UserInputError, match=said) as caught:
        RunOptions.given(None, fields)
    assert "memory_budget" in (caught.value.remedy or "")


def test_a_path_and_a_pipeline_open_alike_with_the_weights_that_are_asked_for():
    options = RunOptions(weights="other.pt")
    by_path, given = options.opened(TINY), options.opened(load_pipeline(TINY))
    assert by_path == given and by_path.model.weights == "other.pt"
    assert options.opened(given) == given


def test_code_runs_only_for_whoever_trusts_it(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nmodel: {factory: 'os:getcwd'}\noutputs: [y]\n"
        "inputs: {x: {dtype: float32, shape: [batch, 4]}}\n"
        "cases: [{name: c, random: {x: {kind: normal, shape: [2, 4]}}}]\ndefault_case: c\n"
    )
    with pytest.raises(UserInputError, match="this pipeline runs code: os:getcwd"):
        RunOptions().opened(path)
    assert RunOptions(trust=True).opened(path).trusted
    assert RunOptions().opened(load_pipeline(path, trust=True)).trusted


def test_words_lead_another_command_to_the_same_run():
    pipeline = load_pipeline(TINY)
    assert RunOptions().words(pipeline) == []
    assert RunOptions(output_dir=Path("runs/sensevoice_tiny")).words(pipeline) == []
    found = RunOptions(output_dir=Path("elsewhere"), weights="w").words(pipeline)
    assert found == ["--output-dir", "elsewhere", "--weights", "w"]
