"""A contract that is switched off is no pass, and it takes words to switch it off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from exporter.config import load_pipeline
from exporter.contracts import declared_settings, run_contracts
from exporter.core.errors import ExportVerifyError, exit_code
from exporter.flows.report_parts import switched_off
from exporter.report.schema import ContractRecord
from tests.contracts.zoo.toy import frames, output, subject
from tests.false_passes.way import Told, way
from tests.support.toy_project import YAML, project


def declared(folder: Path, contracts: str) -> Told:
    path = project(folder, yaml=f"{YAML}contracts: {contracts}\n")
    pipeline = load_pipeline(path)
    try:
        declared_settings(pipeline.contracts, pipeline=pipeline)
    except ExportVerifyError as error:
        return Told(exit_code=exit_code(error), text=str(error))
    return Told(exit_code=0, text="taken")


@way("not_applicable of blanks switches a contract off", says="say in words")
def test_blanks(tmp_path):
    return declared(tmp_path, '{padding: {not_applicable: "  "}}')


@way("not_applicable of dots switches a contract off", says="say in words")
def test_dots(tmp_path):
    return declared(tmp_path, '{padding: {not_applicable: "..."}}')


@way("an empty reason takes an output out of causality", says="say in words")
def test_empty_no_causality(tmp_path):
    return declared(tmp_path, '{causality: {no_causality: {y: " "}}}')


@way("an empty reason takes an output out of streaming", says="say in words")
def test_empty_not_streamed(tmp_path):
    return declared(tmp_path, '{causality: {streaming: {state: {}, not_streamed: {y: "-"}}}}')


@way("a signal that does not exist, so that none is tried", says="contracts.silence.signals")
def test_unknown_signal(tmp_path):
    return declared(tmp_path, "{silence: {signals: [silense]}}")


@way("no signals at all", says="contracts.silence.signals")
def test_no_signals(tmp_path):
    return declared(tmp_path, "{silence: {signals: []}}")


@way("something is expected of a signal that is not tried", says="which is not tried")
def test_expected_of_a_signal_that_is_not_tried(tmp_path):
    expect = "expect: {silence: {y: empty}}"
    return declared(tmp_path, f"{{silence: {{signals: [nan], {expect}}}}}")


def named(contract: str, **options: Any) -> Told:
    made = subject(nn.Linear(4, 4), frames(), output("batch", "time", 4))
    try:
        run_contracts(made, {contract: options})
    except ExportVerifyError as error:
        return Told(exit_code=exit_code(error), text=str(error))
    return Told(exit_code=0, text="taken")


@way("an output that does not exist is expected to be empty in silence", says="output 'tokens'")
def test_expected_of_unknown_output():
    return named("silence", expect={"silence": {"tokens": "empty"}})


@way("sizes of an axis that does not exist", says="did you mean 'time'")
def test_sizes_of_unknown_axis():
    return named("shapes", sizes={"times": (5,)})


@way("lengths that are in no input", says="input 'x_lens', which does not exist")
def test_lengths_of_unknown_input():
    return named("padding", lengths={"x": "x_lens"})


def test_a_reason_in_words_is_taken(tmp_path):
    assert declared(tmp_path, "{padding: {not_applicable: one row only}}").exit_code == 0


@pytest.mark.parametrize("word", ["推論のみ", "n/a here", "x"])
def test_words_of_any_language_are_words(tmp_path, word):
    assert declared(tmp_path, f'{{padding: {{not_applicable: "{word}"}}}}').exit_code == 0


def test_what_is_off_is_listed_as_not_checked(tmp_path):
    pipeline = load_pipeline(project(tmp_path, yaml=YAML + "contracts: {silence: false}\n"))
    record = ContractRecord(
        name="padding", side="torch", verdict="not applicable", reason="one row only"
    )
    lines = switched_off(pipeline, [record, record.model_copy(update={"side": "onnx"})])
    assert lines == [
        "contract 'padding' (torch, onnx): not applicable: one row only",
        "contract 'silence': switched off",
    ]
