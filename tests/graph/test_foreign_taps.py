"""What a node says of itself, and when that is enough to call its value the program's."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from exporter.graph.foreign_taps import agreeing_taps
from exporter.graph.index import GraphIndex, index_graph
from exporter.graph.node_origin import Origin, origin_of
from exporter.graph.program import Op, Program, Ref

SCOPES = "pkg.torch.onnx.name_scopes"
CLASSES = "pkg.torch.onnx.class_hierarchy"
TRACE = "pkg.torch.onnx.stack_trace"


def node(kind: str, read: str, made: str, **metadata: str) -> onnx.NodeProto:
    found = helper.make_node(kind, [read], [made])
    for key, value in metadata.items():
        found.metadata_props.add(
            key={"s": SCOPES, "c": CLASSES, "t": TRACE}.get(key, key), value=value
        )
    return found


def relu(read: str, made: str, module: str, line: int = 7) -> onnx.NodeProto:
    return node(
        "Relu",
        read,
        made,
        s=f"['', '{module}', '{made}']",
        c="['Model', 'torch.nn.modules.activation.ReLU', 'aten.relu.default']",
        t=f'File "/home/a/site-packages/pack/model.py", line {line}, in forward\n    self.act(x)',
    )


def op(name: str, read: str, module: str, line: int = 7) -> Op:
    return Op(
        name=name,
        target="aten.relu.default",
        args=(Ref(read),),
        kwargs={},
        kind="tensor",
        dtype="float32",
        module=module,
        source=f"pack/model.py:{line}",
    )


def program(*ops: Op) -> Program:
    return Program(
        inputs=("x",),
        weights={},
        ops=ops,
        outputs=(ops[-1].name,),
        output_names=("y",),
        tensors={"unused": torch.zeros(1)},
    )


def graph(*nodes: onnx.NodeProto) -> GraphIndex:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in ("x", "y")]
    model = helper.make_model(helper.make_graph(list(nodes), "g", ends[:1], ends[1:]))
    return index_graph(model, Path())


THREE = program(op("relu", "x", "a"), op("relu_1", "relu", "b"), op("relu_2", "relu_1", "c"))


def last(read: str, module: str = "c") -> onnx.NodeProto:
    made = relu(read, "relu_2", module)
    made.output[0] = "y"
    return made


def test_values_of_the_same_name_module_and_op_are_the_programs():
    file = graph(relu("x", "relu", "a"), relu("relu", "relu_1", "b"), last("relu_1"))
    assert agreeing_taps(THREE, file).taps == {"relu", "relu_1", "relu_2"}


def test_a_name_that_moved_to_another_module_is_not_joined():
    file = graph(relu("x", "relu", "a"), relu("relu", "relu_1", "c"), node("Neg", "relu_1", "y"))
    assert agreeing_taps(THREE, file).taps == {"relu"}


def test_another_line_of_the_same_module_is_not_joined():
    file = graph(relu("x", "relu", "a"), relu("relu", "relu_1", "b", line=8), last("relu_1"))
    assert agreeing_taps(THREE, file).taps == {"relu", "relu_2"}


def test_without_lines_a_module_whose_names_have_moved_is_not_joined():
    """One relu more in front: 'relu_1' is there, with the right module and op, and is another."""
    first, second, third = relu("x", "relu", "b"), relu("relu", "relu_1", "b"), last("relu_1")
    third.output[0] = "y"
    for made in (first, second, third):
        del made.metadata_props[2]  # the stack trace
    twice = program(op("relu", "x", "a"), op("relu_1", "relu", "b"), op("relu_2", "relu_1", "c"))
    assert agreeing_taps(twice, graph(first, second, third)).taps == frozenset()


def test_a_file_without_metadata_shares_nothing():
    file = graph(node("Relu", "x", "relu"), node("Relu", "relu", "relu_1"), last("relu_1"))
    found = agreeing_taps(THREE, file)
    assert not found.useful
    assert not found.taps  # an output alone is compared anyway
    assert found.described == 1


@pytest.mark.parametrize("scopes", ["", "['', 'a'", "{'a': 1}", "[1, 2]", "['', 'a', 'relu', 'x']"])
def test_damaged_metadata_says_nothing(scopes: str):
    made = relu("x", "relu", "a")
    made.metadata_props[0].value = scopes
    assert origin_of(made) is None


def test_the_namespace_alone_is_enough():
    made = node(
        "Relu", "x", "relu", namespace=": pack.Model/layers.0: pack.Layer/relu: aten.relu.default"
    )
    expected = Origin(name="relu", module="layers.0", op="aten.relu.default", source="")
    assert origin_of(made) == expected


def test_what_a_pass_of_the_exporter_made_belongs_to_no_module():
    made = node(
        "Shape",
        "x",
        "sym_size_int_3",
        s="['_empty_nn_module_stack_from_metadata_hook', 'sym_size_int_3']",
        c="['_empty_nn_module_stack_from_metadata_hook', 'aten.sym_size.int']",
    )
    assert origin_of(made) is None
