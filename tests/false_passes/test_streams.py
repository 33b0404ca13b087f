"""Streams that are wrong, where the first case is a stream: probes must be the whole of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exporter.contracts import ContractResult, Target, run_contracts
from exporter.core.errors import ConfigError, exit_code
from exporter.core.tensors import Axis, Case, TensorSpec
from exporter.parity.status import Status
from tests.contracts.zoo.toy import BATCH, features, output, subject
from tests.false_passes.way import Told, way

TIME = Axis(name="time", minimum=1)
KERNEL = 4
STREAMING = {"state": {"context": "next_context"}, "chunks": [2, 3, 5]}


class Stream(nn.Module):
    """A causal convolution that hands over its left context, with a fault of choice."""

    def __init__(self, fault: str = ""):
        super().__init__()
        self.conv = nn.Conv1d(4, 4, KERNEL)
        self.fault = fault

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat([context, x], dim=-1)
        y = self.conv(joined)
        kept = joined[..., -(KERNEL - 1) :] * 1.0
        if self.fault == "flipped rows":
            kept = kept.flip(0)
        if self.fault == "row 0 for all":
            kept = kept[:1].expand_as(kept) * 1.0
        if self.fault == "short context":
            kept = torch.cat([torch.zeros_like(kept[..., :1]), kept[..., 1:]], -1)
        if self.fault == "not handed on":
            kept = context * 1.0
        if self.fault == "lost samples":
            y = y[..., : y.shape[-1] - 1]
        if self.fault == "looks ahead":
            y = y + x.mean(-1, keepdim=True)
        return y, kept


def stream(fault: str = "", *, called: int = 1, whole: int = 24, zeros: int = 0) -> Target:
    """A stream whose only case is cut in calls of ``called`` steps; the first ``zeros`` are 0."""
    inputs = (
        TensorSpec(name="x", dtype="float32", shape=("batch", 4, "time"), axes=(BATCH, TIME)),
        TensorSpec(
            name="context", dtype="float32", shape=("batch", 4, 3), axes=(BATCH,), initial=0.0
        ),
    )
    outputs = (
        *output("batch", 4, "time"),
        *output("batch", 4, 3, name="next_context"),
    )
    made = subject(Stream(fault), inputs, outputs)
    x = np.random.default_rng(3).standard_normal((1, 4, whole)).astype(np.float32)
    x[..., :zeros] = 0.0
    entire = {"x": x, "context": np.zeros((1, 4, 3), np.float32)}
    calls = [{**entire, "x": x[..., k : k + called]} for k in range(0, whole, called)]
    case = Case(name="c", inputs=calls[0], later=tuple(calls[1:]), whole=entire, origin="drawn")
    return dataclasses.replace(made, cases=(case,))


def results(made: Target, **options: Any) -> dict[str, ContractResult]:
    streaming = {**STREAMING, **options.pop("streaming", {})}
    declared = {"lookahead_samples": {"y": 0}, "streaming": streaming, **options}
    declared["no_causality"] = {"next_context": "belongs to the last step"}
    found = run_contracts(made, {"causality": declared})
    return {result.name: result for result in found if result.side == "torch"}


def told(made: Target, row: str = "causality.streaming", **options: Any) -> Told:
    try:
        found = results(made, **options)[row]
    except ConfigError as error:
        return Told(exit_code=exit_code(error), text=str(error))
    good = found.status is Status.PASS
    return Told(exit_code=0 if good else 1, text=f"{found.status}: {found.reason}; {found.advice}")


@way("state that lands in another row, in a case of single steps", says="differs by")
def test_flipped_rows():
    return told(stream("flipped rows"))


@way("the state of row 0 for every row", says="differs by")
def test_row_zero_for_all():
    return told(stream("row 0 for all"))


@way("a context that is one sample too short, in a case of single steps", says="left context")
def test_short_context():
    return told(stream("short context"))


@way("samples lost in every chunk", says="has the shape")
def test_lost_samples():
    return told(stream("lost samples", called=6))


@way("a state that is never handed on", says="left context")
def test_not_handed_on():
    return told(stream("not handed on"))


@way("a stream that reads what comes after a chunk", says="the first chunk differs already")
def test_looks_ahead():
    return told(stream("looks ahead"))


@way("a short context behind digital silence that is longer than the probe", says="differs by")
def test_short_context_behind_silence():
    return told(stream("short context", whole=200, zeros=150))


@way("a short context in a case that is nothing but silence", says="differs by")
def test_short_context_in_silence():
    return told(stream("short context", zeros=24))


@way("chunks that take the whole input in one call", says="differs by")
def test_one_chunk():
    return told(stream("short context", whole=6, called=2), streaming={"chunks": [9]})


@way("every output is taken out of the comparison", says="nothing would be compared")
def test_nothing_compared():
    return told(stream("short context"), streaming={"not_streamed": {"y": "left out"}})


@way("a state that the contract forgets", says="'context' is not handed on")
def test_forgotten_state():
    return told(stream("short context"), streaming={"state": {}})


@way("a lookahead of an output that does not exist", says="output 'yy', which does not exist")
def test_unknown_output():
    return told(stream(), lookahead_samples={"yy": 0})


@way("a state that goes into an input that does not exist", says="did you mean 'context'")
def test_unknown_state():
    return told(stream(), streaming={"state": {"contxt": "next_context"}})


@way("a model that looks ahead, behind a case of single steps", says="really not causal")
def test_causality_of_the_whole():
    return told(stream("looks ahead"), row="causality")


class Flat(nn.Module):
    """An output that has one step, whatever the input has."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(-1, keepdim=True)


@way("an output that is declared causal and never grows with the input", says="as many steps")
def test_declared_output_that_does_not_follow():
    inputs = (
        TensorSpec(name="x", dtype="float32", shape=("batch", 4, "time"), axes=(BATCH, TIME)),
    )
    made = subject(Flat(), inputs, output("batch", 4, "steps"))
    found = run_contracts(made, {"causality": {"lookahead_samples": {"y": 0}}})[0]
    return Told(exit_code=0 if found.status is Status.PASS else 1, text=found.reason)


def test_the_extent_of_the_probe_is_not_advised_as_a_lookahead():
    found = results(stream("looks ahead", whole=64, called=64))["causality"]
    assert found.status is Status.FAIL and "all that the probe holds" in found.reason
    assert found.advice is not None and "declare lookahead" not in found.advice


def test_a_lookahead_of_a_few_steps_is_advised():
    layers = nn.Conv1d(4, 4, 5, padding=2)
    made = subject(layers, features(4, TIME), output("batch", 4, "time"))
    found = run_contracts(made, {"causality": None})[0]
    assert found.status is Status.FAIL
    assert found.advice is not None and "lookahead_samples: 2" in found.advice


class Bins(nn.Module):
    """Ids that depend on how long the input is, along a path that no gradient shows."""

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, 0] * x.shape[-1]).long()


def test_ids_that_move_are_counted_and_no_figure_is_infinite():
    made = subject(Bins(), features(4, TIME), output("batch", "time", dtype="int64"))
    found = run_contracts(made, {"causality": None})[0]
    text = f"{found.reason} {found.observed} {found.limit}"
    assert found.status is Status.FAIL
    assert "values, the first is" in text and "inf" not in text and "e-36" not in text


@pytest.mark.parametrize("called", [1, 5, 6])
@pytest.mark.parametrize("zeros", [0, 24])
def test_a_healthy_stream_passes(called, zeros):
    found = results(stream(called=called, zeros=zeros))
    assert {name: str(row.status) for name, row in found.items()} == {
        "causality": "pass",
        "causality.streaming": "pass",
    }
    assert "2 (" in found["causality.streaming"].reason


def test_a_chunk_that_takes_all_is_tried_on_a_longer_input():
    found = results(stream(whole=6, called=2), streaming={"chunks": [9]})["causality.streaming"]
    assert found.status is Status.PASS and "9 (3 calls)" in found.reason


def test_not_applicable_stays_what_it_is_beside_a_stream_that_passes():
    made = stream()
    options = {
        "no_causality": {"y": "not asked", "next_context": "not asked"},
        "streaming": STREAMING,
    }
    found = run_contracts(made, {"causality": options})
    rows = {row.name: row.status for row in found if row.side == "torch"}
    assert rows == {"causality": Status.NOT_APPLICABLE, "causality.streaming": Status.PASS}
