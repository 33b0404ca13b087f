"""What a file does at the outputs: what nobody's doubt explains is a flip, and NaN is no error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from exporter.execution.deployment import Deployment
from exporter.graph.index import index_graph
from exporter.graph.program import Program, from_exported
from exporter.interpret.propagated import targets_of
from exporter.lowering.outcome import Outcome, TargetRun, truth_of
from exporter.lowering.own_errors import LoweredFile

X = np.array([[1.25, 2.75, 3.5]], np.float32)


class Codes(nn.Module):
    """A float output, and codes that are rounded: no decision is taken on the way to them."""

    def forward(self, x):
        return x * 2.0, torch.floor(x).to(torch.int64)


class Marks(nn.Module):
    """A float output, and marks of what is loud."""

    def forward(self, x):
        return x * 2.0, x * 3.0 > 6.0


def program_of(module: nn.Module) -> Program:
    exported = torch.export.export(module, (torch.zeros(1, 3),)).run_decompositions({})
    return from_exported(exported, ("y", "z"))


def outcome_of(
    program: Program, nodes: Sequence[onnx.NodeProto], folder: Path, x: np.ndarray = X
) -> Outcome:
    """Of a file whose nodes compute the program's outputs by their own names."""
    kind = TensorProto.BOOL if nodes[-1].op_type == "Greater" else TensorProto.INT64
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info(program.inputs[0], TensorProto.FLOAT, [1, 3])],
        [
            helper.make_tensor_value_info(program.onnx_name(program.outputs[0]), 1, None),
            helper.make_tensor_value_info(program.onnx_name(program.outputs[1]), kind, None),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "model.onnx"
    onnx.save(model, path)
    inputs = {program.inputs[0]: x}
    targets = targets_of(program)
    file = LoweredFile.of(program, index_graph(model, folder))
    run = TargetRun(program, path, file, targets, Deployment(threads=1))
    return run.outcome(inputs, truth_of(program, inputs, targets))


def constant(name: str, value: float) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value_float=value)


def doubled(program: Program, factor: float = 2.0) -> list[onnx.NodeProto]:
    out = program.onnx_name(program.outputs[0])
    return [constant("two", factor), helper.make_node("Mul", [program.inputs[0], "two"], [out])]


def codes(program: Program, step: str) -> list[onnx.NodeProto]:
    out = program.onnx_name(program.outputs[1])
    made = [helper.make_node(step, [program.inputs[0]], ["held"])]
    return [*made, helper.make_node("Cast", ["held"], [out], to=TensorProto.INT64)]


@pytest.mark.parametrize(("step", "flips"), [("Floor", 0), ("Ceil", 3)])
def test_codes_that_are_rounded_are_nobodys_doubt(tmp_path: Path, step: str, flips: int):
    program = program_of(Codes())
    found = outcome_of(program, [*doubled(program), *codes(program, step)], tmp_path)
    assert (found.flips, found.doubtful, found.decisions) == (flips, 0, 0)
    assert found.error == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("least", "flips"), [(6.0, 0), (9.0, 1)])
def test_a_mark_that_the_file_takes_elsewhere_is_a_flip(tmp_path: Path, least: float, flips: int):
    """The decision is in the file, what it rests on is not."""
    program = program_of(Marks())
    out = program.onnx_name(program.outputs[1])
    marks = [
        constant("three", 3.0),
        helper.make_node("Mul", [program.inputs[0], "three"], ["thrice"]),
        constant("least", least),
        helper.make_node("Greater", ["thrice", "least"], [out]),
    ]
    found = outcome_of(program, [*doubled(program), *marks], tmp_path)
    assert (found.flips, found.doubtful) == (flips, 0)


def test_an_output_that_nothing_computes_is_compared(tmp_path: Path):
    program = program_of(Codes())
    out = program.onnx_name(program.outputs[1])
    held = helper.make_tensor("held", TensorProto.INT64, [1, 3], [1, 2, 3])
    nodes = [*doubled(program), helper.make_node("Constant", [], [out], value=held)]
    assert outcome_of(program, nodes, tmp_path).flips == 0
    held.int64_data[1] = 4
    nodes[-1].attribute[0].t.CopyFrom(held)
    assert outcome_of(program, nodes, tmp_path).flips == 1


def test_a_float_output_of_another_size_is_a_flip(tmp_path: Path):
    program = program_of(Codes())
    out = program.onnx_name(program.outputs[0])
    two, mul = doubled(program)
    mul.output[0] = "wide"
    cut = [
        helper.make_node("Constant", [], ["from"], value_ints=[0]),
        helper.make_node("Constant", [], ["to"], value_ints=[2]),
        helper.make_node("Constant", [], ["axis"], value_ints=[1]),
        helper.make_node("Slice", ["wide", "from", "to", "axis"], [out]),
    ]
    found = outcome_of(program, [two, mul, *cut, *codes(program, "Floor")], tmp_path)
    assert found.flips == 1
    assert found.error is None


def test_nan_is_no_small_error(tmp_path: Path):
    x = np.array([[np.nan, 1.0, 2.0]], np.float32)
    program = program_of(Codes())
    found = outcome_of(program, [*doubled(program), *codes(program, "Floor")], tmp_path, x)
    assert found.error == float("inf")
