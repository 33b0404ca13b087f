"""An exported program as a list of ops: what it keeps, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from exporter.errors import StageError
from exporter.graph.program import Program
from tests.support.toys import WIDTH, Toy, floats, make_toy, mixed


def toy(module: nn.Module, outputs: int = 1) -> Toy:
    return make_toy(
        module,
        {"x": torch.randn(3, 4)},
        (floats("x", "n", 4),),
        tuple(floats(f"y{number}", "n", 4) for number in range(outputs)),
    )


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        self.get_buffer("count").add_(1)
        return (x + self.get_buffer("count"),)


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor]:
        x.mul_(2)
        return (x + 1,)


class Through(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x + 1


class Twice(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = x + 1
        return y, y


def test_a_buffer_that_the_model_writes_to_is_named():
    with pytest.raises(StageError, match="writes to count"):
        toy(Counting())


def test_an_input_that_the_model_writes_to_is_named():
    with pytest.raises(StageError, match="writes to x"):
        toy(InPlace())


def test_an_output_that_is_an_input_is_refused():
    with pytest.raises(StageError, match="output 'y0' is the input 'x' passed through"):
        toy(Through(), outputs=2)


def test_two_outputs_of_one_value_are_refused():
    with pytest.raises(StageError, match="two outputs are the same value"):
        toy(Twice(), outputs=2)


class Dead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        self.unused(x)
        return (self.used(x),)


def test_what_no_output_needs_is_left_out_with_its_weights():
    program = toy(Dead()).program
    assert {op.module for op in program.ops} == {"used"}
    assert sorted(program.tensors) == ["used.bias", "used.weight"]


def test_every_op_knows_its_module_and_line():
    program: Program = mixed().program
    first = next(op for op in program.ops if op.module == "first")
    assert first.target == "aten.linear.default"
    assert first.module_class == "torch.nn.modules.linear.Linear"
    # The statement of the model, not the one inside of torch.
    assert first.source.partition(":")[0].endswith(("toys.py", "linear.py"))
    assert program.tensors["first.weight"].shape == (32, WIDTH)


def test_outputs_have_the_names_that_users_see():
    program = mixed().program
    assert program.output_names == ("y", "kept", "best")
    assert [program.onnx_name(name) for name in program.outputs] == ["y", "kept", "best"]
    inner = next(op.name for op in program.ops if op.name not in program.outputs)
    assert program.onnx_name(inner) == inner
