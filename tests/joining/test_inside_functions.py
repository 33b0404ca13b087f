"""A tool writes functions as their nodes: what is inside of them is compared as well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, inliner, numpy_helper

from exporter.flows.compare import compare
from exporter.graph.index import GraphIndex
from exporter.graph.inside_functions import show_inside
from exporter.graph.onnx_file import open_graph
from exporter.report.two_files import TwoFiles

WIDTH = 12
KINDS = [("", kind) for kind in ("LayerNormalization", "Gelu", "Softmax", "HardSwish")]


def net(folder: Path, *, trained: bool = True) -> Path:
    """x [B, T, C] through a normalisation, an activation and a softmax, each in one node."""
    random = np.random.default_rng(0)
    weights = {
        "front_w": random.standard_normal((WIDTH, WIDTH)),
        "scale": 1 + 0.3 * random.standard_normal(WIDTH) if trained else np.ones(WIDTH),
        "offset": 0.1 * random.standard_normal(WIDTH) if trained else np.zeros(WIDTH),
        "inner_w": random.standard_normal((WIDTH, 2 * WIDTH)),
        "outer_w": random.standard_normal((2 * WIDTH, WIDTH)),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "front_w"], ["front"]),
        helper.make_node(
            "LayerNormalization", ["front", "scale", "offset"], ["norm"], axis=-1, epsilon=1e-5
        ),
        helper.make_node("MatMul", ["norm", "inner_w"], ["inner"]),
        helper.make_node("Gelu", ["inner"], ["gelu"]),
        helper.make_node("MatMul", ["gelu", "outer_w"], ["outer"]),
        helper.make_node("HardSwish", ["outer"], ["swish"]),
        helper.make_node("Softmax", ["swish"], ["y"], axis=-1),
    ]
    sizes = ["batch", "frames", WIDTH]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, sizes)],
        [numpy_helper.from_array(held.astype(np.float32), name) for name, held in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return saved(folder / "net.onnx", model)


def saved(path: Path, model: onnx.ModelProto) -> Path:
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def written_out(path: Path) -> onnx.ModelProto:
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    for tensor in model.graph.initializer:  # the inliner asks for their types there
        held = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.value_info.append(held)
    return inliner.inline_selected_functions(
        model, KINDS, exclude=False, inline_schema_functions=True
    )


def share(report: TwoFiles) -> float:
    return 1 - (len(report.ambiguous) + len(report.alone)) / report.candidates


@pytest.mark.parametrize("trained", [True, False])
def test_values_inside_of_functions_are_joined_and_compared(tmp_path: Path, trained: bool):
    source = net(tmp_path, trained=trained)
    report = compare(source, saved(tmp_path / "out.onnx", written_out(source)))
    assert report.exit_code == 0, report.headline
    assert share(report) > 0.95, (report.alone, report.ambiguous)
    assert any("LayerNormalization split into" in line for line in report.rewritten)
    # A scale of one and an offset of nought leave several values that are the result.
    assert not trained or not any("written as" in line for line in report.rewritten)
    assert "other graph" in report.headline


@pytest.mark.parametrize("fault", ["epsilon", "gelu", "scale"])
def test_a_fault_inside_of_a_function_is_found_there(tmp_path: Path, fault: str):
    source = net(tmp_path)
    model = written_out(source)
    if fault == "scale":
        tensor = next(t for t in model.graph.initializer if t.name == "scale")
        array = numpy_helper.to_array(tensor).copy()
        array[3] += 0.05
        tensor.CopyFrom(numpy_helper.from_array(array, "scale"))
    else:
        wanted = 1e-5 if fault == "epsilon" else 0.5
        for node in model.graph.node:
            for held in node.attribute:
                if node.op_type == "Constant" and held.name in ("value", "value_float"):
                    _change(held, wanted)
    report = compare(source, saved(tmp_path / "faulty.onnx", model))
    assert report.exit_code == 1
    assert report.first is not None
    place = {"epsilon": "norm", "scale": "norm", "gelu": "gelu"}[fault]
    assert report.first.expected.startswith(place), report.headline
    assert {"outer", "swish", "y"} <= {row.expected for row in report.values}


def _change(held: onnx.AttributeProto, wanted: float) -> None:
    """Double a constant of that value."""
    if held.name == "value_float":
        held.f = 2 * held.f if np.isclose(held.f, wanted) else held.f
        return
    array = numpy_helper.to_array(held.t)
    if array.dtype.kind == "f" and array.size == 1 and np.isclose(float(array.reshape(())), wanted):
        held.t.CopyFrom(numpy_helper.from_array((2 * array).astype(array.dtype)))


def test_only_what_another_file_has_written_out_is_shown(tmp_path: Path):
    source = net(tmp_path)
    graph = open_graph(source)
    assert show_inside(graph, graph).graph is graph
    out = open_graph(saved(tmp_path / "out.onnx", written_out(source)))
    shown = show_inside(graph, out)
    assert shown.inside and set(shown.graph.outputs) == {"y"}
    # Nothing of the file itself reads them.
    own = [node for node in shown.graph.nodes if shown.inside.isdisjoint(node.output)]
    assert [list(node.input) for node in own] == [list(node.input) for node in graph.nodes]


@pytest.mark.parametrize("fault", ["gives nothing", "reads too much"])
def test_a_node_that_is_no_call_of_its_function_is_left_as_it_is(tmp_path: Path, fault: str):
    model = onnx.load(net(tmp_path))
    node = next(node for node in model.graph.node if node.op_type == "HardSwish")
    spoilt = onnx.NodeProto()
    spoilt.CopyFrom(node)
    spoilt.output[0] = "" if fault == "gives nothing" else "more"
    spoilt.input.extend(["outer"] * (fault == "reads too much"))
    at = list(model.graph.node).index(node)
    model.graph.node.insert(at + 1, spoilt)
    onnx.save(model, tmp_path / "spoilt.onnx")
    plain = open_graph(saved(tmp_path / "out.onnx", written_out(tmp_path / "net.onnx")))
    shown = show_inside(open_graph(tmp_path / "spoilt.onnx"), plain)
    assert any("swish::inside::" in name for name in shown.inside)
    assert not any(name.startswith("more::inside::") for name in shown.inside)


def test_a_function_whose_parameters_are_left_to_their_defaults_stays_one_node(tmp_path: Path):
    """Its body reads the parameter out of a Constant, which has none then."""
    size = helper.make_tensor_value_info("size", onnx.TensorProto.INT64, [])
    window = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n"])

    def written(name: str, nodes: list[onnx.NodeProto]) -> GraphIndex:
        graph = helper.make_graph(nodes, "net", [size], [window])
        return open_graph(
            saved(
                tmp_path / name,
                helper.make_model(
                    graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
                ),
            )
        )

    plain = written("plain.onnx", [helper.make_node("Cast", ["size"], ["y"], to=1)])
    given = {"periodic": 0, "output_datatype": 1}
    for parameters, nodes in ((given, True), ({}, False)):
        node = helper.make_node("HannWindow", ["size"], ["y"], **parameters)
        shown = show_inside(written("window.onnx", [node]), plain)
        assert (len(shown.graph.nodes) > 1) == nodes
