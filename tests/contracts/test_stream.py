"""Windows against the whole: what is right passes, each way to be wrong is told from the others."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exporter.cases.windows import cut_stream
from exporter.config.stream import Stream
from exporter.contracts.runner import run_contracts
from exporter.contracts.stream import lookahead
from exporter.core.errors import ConfigError
from exporter.core.tensors import Axis, Case, TensorSpec
from exporter.parity.status import Status
from exporter.report.schema import ContractRecord
from exporter.report.seams import seam_plot
from tests.support.target_from_module import target_from_module

W = 4
INPUTS = (
    TensorSpec.of("x", "float32", Axis(name="batch"), Axis(name="frames"), W),
    TensorSpec.of("cache", "float32", Axis(name="batch"), 2, W, initial=0.0),
    TensorSpec.of("seen", "int64", Axis(name="batch"), initial=0),
)
OUTPUTS = (
    TensorSpec.of("y", "float32", Axis(name="batch"), Axis(name="frames"), W),
    TensorSpec.of("next_cache", "float32", Axis(name="batch"), 2, W),
    TensorSpec.of("next_seen", "int64", Axis(name="batch")),
)
STATES = {"next_cache": "cache", "next_seen": "seen"}


class Toy(nn.Module):
    """A causal convolution with a cache, positions, and a convolution that looks ahead.

    Args:
        ahead: frames that the second convolution looks ahead.
        fault: what is done wrongly, in ``forward`` (a window) or in ``whole``.
    """

    def __init__(self, ahead: int = 0, fault: str = ""):
        super().__init__()
        torch.manual_seed(0)
        self.behind = nn.Conv1d(W, W, 3)
        self.ahead = nn.Conv1d(W, W, ahead + 1)
        self.fault = fault

    def _mixed(self, held: Tensor, seen: Tensor) -> Tensor:
        x = self.behind(held.transpose(1, 2)).transpose(1, 2)
        at = seen[:, None] + torch.arange(x.shape[1])
        x = torch.tanh(x) + torch.sin(0.1 * at)[:, :, None]
        return self.ahead(x.transpose(1, 2)).transpose(1, 2)

    def forward(self, x: Tensor, cache: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        held = torch.cat([cache, x], dim=1)
        kept = held[:, : held.shape[1] - (self.ahead.kernel_size[0] - 1)]
        following = kept[:, -2:]
        if self.fault == "cache in another order":
            following = following.flip(1)
        if self.fault == "cache of the context, too":
            following = held[:, -2:]
        y = self._mixed(held, seen)
        if self.fault == "the mean of a window":
            y = y - y.mean(dim=1, keepdim=True)
        if self.fault == "a frame twice":
            y = torch.cat([y, y[:, -1:]], dim=1)
        return y, following, seen + y.shape[1]

    def whole(self, x: Tensor) -> Tensor:
        held = torch.cat([x.new_zeros(x.shape[0], 2, W), x], dim=1)
        if self.fault == "NaN in the whole":
            held = held * float("nan")
        y = self._mixed(held, torch.zeros(x.shape[0], dtype=torch.int64))
        if self.fault == "the mean of the whole":
            y = y - y.mean(dim=1, keepdim=True)
        return y


def judged(module: nn.Module, stream: Stream, **options):
    """PyTorch's side."""
    return both(module, stream, **options)[0]


def both(module: nn.Module, stream: Stream, states=STATES, frames: int = 22, **options):
    draw = np.random.Generator(np.random.PCG64(3))
    whole = {
        "x": draw.standard_normal((2, frames, W), dtype=np.float32),
        "cache": np.zeros((2, 2, W), np.float32),
        "seen": np.zeros(2, np.int64),
    }
    streamed, (first, *later) = cut_stream(stream, whole, {s.name: s for s in INPUTS}, "here")
    case = Case(name="u", inputs=first, later=tuple(later), origin="drawn", stream=streamed)
    made = target_from_module(module, inputs=INPUTS, outputs=OUTPUTS, with_onnx=False)
    made = replace(made, cases=(case,), states=states)
    given = {"step_ms": 10, "not_streamed": {"next_seen": "counts"}, **options}
    given.setdefault("offline", {"method": "whole", "inputs": {"x": "x"}, "outputs": ["y"]})
    return run_contracts(made, {"stream": given})


HEALTHY = [
    (Toy(), {"hop": 5}),
    (Toy(), {"hop": 1}),
    (Toy(), {"sizes": [1, 4, 2]}),
    (Toy(), {"hop": 5, "first": 2}),
    (Toy(), {"hop": 5, "flush": "short"}),
    (Toy(ahead=2), {"hop": 5, "right": 2, "flush": "short", "least": 3}),
]


@pytest.mark.parametrize(("module", "stream"), HEALTHY)
def test_windows_that_are_the_whole_pass(module, stream):
    found = judged(module, Stream(**stream))
    assert found.status is Status.PASS, found.reason
    assert found.details["worst seams"] == ["none differs"]


FAULTS = [
    ("cache in another order", {}, {"hop": 5}, "from call 1 on"),
    ("the mean of a window", {}, {"hop": 5}, "the first call differs already"),
    ("the mean of the whole", {}, {"hop": 5}, "to the end behind its window"),
    ("a frame twice", {}, {"hop": 5}, "frames too many come out"),
    ("", {}, {"hop": 5, "flush": "drop"}, "2 of 22 frames never come out"),
    ("cache of the context, too", {"ahead": 2}, {"hop": 5, "right": 2}, "from call 1 on"),
    ("", {"ahead": 2}, {"hop": 3, "right": 2, "flush": "drop"}, "2 of 20 frames never come out"),
]


@pytest.mark.parametrize(("fault", "options", "stream", "words"), FAULTS)
def test_what_is_wrong_is_told_from_where_it_is(fault, options, stream, words):
    found = judged(Toy(fault=fault, **options), Stream(**stream))
    assert found.status is Status.FAIL
    assert words in found.reason, found.reason
    assert found.advice and found.where


@pytest.mark.parametrize("lost", sorted(STATES))
def test_a_state_that_is_not_handed_on_fails(lost):
    kept = {name: into for name, into in STATES.items() if name != lost}
    skipped = dict.fromkeys(("next_cache", "next_seen"), "not handed on")
    found = judged(Toy(), Stream(hop=5), states=kept, not_streamed=skipped)
    assert found.status is Status.FAIL
    assert "from call 1 on" in found.reason, found.reason


def test_lookahead_and_latency_are_measured_in_milliseconds_at_the_module():
    stream = Stream(hop=5, right=2, flush="short", least=3)
    found = judged(Toy(ahead=2), stream, max_lookahead_ms=20, max_latency_ms=70)
    assert found.observed == "lookahead 2 steps (20 ms), latency 7 steps (70 ms)"
    (at,) = found.details["lookahead by module"]
    assert at.startswith("model.ahead [Conv1d]") and at.endswith("2 steps (20 ms)")
    less = judged(Toy(ahead=2), stream, max_lookahead_ms=10)
    assert (less.status, less.observed) == (Status.FAIL, "lookahead 2 steps (20 ms)")
    assert less.where is not None and less.where.module == "model.ahead"
    slow = judged(Toy(ahead=2), stream, max_latency_ms=60)
    assert (slow.status, slow.observed) == (Status.FAIL, "latency 7 steps (70 ms)")


def test_a_convolution_many_frames_short_of_its_input_reads_as_far_as_it_is_long():
    stream = Stream(hop=5, right=4, flush="short", least=5)
    found = judged(Toy(ahead=4), stream, max_lookahead_ms=40)
    assert (found.status, "lookahead 4 steps (40 ms)" in str(found.observed)) == (Status.PASS, True)
    less = judged(Toy(ahead=4), stream, max_lookahead_ms=30)
    assert (less.status, less.observed) == (Status.FAIL, "lookahead 4 steps (40 ms)")


class Late(nn.Module):
    """What came a frame ago: as a filter that waits for its neighbour gives it."""

    def forward(self, x: Tensor, cache: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        held = torch.cat([cache, x], dim=1)
        return held[:, 1:-1], held[:, -2:], seen

    def whole(self, x: Tensor) -> Tensor:
        return x * 1.0


def test_a_stream_that_is_late_says_by_how_much_and_may_be_declared():
    unread = {"states": STATES}
    found = judged(Late(), Stream(hop=5, tail=3), **unread)
    assert found.status is Status.FAIL
    assert "the whole, 1 frame(s) late" in found.reason, found.reason
    declared = judged(Late(), Stream(hop=5, tail=1), late={"y": 1}, **unread)
    assert declared.status is Status.PASS, declared.reason
    assert "latency 6 steps (60 ms)" in str(declared.observed)
    unflushed = judged(Late(), Stream(hop=11), late={"y": 1}, **unread)
    assert "1 of 22 frames never come out" in unflushed.reason


class Codec(nn.Module):
    """A convolution that looks both ways and two samples for each frame; no states."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.around = nn.Conv1d(W, 2 * W, 5, padding=2)

    def forward(self, x: Tensor, cache: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.around(x.transpose(1, 2)).transpose(1, 2)
        return y.reshape(x.shape[0], -1, W), cache * 1, seen + 0


AROUND = {"hop": 5, "left": 2, "right": 2, "start": "short", "flush": "short"}


@pytest.mark.parametrize(
    ("stream", "trim", "words"),
    [
        (AROUND, True, ""),
        ({**AROUND, "left": 1}, True, "differ"),
        ({**AROUND, "right": 1}, True, "would need 1 step(s) behind its window"),
        ({**AROUND, "start": "zeros"}, True, ""),
        (AROUND, False, "frames too many come out"),
    ],
)
def test_windows_without_states_need_their_context_and_are_trimmed(stream, trim, words):
    options = {"trim": ["y"] if trim else [], "offline": None}
    skipped = {"next_cache": "none", "next_seen": "none"}
    found = judged(Codec(), Stream(**stream), states={}, not_streamed=skipped, **options)
    assert found.status is (Status.FAIL if words else Status.PASS), found.reason
    assert words in found.reason


class Framewise(nn.Module):
    """One frame for each, with what stands around it: a window may be as long as the whole."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.around = nn.Conv1d(W, W, 3, padding=1)

    def forward(self, x: Tensor, cache: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.around(x.transpose(1, 2)).transpose(1, 2), cache * 1, seen + 0


NO_STATES = {"next_cache": "none", "next_seen": "none"}
AS_LONG = {"hop": 4, "left": 4, "right": 2}
"""Two windows of ten steps, over ten."""


def as_long_as_the_whole(**options):
    stream = {**AS_LONG, "tail": 0, "flush": "short", **options.pop("stream", {})}
    given = {"offline": None, "not_streamed": NO_STATES, "states": {}, "frames": 10, **options}
    return judged(Framewise(), Stream(**stream), **given)


def test_windows_as_long_as_the_whole_are_joined_and_not_taken_one_for_all():
    held = as_long_as_the_whole(stream={"flush": "zeros", "tail": 0})
    assert held.status is Status.FAIL, held.reason
    assert "frames too many come out" in held.reason
    trimmed = as_long_as_the_whole(stream={"flush": "zeros"}, trim=["y"])
    assert "frames too many" not in trimmed.reason
    faded = {"y": {"fade": "triangle"}}
    added = as_long_as_the_whole(stream={"flush": "zeros"}, overlap_add=faded)
    assert added.status is Status.FAIL, added.reason


@pytest.mark.parametrize(
    "option", [{"trim": ["y"]}, {"late": {"y": 1}}, {"overlap_add": {"y": {"fade": "hann"}}}]
)
def test_what_is_said_of_an_output_without_steps_is_refused(option):
    """It was ignored: every call gives all of such an output."""
    (key,) = option
    with pytest.raises(ConfigError, match=f"contracts.stream.{key}: 'y': .*\n.*out of '{key}'"):
        judged(Peak(), Stream(hop=5, flush="short"), **option)


def test_what_is_said_of_a_state_is_refused():
    with pytest.raises(ConfigError, match="contracts.stream.trim: 'next_cache': it is a state"):
        judged(Toy(), Stream(hop=5), trim=["next_cache"])
    with pytest.raises(ConfigError, match="'next_seen' is under not_streamed, too"):
        judged(Toy(), Stream(hop=5), trim=["next_seen"])


def test_nothing_passes_that_says_nothing():
    assert judged(Toy(fault="NaN in the whole"), Stream(hop=5)).status is Status.NOT_RUN
    still = Late()
    still.whole = lambda x: x * 0  # type: ignore[method-assign]
    still.forward = lambda x, c, s: (x * 0, c, s)  # type: ignore[method-assign]
    found = judged(still, Stream(hop=5))
    assert (found.status, "no output moves" in found.reason) == (Status.NOT_RUN, True)
    every = {"y": "not looked at", "next_seen": "counts"}
    assert judged(Toy(), Stream(hop=5), not_streamed=every).status is Status.NOT_RUN
    made = target_from_module(Toy(), inputs=INPUTS, outputs=OUTPUTS, with_onnx=False)
    assert {r.status for r in run_contracts(made, {"stream": None})} == {Status.NOT_RUN}


class Peak(nn.Module):
    """The largest value so far, which has no steps: nobody can tell how far it looks ahead."""

    def forward(self, x: Tensor, cache: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        most = torch.maximum(x.amax(dim=1, keepdim=True), cache[:, :1])
        return most, most.expand(-1, 2, -1) * 1.0, seen + 1

    def whole(self, x: Tensor) -> Tensor:
        return x.amax(dim=1, keepdim=True).clamp(min=0.0)


def test_a_lookahead_that_was_not_measured_is_not_none():
    stream = Stream(hop=5, flush="short")
    found = judged(Peak(), stream)
    assert (found.status, "was not measured" in found.reason) == (Status.PASS, True), found.reason
    held = judged(Peak(), stream, max_lookahead_ms=0)
    assert (held.status, held.observed) == (Status.FAIL, "not measured")


def test_an_output_that_the_whole_does_not_give_is_not_left_out_in_silence():
    options = {"late": {"y": 1}, "states": {"next_cache": "cache"}}
    found = judged(Late(), Stream(hop=5, tail=1), not_streamed={}, **options)
    assert (found.status, "'next_seen'" in found.reason) == (Status.NOT_RUN, True), found.reason
    said = judged(Late(), Stream(hop=5, tail=1), not_streamed={"next_seen": "counts"}, **options)
    assert said.status is Status.PASS, said.reason


def test_a_side_without_a_file_is_not_run():
    torch_side, onnx_side = both(Toy(), Stream(hop=5))
    assert (torch_side.status, onnx_side.status) == (Status.PASS, Status.NOT_RUN)
    assert "no ONNX file" in onnx_side.reason


def test_the_seams_are_drawn():
    found = judged(Toy(fault="cache in another order"), Stream(hop=5))
    assert found.details["worst seams"][0].startswith("call ")
    picture = str(seam_plot(found.details["seam_curve"]))
    assert picture.startswith("<svg") and picture.count("<line") >= 5
    curve = {"error": [0.1, float("inf"), 0.2], "limit": 0.01, "starts": [0]}
    record = ContractRecord(name="stream", side="torch", verdict="fail", details={"c": curve})
    saved = json.loads(record.model_dump_json())
    assert str(seam_plot(saved["details"]["c"])) == str(seam_plot(curve))
    assert "<script" not in str(seam_plot({"error": ["<script>"], "limit": 0, "starts": []}))


def test_a_slow_clock_makes_no_lookahead_smaller(monkeypatch):
    looked: list[int] = []
    other = lookahead._other_future

    def counted(*given):
        looked.append(given[-1])
        return other(*given)

    monkeypatch.setattr(lookahead, "_other_future", counted)
    stream = Stream(hop=5, right=2, flush="short", least=3)
    judged(Toy(ahead=2), stream)
    wanted, ticks = list(looked), itertools.count(step=100.0)
    looked.clear()
    with monkeypatch.context() as patched:
        patched.setattr(time, "perf_counter", lambda: next(ticks))
        judged(Toy(ahead=2), stream)
    assert looked == wanted and len(wanted) > 4
