"""Equal runs are made once, long probes are short, and neither hides what must run again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from exporter.contracts import onnx_side, run_contracts
from exporter.contracts.locate.recorder import Recorder
from exporter.contracts.memo import Memo, digest_of
from exporter.contracts.shapes.sizes import derived, sweep_axes
from exporter.core.tensors import Axis, Case, TensorSpec
from exporter.execution.onnx_runs import FileRun
from tests.contracts.zoo.toy import features, output, subject

Y = output("batch", 4, "time")


class Counts(nn.Module):
    """x + x, and how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x


def test_an_equal_run_is_made_once_and_cannot_be_changed() -> None:
    made = subject(Counts(), features(), Y)
    inputs = made.cases[0].inputs
    first = made.recall(inputs)
    again = made.recall({name: value.copy() for name, value in inputs.items()})
    assert made.forwards == 1 and np.array_equal(first["y"], again["y"])
    with pytest.raises(ValueError, match="read-only"):
        again["y"][0] = 0
    made.recall({name: value + 1 for name, value in inputs.items()})
    made.torch(inputs)
    assert made.forwards == 3


@pytest.mark.parametrize(
    "other",
    [
        {"x": np.zeros((2, 3), np.float32)},
        {"x": np.zeros((3, 2), np.int32)},
        {"z": np.zeros((3, 2), np.float32)},
        {"x": np.full((3, 2), -0.0, np.float32)},
    ],
)
def test_what_differs_in_shape_dtype_name_or_bits_is_another_run(other: dict) -> None:
    assert digest_of({"x": np.zeros((3, 2), np.float32)}) != digest_of(other)


def test_outputs_beyond_the_limit_are_not_kept() -> None:
    memo = Memo()
    memo.put("small", {"y": np.zeros(3)})
    memo.put("large", {"y": np.zeros(2**22 + 1)})
    assert memo.get("small") is not None and memo.get("large") is None


def test_repeats_run_although_the_first_run_is_known() -> None:
    class Draws(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.rand_like(x)

    made = subject(Draws(), features(), Y)
    run_contracts(made, {"mutation": None})
    made.recall(made.cases[0].inputs)
    torch_side, _ = run_contracts(made, {"determinism": None})
    assert torch_side.status == "fail" and torch_side.reason.startswith("two runs")


def waveform(example: int, maximum: int | None = None):
    axis = Axis(name="num_samples", minimum=1, maximum=maximum)
    spec = TensorSpec(name="waveform", dtype="float32", shape=("num_samples",), axes=(axis,))
    made = subject(Counts(), (spec,), output("num_samples"))
    case = Case(name="c", inputs={"waveform": np.ones(80_000, np.float32)}, origin="")
    return dataclasses.replace(made, cases=(case,), example={"waveform": torch.zeros(example)})


def test_a_long_example_is_stood_for_by_a_shorter_one_and_exceeded_all_the_same() -> None:
    made = waveform(49_600)
    (axis,), left_out = sweep_axes(made, {}, {})
    assert axis.sizes == (1, 2, 4001, 8009, 16_000, 64_000) and axis.example == 49_600
    assert left_out == [
        f"num_samples = {size} (only with --thorough)" for size in (49_600, 198_400)
    ]
    made.thorough = True
    (axis,), left_out = sweep_axes(made, {}, {})
    assert axis.sizes == derived(1, 49_600, None) and not left_out


def test_a_size_beyond_the_example_is_always_tried_where_one_is_allowed() -> None:
    for example in (16_001, 60_000, 100_000, 300_000):
        (axis,), _ = sweep_axes(waveform(example), {}, {})
        assert max(axis.sizes) > example
    (axis,), _ = sweep_axes(waveform(100_000, maximum=100_000), {}, {})
    assert max(axis.sizes) == 100_000


def test_sizes_that_are_asked_for_are_tried_as_they_are() -> None:
    (axis,), left_out = sweep_axes(waveform(49_600), {"num_samples": (7, 198_400)}, {})
    assert axis.sizes == (7, 198_400) and not left_out


def test_padding_and_shapes_share_a_run_of_one_row() -> None:
    axes = (Axis(name="batch"), Axis(name="num_samples"))
    signal = TensorSpec(name="x", dtype="float32", shape=("batch", "num_samples"), axes=axes)
    lengths = TensorSpec(name="x_lengths", dtype="int64", shape=("batch",), axes=axes[:1])
    drawn = np.random.default_rng(0).standard_normal((1, 80_000)).astype(np.float32)
    inputs = {"x": drawn, "x_lengths": np.array([80_000])}
    calls: list[tuple[int, ...]] = []

    class Masks(nn.Module):
        def forward(self, x: torch.Tensor, x_lengths: torch.Tensor) -> torch.Tensor:
            calls.append(tuple(x.shape))
            return x * (torch.arange(x.shape[1]) < x_lengths[:, None])

    made = subject(Masks(), (signal, lengths), output("batch", "num_samples"))
    case = Case(name="c", inputs=inputs, origin="")
    example = {"x": torch.zeros(2, 49_600), "x_lengths": torch.tensor([49_600, 400])}
    made = dataclasses.replace(made, cases=(case,), example=example)
    results = run_contracts(made, {"padding": None, "shapes": None})
    assert all(row.status == "pass" for row in results if row.side == "torch")
    assert calls.count((1, 4001)) == 1 and (1, 4000) not in calls


def test_another_number_of_threads_does_not_load_the_whole_file_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[bool] = []

    class Loads(FileRun):
        def __init__(self, *given, again: bool = False):
            loaded.append(again)
            super().__init__(*given, again=again)

    monkeypatch.setattr(onnx_side, "FileRun", Loads)
    made = subject(Counts(), features(), Y, with_onnx=True)
    results = run_contracts(made, {"determinism": None})
    assert [row.status for row in results] == ["pass", "pass"]
    assert loaded[0] is False and loaded[1:] and all(loaded[1:])


def test_who_looks_on_is_not_seen_by_what_watches_the_ops() -> None:
    ops: list[str] = []
    calls: list[str] = []

    class Sees(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            ops.append(str(func))
            return func(*args, **(kwargs or {}))

    class Hears(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            calls.append(getattr(func, "__name__", str(func)))
            return func(*args, **(kwargs or {}))

    taken: list[float] = []
    module = Counts()
    look = Recorder(module, take=lambda call: taken.append(float(call.value.abs().max())))
    with look, Sees(), Hears():
        module(torch.full((2,), 3.0))
    # What the hooks are given is looked at; only what the module does itself is seen.
    assert taken == [6.0]
    assert not any("abs" in op or "detach" in op for op in ops)
    assert not any(name in ("abs", "max", "detach", "clone") for name in calls)
