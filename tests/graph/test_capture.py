"""What a capture refuses, and that it leaves torch as it found it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from exporter.core.errors import StageError
from exporter.graph.capture import capture, keep_recurrent_ops

FRAMES = {0: torch.export.Dim("frames", min=1)}


class Add(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Dropout()

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor]:
        return (self.part(x) + y,)


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.function(x),)


def test_training_mode_names_the_module():
    module = Add().eval()
    module.part.train()
    with pytest.raises(StageError, match="module 'part' is in training mode"):
        capture(module, {"x": torch.ones(3), "y": torch.ones(3)}, {"x": FRAMES, "y": FRAMES})


def test_one_tensor_as_the_example_of_two_inputs():
    x = torch.ones(3)
    with pytest.raises(StageError, match="same tensor object"):
        capture(Add().eval(), {"x": x, "y": x}, {"x": FRAMES, "y": FRAMES})


@pytest.mark.parametrize("size", [0, 1])
def test_a_dynamic_axis_of_size_below_two_would_be_baked_in(size: int):
    with pytest.raises(StageError, match=f"'x' has size {size} on dynamic axis 0"):
        capture(Function(torch.relu).eval(), {"x": torch.ones(size)}, {"x": FRAMES})


def test_what_torch_says_is_kept():
    def branch(x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x - 1

    with pytest.raises(StageError, match="torch.export refused the module: .*data-dependent"):
        capture(Function(branch).eval(), {"x": torch.ones(3)}, {"x": FRAMES})


def test_a_length_that_the_module_fixes_is_refused():
    with pytest.raises(StageError, match="refused"):
        capture(
            Function(lambda x: x.reshape(3, 1) @ torch.ones(1, 3)).eval(),
            {"x": torch.ones(3)},
            {"x": FRAMES},
        )


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.LSTM | nn.GRU]) -> None:
        super().__init__()
        self.cell = kind(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.cell(x)[0],)


@pytest.mark.parametrize(("kind", "op"), [(nn.LSTM, "lstm"), (nn.GRU, "gru")])
def test_a_recurrent_layer_stays_one_op_of_any_length(kind: type[nn.LSTM | nn.GRU], op: str):
    module = Recurrent(kind).eval()
    captured = capture(module, {"x": torch.randn(5, 2, 4)}, {"x": FRAMES})
    names = [str(n.target) for n in captured.graph.nodes if n.op == "call_function"]
    assert names.count(f"aten.{op}.input") == 1
    assert not any("cell" in name for name in names)


def test_recurrent_layers_compute_as_before_once_the_block_is_left():
    torch.manual_seed(0)
    cell, x = nn.LSTM(4, 4).eval(), torch.randn(5, 2, 4)
    before = cell(x)[0]
    with pytest.raises(RuntimeError, match="inside"), keep_recurrent_ops():
        raise RuntimeError("inside")
    assert torch.equal(cell(x)[0], before)
