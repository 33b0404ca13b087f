"""Rows of a batch that were copies of one another: what a row takes from another did not show."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exporter.contracts import Target, run_contracts
from exporter.contracts.compare.align import readings_of, reversals
from exporter.contracts.rows import alike, varied_rows
from exporter.core.tensors import Case, TensorSpec
from exporter.parity.status import Status
from tests.contracts.zoo.toy import BATCH, TIME, frames, output, subject
from tests.false_passes.way import Told, way

Y = output("batch", "time", 4)


class Conditioned(nn.Module):
    """Frames scaled by a language, a speaker and a speed; a fault takes one from another row."""

    def __init__(self, fault: str = ""):
        super().__init__()
        self.table = nn.Embedding(3, 4)
        self.voice = nn.Linear(6, 4)
        self.fault = fault

    def forward(self, x: Tensor, language: Tensor, speaker: Tensor, loud: Tensor) -> Tensor:
        if self.fault == "language":
            language = language[:1].expand_as(language)
        if self.fault == "speaker":
            speaker = speaker.mean(0, keepdim=True).expand_as(speaker)
        if self.fault == "flag":
            loud = loud[:1].expand_as(loud)
        bias = self.table(language) + self.voice(speaker) * torch.where(loud, 2.0, 1.0)[:, None]
        y = torch.tanh(x + bias[:, None])
        if self.fault == "peak":
            y = y * x.abs().amax().clamp(min=1e-3)
        return y


def conditioned(fault: str = "", **options: Any) -> Target:
    """One row of everything, so that the others have to be made."""
    inputs = (
        TensorSpec(name="x", dtype="float32", shape=("batch", "time", 4), axes=(BATCH, TIME)),
        TensorSpec(
            name="language",
            dtype="int64",
            shape=("batch",),
            axes=(BATCH,),
            choices={"zh": 0, "en": 1, "yue": 2},
        ),
        TensorSpec(name="speaker", dtype="float32", shape=("batch", 6), axes=(BATCH,)),
        TensorSpec(name="loud", dtype="bool", shape=("batch",), axes=(BATCH,)),
    )
    made = subject(Conditioned(fault), inputs, Y, **options)
    drawn = np.random.default_rng(5)
    values = {
        "x": drawn.standard_normal((1, 30, 4)).astype(np.float32),
        "language": np.array([1]),
        "speaker": drawn.standard_normal((1, 6)).astype(np.float32),
        "loud": np.array([True]),
    }
    return dataclasses.replace(made, cases=(Case(name="c", inputs=values, origin="drawn"),))


def told(contract: str, made: Target, side: str = "torch") -> Told:
    found = {row.side: row for row in run_contracts(made, {contract: None})}[side]
    text = f"{found.status}: {found.observed}; {found.reason}"
    return Told(exit_code=0 if found.status is Status.PASS else 1, text=text)


@way("row 0's language is used for all rows", says="moves by")
def test_language_of_row_zero():
    return told("padding", conditioned("language"))


@way("row 0's language is used for all rows, seen by another order", says="moves by")
def test_language_of_row_zero_in_another_order():
    return told("determinism", conditioned("language"))


@way("row 0's language for all rows of the ONNX file", says="moves by")
def test_language_of_row_zero_in_the_file():
    return told("padding", conditioned("language", with_onnx=True), side="onnx")


@way("the mean voice of the batch for every row", says="moves by")
def test_mean_speaker():
    return told("padding", conditioned("speaker"))


@way("row 0's flag for all rows", says="moves by")
def test_flag_of_row_zero():
    return told("padding", conditioned("flag"))


@way("a peak that is taken over the whole batch", says="moves by")
def test_peak_of_the_batch():
    return told("padding", conditioned("peak"))


class Turned(nn.Module):
    """Frames up to their lengths, scaled by one of two choices; a fault turns the rows round."""

    def __init__(self, fault: bool = False):
        super().__init__()
        self.fault = fault

    def forward(self, x: Tensor, x_lengths: Tensor, norm: Tensor, loud: Tensor) -> Tensor:
        if self.fault:
            norm, loud = norm.flip(0), loud.flip(0)
        here = torch.arange(x.shape[1])[None] < x_lengths[:, None]
        scale = norm.to(x.dtype) * torch.where(loud, 2.0, 1.0)
        return torch.tanh(x) * scale[:, None, None] * here[..., None].to(x.dtype)


def turned(fault: bool) -> Target:
    inputs = (
        TensorSpec(name="x", dtype="float32", shape=("batch", "time", 4), axes=(BATCH, TIME)),
        TensorSpec(name="x_lengths", dtype="int64", shape=("batch",), axes=(BATCH,)),
        TensorSpec(
            name="norm", dtype="int64", shape=("batch",), axes=(BATCH,), choices={"a": 14, "b": 15}
        ),
        TensorSpec(name="loud", dtype="bool", shape=("batch",), axes=(BATCH,)),
    )
    made = subject(Turned(fault), inputs, Y)
    values = {
        "x": np.random.default_rng(5).standard_normal((1, 30, 4)).astype(np.float32),
        "x_lengths": np.array([30]),
        "norm": np.array([14]),
        "loud": np.array([True]),
    }
    return dataclasses.replace(made, cases=(Case(name="c", inputs=values, origin="drawn"),))


@way(
    "rows take two choices from each other in reverse order, read the same both ways", says="moves"
)
def test_rows_turned_round():
    return told("padding", turned(fault=True))


def test_rows_that_keep_their_two_choices_pass():
    assert told("padding", turned(fault=False)).exit_code == 0


@pytest.mark.parametrize("contract", ["padding", "determinism", "shapes"])
def test_rows_that_are_kept_apart_pass(contract):
    assert told(contract, conditioned(with_onnx=True)).exit_code == 0
    assert told(contract, conditioned(with_onnx=True), side="onnx").exit_code == 0


def test_rows_differ_in_every_input_and_in_loudness_by_20_db():
    made = conditioned()
    one = dict(made.cases[0].inputs)
    rows = varied_rows(made, one, 3, axis=made.time_axis())
    assert alike(made, rows) == []
    assert all(np.array_equal(rows[0][name], one[name]) for name in one)
    peaks = [float(np.abs(row["x"]).max()) for row in rows]
    assert 20 * np.log10(max(peaks) / min(peaks)) > 20
    assert sorted(int(row["language"][0]) for row in rows) == [0, 1, 2]


def test_what_cannot_differ_is_said():
    made = conditioned()
    spec = dataclasses.replace(made.inputs[1], choices={})
    example = {**(made.example or {}), "language": torch.tensor([1, 1])}
    made = dataclasses.replace(
        made, inputs=(made.inputs[0], spec, *made.inputs[2:]), example=example
    )
    found = run_contracts(made, {"padding": None})[0]
    assert any("'language'" in line for line in found.details["not checked"])


class Codebooks(nn.Module):
    """Four results per row, in one axis: [batch * 4] or [4 * batch]."""

    def __init__(self, layout: str, fault: bool = False):
        super().__init__()
        self.mix = nn.Linear(4, 4)
        self.layout, self.fault = layout, fault

    def forward(self, x: Tensor) -> Tensor:
        found = torch.tanh(self.mix(x).mean(1))
        if self.fault:
            found = found + 0.1 * found.roll(1, 0)
        return found.reshape(-1) if self.layout == "row by row" else found.T.reshape(-1)


def codebooks(layout: str, fault: bool = False) -> Target:
    return subject(Codebooks(layout, fault), frames(), output("many"))


@pytest.mark.parametrize("layout", ["row by row", "column by column"])
@pytest.mark.parametrize("contract", ["determinism", "padding"])
def test_four_results_per_row_in_one_axis_are_no_alarm(layout, contract):
    assert told(contract, codebooks(layout)).exit_code == 0


@way("rows that are mixed, in an output of four results per row", says="moves by")
def test_mixed_rows_in_a_merged_axis():
    return told("determinism", codebooks("column by column", fault=True))


def test_readings_of_a_merged_axis():
    whole = np.arange(12)
    found = [whole[index].tolist() for index in readings_of((12,), (4,), 3, 1)]
    assert found == [[4, 5, 6, 7], [1, 4, 7, 10]]
    assert [v.tolist() for v in reversals(np.arange(4), 2, None)] == [
        [2, 3, 0, 1],
        [1, 0, 3, 2],
        [0, 1, 2, 3],
    ]
