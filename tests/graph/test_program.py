"""An exported program as a list of ops: what it keeps, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exporter.core.errors import StageError
from exporter.graph.program import Program
from exporter.interpret.run_program import run_program
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


class Renormalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4, max_norm=1.5)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.table(x.long().clamp(0, 8)[:, 0]) * 2,)


def test_weights_that_are_written_while_they_are_read_are_named_with_a_remedy():
    with pytest.raises(StageError, match=r"writes to table\.weight while it runs") as raised:
        toy(Renormalised().requires_grad_(False))
    assert "torch.renorm(weight, 2.0, 0, 1.5)" in str(raised.value.remedy)


@pytest.mark.parametrize("module", [Through(), Twice()])
def test_an_output_that_is_no_value_of_its_own_gets_a_copy(module):
    made = toy(module, outputs=2)
    assert len(set(made.program.outputs)) == 2
    assert not set(made.program.outputs) & set(made.program.inputs)
    assert [op.target for op in made.program.ops].count("aten.clone.default") == 1
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    first, second = run_program(made.program, {"x": x}).values()
    expected = module(torch.from_numpy(x))
    np.testing.assert_array_equal(first, expected[0].numpy())
    np.testing.assert_array_equal(second, expected[1].numpy())


class Detached(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = x + 1
        return y, y.detach(), x.contiguous()


def test_what_only_looks_like_another_value_gets_a_copy_too():
    assert len(set(toy(Detached(), outputs=3).program.outputs)) == 3


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
