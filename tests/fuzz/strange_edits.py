"""Edits of an ONNX file that the format allows, and that nobody expects."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.fuzz.fatal_ops import fatal_ops
from tests.fuzz.mutate import TEXTS, as_json, changed_tree
from tests.fuzz.onnx_edits import Edit

_OPSET = helper.make_opsetid("", 18)


def _held(model: onnx.ModelProto, name: str, value: Any) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def _first(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


def _shown(draw: Random, model: onnx.ModelProto, name: str, kind: int = 1) -> None:
    """Perhaps an output of the graph, so that no run may leave it out."""
    if draw.random() < 0.6:
        model.graph.output.append(helper.make_tensor_value_info(name, kind, None))


def _info(name: str, kind: int = 1, shape: Any = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def deep_branches(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """Branches in branches, which read a value of the outermost graph."""
    given = draw.choice([model.graph.input[0].name, model.graph.node[0].output[0]])
    graph = helper.make_graph(
        [helper.make_node("Identity", [given], ["d0"])], "g0", [], [_info("d0")]
    )
    depth = draw.choice((1, 3, 20, 28))  # protobuf reads a hundred messages in one another
    for level in range(1, depth + 1):
        branch = helper.make_node("If", ["go"], [f"d{level}"], then_branch=graph, else_branch=graph)
        # Two branches each would be two to the power of the depth.
        if depth > 3:
            del branch.attribute[1].g.node[:]
        outs = [] if draw.random() < 0.05 else [_info(f"d{level}")]
        graph = helper.make_graph([branch], f"g{level}", [], outs)
    _held(model, "go", draw.choice((True, False, 1.0, [True], [])))
    model.graph.node.extend(graph.node)
    _shown(draw, model, f"d{depth}")


def bodies(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """Loop and Scan whose bodies take or give too much, too little, or what is shadowed."""
    given = model.graph.input[0].name
    carried = draw.choice(("v", given, model.graph.node[0].output[0], ""))
    takes = [_info("i", 7, []), _info("c", 9, []), _info(carried)]
    gives = [_info("c2", 9, []), _info("v2"), _info("each")]
    nodes = [
        helper.make_node("Identity", ["c"], ["c2"]),
        helper.make_node(draw.choice(("Identity", "Neg", "Nope")), [carried], ["v2"]),
        helper.make_node("Identity", [draw.choice(("v2", "i", "away"))], ["each"]),
    ]
    for held in (takes, gives, nodes):
        if draw.random() < 0.2:
            held.pop(draw.randrange(len(held)))
        if draw.random() < 0.1:
            held.append(held[0])
    body = helper.make_graph(nodes, "body", takes, gives)
    if draw.random() < 0.3:
        body.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), carried))
    _held(model, "m", np.array(draw.choice((3, 0, -1)), draw.choice((np.int64, np.int32))))
    _held(model, "go", draw.choice((True, [True, False])))
    if draw.random() < 0.6:
        node = helper.make_node("Loop", ["m", "go", given], ["l0", "l1"], body=body)
    else:
        node = helper.make_node(
            "Scan", [given, given], ["l0", "l1"], body=body, num_scan_inputs=draw.choice((1, 0, 9))
        )
    if draw.random() < 0.15:
        attribute = node.attribute[0]
        attribute.type = draw.choice((1, 2, 4, 6, 10))
    model.graph.node.append(node)
    _shown(draw, model, "l0")


def own_functions(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """Functions named as an operator is, without nodes, of many versions, twice."""
    name, domain = draw.choice(
        (("F", "f"), ("Add", ""), ("MatMul", ""), ("Relu", "ai.onnx"), ("", ""))
    )
    inner = draw.choice(
        (
            [],
            [helper.make_node("Identity", ["x"], ["y"])],
            [helper.make_node("Constant", [], ["y"], value_float=1.0)],
            [helper.make_node("Nope", ["x"], ["y"], domain="nowhere")],
            [helper.make_node("Identity", ["away"], ["y"])],
            [helper.make_node("Identity", ["y"], ["y"])],
        )
    )
    if inner and draw.random() < 0.3:
        made = inner[0].attribute.add()
        made.name, made.ref_attr_name, made.type = "value_float", "alpha", draw.choice((1, 2, 0))
    function = helper.make_function(
        domain, name, ["x"], ["y"], inner, [_OPSET], draw.choice(([], ["alpha"], ["alpha"] * 2))
    )
    if draw.random() < 0.3:
        function.overload = draw.choice((*TEXTS[:2], "one"))
    if draw.random() < 0.2:
        function.attribute_proto.append(helper.make_attribute("beta", [1.0, 2.0]))
    if draw.random() < 0.2:
        function.value_info.append(_info("y", draw.choice((0, 1, 99)), ["n"]))
    if draw.random() < 0.2:
        del function.opset_import[:]
    model.functions.extend([function] * draw.choice((1, 1, 2)))
    if domain == "f":
        model.opset_import.append(helper.make_opsetid("f", draw.choice((1, 0, 2**31))))
    takes = draw.choice(([model.graph.input[0].name], [], [""], ["go", "go", "go"]))
    model.graph.node.append(helper.make_node(name, takes, ["fy"], domain=domain))
    _shown(draw, model, "fy")


def other_kinds(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """Values that are sequences, optionals, maps, sparse or nothing at all."""
    deep = onnx.TypeProto()
    inner = deep
    for _step in range(draw.choice((1, 1, 2, 40))):
        inner = draw.choice((inner.sequence_type, inner.optional_type)).elem_type
    inner.tensor_type.elem_type = draw.choice((1, 7, 8, 0, 99))
    sparse = onnx.TypeProto()
    sparse.sparse_tensor_type.elem_type = 1
    table = onnx.TypeProto()
    table.map_type.key_type = draw.choice((7, 8, 1, 0))
    table.map_type.value_type.CopyFrom(deep)
    kind = draw.choice((deep, deep, sparse, table, onnx.TypeProto()))
    place = draw.randrange(4)
    if place == 0:
        model.graph.input.append(onnx.ValueInfoProto(name="other", type=kind))
    elif place == 1:
        draw.choice((*model.graph.input, *model.graph.output)).type.CopyFrom(kind)
    elif place == 2:
        name = draw.choice([n.output[0] for n in model.graph.node if n.output] or ["x"])
        model.graph.value_info.append(onnx.ValueInfoProto(name=name, type=kind))
    else:
        given = model.graph.input[0].name
        model.graph.node.append(helper.make_node("SequenceConstruct", [given, given], ["seq"]))
        last = draw.choice(("seq", "opt"))
        if last == "opt":
            model.graph.node.append(helper.make_node("Optional", ["seq"], ["opt"]))
        model.graph.output.append(onnx.ValueInfoProto(name=last, type=kind))


def texts(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """Weights, inputs and constants of text, some of it no UTF-8."""
    held = TensorProto(name="words", data_type=8, dims=[draw.choice((0, 2, 2, 3, 2**40))])
    held.string_data.extend(draw.choice(((b"a", b"b"), (b"\xff", b""), (b"x" * 100_000, b"\0"))))
    if draw.random() < 0.2:
        held.raw_data = b"abcd"
    model.graph.initializer.append(held)
    kind = draw.randrange(4)
    if kind == 0:
        model.graph.input.append(_info("said", 8, draw.choice(([2], ["n"], None))))
        model.graph.node.append(helper.make_node("StringConcat", ["said", "words"], ["both"]))
    elif kind == 1:
        model.graph.node.append(
            helper.make_node("StringNormalizer", ["words"], ["both"], case_change_action="LOWER")
        )
    elif kind == 2:
        model.graph.node.append(helper.make_node("Identity", ["words"], ["both"]))
    else:
        model.graph.node.append(helper.make_node("Cast", ["words"], ["both"], to=1))
    _shown(draw, model, "both", draw.choice((8, 1)))


def training(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """A part for training, with weights that nobody else has."""
    info = model.training_info.add()
    info.algorithm.CopyFrom(model.graph)
    if draw.random() < 0.5:
        info.initialization.CopyFrom(
            helper.make_graph(
                [helper.make_node("ConstantOfShape", ["away"], ["fresh"])],
                "i",
                [],
                [_info("fresh")],
            )
        )
        info.initialization_binding.add(key="nowhere", value="fresh")
    info.update_binding.add(key=model.graph.initializer[0].name, value=draw.choice(("", "y", "x")))
    weight = info.algorithm.initializer[0]
    if draw.random() < 0.5:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(
            key="location", value=draw.choice(("/etc/passwd", "x.bin", "fifo"))
        )


def opsets(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """None, many, of domains that are unknown or written in two ways."""
    kind = draw.randrange(5)
    if kind == 0:
        del model.opset_import[:]
    elif kind == 1:
        model.opset_import.extend([helper.make_opsetid("", draw.choice((7, 18, 999)))])
    elif kind == 2:
        model.opset_import.append(helper.make_opsetid("ai.onnx", draw.choice((1, 18, 25))))
    else:
        domain = draw.choice(("com.microsoft", "ai.onnx.ml", "nowhere", "\u202e", "x" * 5000))
        node = draw.choice(model.graph.node)
        node.domain = domain
        if kind == 3:
            model.opset_import.append(helper.make_opsetid(domain, draw.choice((1, 0, 2**40))))


def own_metadata(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """What this program wrote into the file, with other types inside of it."""
    for _step in range(draw.choice((1, 1, 3))):
        if not model.metadata_props:
            model.metadata_props.add(key="export_verify.taps", value="{}")
        entry = draw.choice(model.metadata_props)
        try:
            tree = json.loads(entry.value)
        except ValueError:
            tree = entry.value
        deep = isinstance(tree, dict | list) and draw.random() < 0.5
        changed = changed_tree(draw, tree, deep=deep) if tree else draw.choice(([], 1))
        text = changed if isinstance(changed, str) and draw.random() < 0.5 else as_json(changed)
        entry.value = text.encode("utf-8", "replace").decode()
    texts = ("[", "['a', 1]", "None", "__import__('os')", "[" * 3000, "")
    for held in (draw.choice(model.graph.node), model.graph.node[0], model.graph):
        if draw.random() < 0.3:
            key = draw.choice(("pkg.torch.onnx.name_scopes", "namespace", ""))
            held.metadata_props.add(key=key, value=draw.choice(texts))


def axes(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """Names of axes and of values that are formulas, markup, one another's, or very long."""
    name = draw.choice(
        (
            "a*b+1",
            "batch size",
            "",
            "0",
            "-1",
            "1e9",
            "<b>",
            "x" * 100_000,
            "\x1b[2J",
            "é",
            "a//0",
            "{}",
        )
    )
    value = draw.choice((*model.graph.input, *model.graph.output, *model.graph.value_info))
    shape = value.type.tensor_type.shape
    if shape.dim and draw.random() < 0.7:
        for at in range(len(shape.dim)):
            if draw.random() < 0.6:
                shape.dim[at].dim_param = name
    else:
        for _step in range(draw.choice((1, 30, 100))):
            shape.dim.add(dim_param=name)
    if draw.random() < 0.3:
        old, new = value.name, draw.choice((name, "if", "a/b", "..", "a:0"))
        value.name = new
        for node in model.graph.node:
            for field in (node.input, node.output):
                for at, held in enumerate(field):
                    if held == old:
                        field[at] = new


def crowds(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """Chains, fans and lists of thousands; inputs that are outputs; circles."""
    given, many = model.graph.input[0].name, draw.choice((300, 2000, 6000))
    kind = draw.randrange(7)
    if kind == 0:
        chain = [given, *(f"ch{n}" for n in range(many))]
        model.graph.node.extend(helper.make_node("Identity", [a], [b]) for a, b in pairwise(chain))
        _shown(draw, model, chain[-1])
    elif kind == 1:
        model.graph.node.append(helper.make_node("Concat", [given] * many, ["wide"], axis=0))
        _shown(draw, model, "wide")
    elif kind == 2:
        model.graph.input.extend(_info(f"in{n}", 1, [1]) for n in range(many // 4))
    elif kind == 3:
        model.graph.output.append(model.graph.input[0])
    elif kind == 4:
        weight = model.graph.initializer[0]
        model.graph.output.append(_info(weight.name, weight.data_type, list(weight.dims)))
        model.graph.input.append(_info(weight.name, weight.data_type, list(weight.dims)))
    elif kind == 5:
        _first(model, helper.make_node("Add", [given, "round"], ["trip"]),
               helper.make_node("Neg", ["trip"], ["round"]))  # fmt: skip
        _shown(draw, model, "trip")
    else:
        nodes = list(model.graph.node)
        draw.shuffle(nodes)
        del model.graph.node[:]
        model.graph.node.extend(nodes)


def small_types(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """Values of four bits, eight, complex, on the way from an input to an output."""
    given, kind = (
        model.graph.input[0].name,
        draw.choice((14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24)),
    )
    model.graph.node.append(helper.make_node("Cast", [given], ["small"], to=kind))
    back = draw.choice(("Cast", "Identity", "Neg"))
    more = {"to": 1} if back == "Cast" else {}
    model.graph.node.append(helper.make_node(back, ["small"], ["back"], **more))
    _shown(draw, model, draw.choice(("small", "back")), draw.choice((kind, 1)))
    if draw.random() < 0.3:
        model.graph.input.append(_info("tiny", kind, [3]))
        model.graph.node.append(helper.make_node("Identity", ["tiny"], ["tiny2"]))
        _shown(draw, model, "tiny2", kind)
    if draw.random() < 0.3:
        weight = TensorProto(
            name="tw", data_type=kind, dims=[3], raw_data=bytes(draw.choice((2, 3, 6, 24)))
        )
        model.graph.initializer.append(weight)
        model.graph.node.append(helper.make_node("Identity", ["tw"], ["tw2"]))
        _shown(draw, model, "tw2", kind)


def much_beside(draw: Random, model: onnx.ModelProto, folder: Path) -> None:
    """Weights in other files: the file itself, one that is mostly a hole, many that overlap."""
    kind = draw.randrange(4)
    names = ("model.onnx", "hole.bin", "sub/w.bin", "w.bin")
    with (folder / "hole.bin").open("wb") as file:
        file.truncate(draw.choice((1 << 33, 1 << 40)))
    (folder / "sub").mkdir(exist_ok=True)
    for name in names[2:]:
        (folder / name).write_bytes(bytes(4096))
    for tensor in model.graph.initializer:
        if kind and draw.random() < 0.5:
            continue
        size = len(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        offset = draw.choice((0, 0, 16, 1 << 32, 4095))
        entries = {
            "location": names[kind],
            "offset": offset,
            "length": draw.choice((size, size, 0, 1 << 34)),
        }
        if draw.random() < 0.2:
            entries["checksum"] = "0" * 40
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
    if draw.random() < 0.3:
        tensor = model.graph.initializer[0]
        del tensor.dims[:]
        tensor.dims.extend([1 << 31])


def quantisation(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """Notes of quantisation, documents and devices that fit nothing."""
    note = model.graph.quantization_annotation.add()
    note.tensor_name = draw.choice((model.graph.input[0].name, "", "away"))
    note.quant_parameter_tensor_names.add(key=draw.choice(("SCALE_TENSOR", "")), value="away")
    model.doc_string = draw.choice(("", "x" * 2_000_000, "\0", "<script>"))
    model.graph.name = draw.choice(TEXTS[:7])
    if hasattr(model, "configuration") and draw.random() < 0.5:
        model.configuration.add(name="c", num_devices=draw.choice((0, -1, 2**31 - 1)))


STRANGE: tuple[Edit, ...] = (
    *(deep_branches, bodies, bodies, own_functions, own_functions, other_kinds, texts, training),
    *(opsets, own_metadata, own_metadata, axes, crowds, fatal_ops, fatal_ops, fatal_ops),
    *(small_types, much_beside, quantisation),
)
