"""The interface of an exported file: declared, used, typed and dynamic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from exporter.core.errors import StageError
from exporter.core.tensors import Case
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import run_model
from exporter.graph.export import check_interface
from exporter.interpret.run_program import run_program
from tests.support.toys import floats, make_toy, mixed, mixed_case, spec


def axes(value: onnx.ValueInfoProto) -> list[int | str]:
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_param or dim.dim_value for dim in dims]


def test_axes_carry_their_declared_names():
    graph = mixed().model.graph
    found = {value.name: axes(value) for value in (*graph.input, *graph.output)}
    assert found == {
        "x": ["batch", "frames", 16],
        "y": ["batch", "frames", 16],
        "kept": ["batch"],
        "best": ["batch", "frames"],
    }


@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (1, 30), (5, 1), (2, 3)])
def test_other_sizes_than_the_example_agree(batch: int, frames: int):
    toy, inputs = mixed(), mixed_case(4, batch=batch, frames=frames).inputs
    torch_found = run_program(toy.program, inputs)
    onnx_found = run_model(toy.model, inputs, Deployment(threads=1))
    np.testing.assert_allclose(onnx_found["y"], torch_found["y"], atol=1e-5)
    assert np.array_equal(onnx_found["kept"], torch_found["kept"])
    assert np.array_equal(onnx_found["best"], torch_found["best"])


def test_paths_of_this_machine_are_not_in_the_file():
    assert b"/toys.py" not in mixed().model.SerializeToString()


class Sized(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (x.sum() + x.new_zeros(torch.sym_max(x.shape[0], 4)),)


def test_addresses_of_this_process_are_not_in_the_file():
    """They would make the same export another file each time, with another digest."""
    toy = make_toy(Sized(), {"x": torch.ones(3)}, (floats("x", "n"),), (floats("z", "m"),))
    held = str(toy.model)
    assert "function sym_max" in held
    assert " at 0x" not in held


class Third(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (torch.kthvalue(x, 1).values,)


def test_an_op_of_torch_that_nobody_translates_is_named_with_the_remedy():
    with pytest.raises(StageError, match=r"not know the op 'aten::kthvalue' \(.*py:\d+\)") as error:
        make_toy(Third(), {"x": torch.ones(3)}, (floats("x", "n"),), (floats("z"),))
    assert "{'aten::kthvalue': MODULE:FUNCTION}" in (error.value.remedy or "")


class Unused(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor]:
        return (x + 1,)


def test_an_input_that_the_graph_does_not_use_is_refused():
    with pytest.raises(StageError, match="'y' is not used"):
        make_toy(
            Unused(),
            {"x": torch.ones(3), "y": torch.ones(4)},
            (floats("x", "n"), floats("y", "m")),
            (floats("z", "n"),),
        )


def model(
    *, out_shape: list[int | str] | None = None, out_type: int = TensorProto.FLOAT
) -> ir.Model:
    """``y = relu(x)`` with a declared output that may be a lie."""
    shape = ["n", 4] if out_shape is None else out_shape
    node = helper.make_node("Relu", ["x"], ["y"])
    graph = helper.make_graph(
        [node],
        "toy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", out_type, shape)],
    )
    return ir.from_proto(helper.make_model(graph))


X, Y = floats("x", "n", 4), floats("y", "n", 4)


def test_a_right_interface_passes():
    check_interface(model(), (X,), (Y,), stage="export")


@pytest.mark.parametrize(
    ("made", "inputs", "outputs", "said"),
    [
        (model(out_shape=[384, 4]), (X,), (Y,), r"axis 0 \(n\) is declared dynamic .* 384"),
        (model(out_shape=["n", 5]), (X,), (Y,), "axis 1 is 5, declared 4"),
        (model(out_shape=["n"]), (X,), (Y,), "1 axes, declared 2"),
        (model(out_type=TensorProto.DOUBLE), (X,), (Y,), "is float64, declared float32"),
        (model(), (X, replace(X, name="z")), (Y,), "input 'z' is missing"),
        (model(), (X,), (Y, spec("n", "int64")), "output 'n' is missing"),
        (model(), (), (Y,), "input 'x' was not declared"),
        (model(), (X,), (), "output 'y' was not declared"),
    ],
)
def test_a_wrong_interface_is_named(made: ir.Model, inputs: tuple, outputs: tuple, said: str):
    with pytest.raises(StageError, match=said):
        check_interface(made, inputs, outputs, stage="export")


def test_all_differences_come_in_one_error():
    with pytest.raises(StageError) as caught:
        check_interface(model(out_shape=[384, 5]), (X,), (Y,), stage="simplify")
    assert caught.value.stage == "simplify"
    assert "axis 0" in str(caught.value)
    assert "axis 1" in str(caught.value)


class Clashing(nn.Module):
    """Its second output may be called like its first op."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        positive = torch.where(x > 0, x, -x) * self.scale
        return positive + 1, positive.sum(-1)


@pytest.mark.parametrize("name", ["where", "gt", "mul", "total"])
def test_an_output_may_be_called_like_an_op_inside(name: str):
    x = floats("x", "n", 4)
    toy = make_toy(
        Clashing(), {"x": torch.randn(3, 4)}, (x,), (floats("y", "n", 4), floats(name, "n"))
    )
    onnx.checker.check_model(toy.model)
    inputs = {"x": np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)}
    found = run_model(toy.model, inputs, Deployment(threads=1))
    expected = run_program(toy.program, inputs)
    for label, value in expected.items():
        np.testing.assert_allclose(found[label], value, rtol=1e-5, atol=1e-6)
    link = toy.judge(cases=(Case(name="c", inputs=inputs, origin=""),))
    assert not link.culprits
    assert all(tap.local is not None for tap in link.taps)


def test_an_output_that_is_called_like_a_weight_is_refused():
    x = floats("x", "n", 4)
    with pytest.raises(StageError, match="'scale' has the name of a weight"):
        make_toy(
            Clashing(), {"x": torch.randn(3, 4)}, (x,), (floats("y", "n", 4), floats("scale", "n"))
        )
