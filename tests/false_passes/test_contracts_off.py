"""A contract that is switched off is no pass, and it takes words to switch it off."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.config import load_pipeline
from exporter.contracts import declared_settings
from exporter.errors import ExportVerifyError, exit_code
from exporter.make_report import _switched_off
from exporter.report.schema import ContractRecord
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
    lines = _switched_off(pipeline, [record, record.model_copy(update={"side": "onnx"})])
    assert lines == [
        "contract 'padding' (torch, onnx): not applicable: one row only",
        "contract 'silence': switched off",
    ]
