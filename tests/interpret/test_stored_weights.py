"""Integers of a lowered file are held against the weight that they were rounded from, no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from exporter.core.tensors import COMPARED, FUSED, PlannedTap, Tap
from exporter.graph.grids import QuantisedWeight, weights_of
from exporter.graph.index import index_graph
from exporter.graph.node_formats import Held
from exporter.graph.program import Program, from_exported
from exporter.interpret.stored_weights import WrongWeights, wrong_weights

SIZE = 16


class Recurrent(nn.Module):
    """Both weights have as many numbers; their means are far apart, as those of trained ones."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(SIZE, SIZE, batch_first=True)
        with torch.no_grad():
            self.lstm.weight_hh_l0 += 0.3

    def forward(self, x):
        return self.lstm(x)[0]


class TwoProducts(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(SIZE, SIZE, bias=False)
        self.second = nn.Linear(SIZE, SIZE, bias=False)
        with torch.no_grad():
            self.second.weight += 0.3

    def forward(self, x):
        return self.second(self.first(x))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def program_of(module: nn.Module) -> Program:
    exported = torch.export.export(module.eval(), (torch.zeros(2, 5, SIZE),))
    return from_exported(exported.run_decompositions({}), ("y",))


def stored(weight: torch.Tensor, *, scale: float = 1.0, zero: int = 0) -> QuantisedWeight:
    """A weight in int8 behind a DequantizeLinear, whose scale and zero point may be wrong."""
    values = weight.detach().numpy()
    step = np.float32(np.abs(values).max() / 127)
    tensors = {
        "w": np.rint(values / step).astype(np.int8),
        "scale": np.float32(step * scale),
        "zero": np.int8(zero),
    }
    node = helper.make_node("DequantizeLinear", list(tensors), ["y"])
    end = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    held = [numpy_helper.from_array(np.asarray(v), name) for name, v in tensors.items()]
    graph = helper.make_graph([node], "g", [], [end], held)
    (found,) = weights_of(index_graph(helper.make_model(graph), Path()), 0)
    return found


def judged(program: Program, weights: tuple[QuantisedWeight, ...]) -> WrongWeights:
    """All floating ops of the program as one piece, which its last one shows."""
    held = Held(formats=("int8",), weights=weights)
    last = program.ops[-1].name
    planned = [
        PlannedTap(
            tap=Tap(name=op.name, module="", module_class="", op=op.target, source=""),
            onnx_name=op.name,
            fate=COMPARED if op.name == last else FUSED,
            into=None if op.name == last else last,
        )
        for op in program.ops
    ]
    return wrong_weights(program, {op.name: held for op in program.ops}, planned)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("module", [Recurrent, TwoProducts])
def test_one_of_two_weights_of_one_size_may_stay_in_floats(module: type[nn.Module], which: int):
    made = module()
    weight = [p for p in made.parameters() if p.dim() == 2][which]
    program = program_of(made)
    assert judged(program, (stored(weight),)) == WrongWeights()
    assert judged(program, (stored(weight, zero=1),)).wrong
    assert judged(program, (stored(weight, scale=1.2),)) != WrongWeights()


@pytest.mark.parametrize("module", [Recurrent, TwoProducts])
def test_both_are_told_apart(module: type[nn.Module]):
    made = module()
    one, two = [p for p in made.parameters() if p.dim() == 2]
    program = program_of(made)
    assert judged(program, (stored(two), stored(one))) == WrongWeights()
    assert judged(program, (stored(two, zero=1), stored(one))).wrong
    assert judged(program, (stored(two), stored(one, zero=1))).wrong
    assert judged(program, (stored(two), stored(one, scale=1.2))) != WrongWeights()
