"""Ops are taken apart as torch takes them apart, each kind once; the rest is left to torch."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exporter.core.errors import StageError
from exporter.core.tensors import Axis, TensorSpec
from exporter.graph import decompose, op_trace
from exporter.graph.capture import capture
from exporter.graph.export import Exported, export
from exporter.interpret.run_program import run_program

WIDTH = 8
FRAMES = Axis(name="frames", minimum=1)
X = TensorSpec(name="x", dtype="float32", shape=("frames", WIDTH), axes=(FRAMES,))


def y(*shape: int | str, dtype: str = "float32") -> TensorSpec:
    axes = tuple(Axis(name=size, minimum=1) for size in shape if isinstance(size, str))
    return TensorSpec(name="y", dtype=dtype, shape=shape, axes=axes)


class Block(nn.Module):
    """What the blocks of speech models are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.norm, self.drop = nn.LayerNorm(WIDTH), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.first(self.norm(x)).reshape(-1, 2, WIDTH).to(torch.float32).chunk(2, dim=1)
        mixed = (a.transpose(1, 2).contiguous() + b.transpose(1, 2)).narrow(2, 0, 1).squeeze(-1)
        # In place, on what nobody else sees: a view of a fresh value.
        mixed = torch.cat([mixed, mixed], dim=-1).view(-1, 2, WIDTH).transpose(0, 1).mul_(0.5)
        return x + self.drop(self.second(mixed.transpose(0, 1).reshape(-1, 2 * WIDTH)))


class Blocks(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Reads(nn.Module):
    """A size that is read from the data, a count of elements, and logic on masks."""

    def forward(self, x: Tensor) -> Tensor:
        count = (x[:, 0] > 0).sum().clamp(min=1, max=1).item()
        torch._check(count >= 1)
        torch._check(count <= x.shape[0])
        mask = (x > 0) & (x < 1) | (x == 2)
        return torch.where(mask, x, x / x.numel())[:count]


def made(
    module: nn.Module, output: TensorSpec, monkeypatch: pytest.MonkeyPatch | None = None
) -> Exported:
    """Export; with ``monkeypatch`` the way that torch does it."""
    torch.manual_seed(0)
    for value in module.parameters():
        nn.init.normal_(value)
    module.eval().requires_grad_(False)
    program = capture(module, {"x": torch.randn(5, WIDTH)}, {"x": {0: torch.export.Dim("frames")}})
    if monkeypatch is not None:
        way = "exporter.graph.export.decomposed_once"
        monkeypatch.setattr(way, lambda left: contextlib.nullcontext())
    return export(program, inputs=(X,), outputs=(output,), opset=18)


def ops(exported: Exported) -> Counter[str]:
    return Counter(node.op_type for node in exported.model.graph.all_nodes())


@pytest.mark.parametrize(
    ("module", "output"),
    [(lambda: Blocks(3), y("frames", WIDTH)), (Reads, y("count", WIDTH))],
    ids=["blocks", "reads"],
)
def test_the_graph_computes_what_torch_s_does_and_has_no_op_more(
    module: Any, output: TensorSpec, monkeypatch: pytest.MonkeyPatch
):
    ours = made(module(), output)
    torchs = made(module(), output, monkeypatch)
    assert not ours.left
    # torch follows a write in place through all views, back and forth; nothing else is different.
    assert not ops(ours) - ops(torchs)
    more = {"Constant", "Reshape", "Concat", "Transpose", "Shape", "Squeeze", "Identity"}
    assert set(ops(torchs) - ops(ours)) <= more
    x = np.random.default_rng(0).standard_normal((9, WIDTH)).astype(np.float32)
    for inputs in ({"x": x}, {"x": x[:1]}):
        first, second = (run_program(way.program, inputs)["y"] for way in (ours, torchs))
        assert np.array_equal(first, second)


def test_nothing_is_left_of_what_onnx_has_no_function_of():
    targets = {op.target for op in made(Blocks(2), y("frames", WIDTH)).program.ops}
    taken = "reshape dropout contiguous narrow to mul_ chunk".split()
    assert not [t for t in targets if t.split(".")[1] in taken], targets


def test_each_kind_is_traced_once(monkeypatch: pytest.MonkeyPatch):
    traced: list[str] = []
    trace = decompose.trace_op

    def counted(target: Any, *rest: Any) -> Any:
        traced.append(str(target))
        return trace(target, *rest)

    monkeypatch.setattr(decompose, "trace_op", counted)
    made(Blocks(1), y("frames", WIDTH))
    one = list(traced)
    traced.clear()
    made(Blocks(6), y("frames", WIDTH))
    assert one and Counter(traced) == Counter(one)


def test_every_value_says_where_it_comes_from():
    program = made(Blocks(2), y("frames", WIDTH)).program
    inside = [op for op in program.ops if op.kind == "tensor"]
    own = [op for op in inside if op.source.startswith("tests/graph/test_decompose.py:")]
    assert {op.target.split(".")[1] for op in own} >= {"view", "slice", "clone", "mul", "cat"}
    assert all(op.source for op in inside)
    assert {op.module for op in inside} >= {"blocks.0", "blocks.0.first", "blocks.1.second"}
    assert {"view", "view_1", "linear", "linear_1", "mul"} <= {op.name for op in inside}


class Sees(nn.Module):
    """Writes to a view of a value that is read again."""

    def forward(self, x: Tensor) -> Tensor:
        held = x * 2
        held[:, :2].add_(1.0)
        return held


class SeesLater(nn.Module):
    """Writes to a value of which somebody holds a view."""

    def forward(self, x: Tensor) -> Tensor:
        held = x * 2
        view = held[:, :2]
        held.mul_(3.0)
        return view + held[:, 2:4]


class Silent(nn.Module):
    """Writes to what ``type_as`` gives, which is its own input and does not say so."""

    def forward(self, x: Tensor) -> Tensor:
        held = x * 2
        view = held[:, :2]
        held.type_as(x).add_(1.0)
        return view * 1.0


class Copies(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        room = x.new_zeros(x.shape[0], 2)
        room[:, 1] = x[:, 0]
        return room


@pytest.mark.parametrize(
    ("module", "width", "why"),
    [
        (Sees, WIDTH, "others see"),
        (SeesLater, 2, "others see"),
        (Copies, 2, "writes"),
    ],
)
def test_writes_that_something_else_can_see_are_left_to_torch(
    module: type[nn.Module], width: int, why: str
):
    found = made(module(), y("frames", width))
    assert why in found.left
    x = np.random.default_rng(1).standard_normal((4, WIDTH)).astype(np.float32)
    expected = module()(torch.from_numpy(x.copy())).numpy()
    assert np.array_equal(run_program(found.program, {"x": x})["y"], expected)


def test_an_op_that_does_not_say_that_it_shows_its_input_is_found_out():
    # torch believes it, and loses the write: what leaves here is compared with the module itself.
    assert "others see" in made(Silent(), y("frames", 2)).left


def test_what_cannot_be_translated_is_left_to_torch_and_said(monkeypatch: pytest.MonkeyPatch):
    # Nothing is taken apart: the exporter then meets ops that it has no function of.
    monkeypatch.setattr(decompose._Rewrite, "_is_taken_apart", lambda self, target: False)
    found = made(Blocks(1), y("frames", WIDTH))
    assert "not translated" in found.left and "\n" not in found.left
    assert not made(Reads(), y("count", WIDTH)).left.startswith("'")


def test_a_trace_of_another_shape_is_left_to_torch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(op_trace, "_shapes", lambda value: object())
    assert "another shape" in made(Blocks(1), y("frames", WIDTH)).left


def test_another_torch_does_it_its_own_way(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decompose, "_internals", None)
    assert "other internals" in made(Blocks(1), y("frames", WIDTH)).left


def test_what_neither_way_translates_is_an_error(monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no")

    shapes = {"x": {0: torch.export.Dim("frames")}}
    program = capture(Blocks(1).eval(), {"x": torch.randn(5, WIDTH)}, shapes)
    monkeypatch.setattr("torch.onnx.export", refuse)
    with pytest.raises(StageError, match=r"torch\.onnx\.export failed: no"):
        export(program, inputs=(X,), outputs=(y("frames", WIDTH),), opset=18)
