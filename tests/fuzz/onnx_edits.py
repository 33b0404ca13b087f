"""Edits of an ONNX file's message, and of what lies beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import TensorProto, helper, numpy_helper

from tests.fuzz.attempt import fifo
from tests.fuzz.mutate import SIZES, TEXTS, changed_bytes

TYPES = (*range(28), 99, -1, 2**31 - 1)
Edit = Callable[[Random, onnx.ModelProto, Path], None]


def _tensor(draw: Random, model: onnx.ModelProto) -> TensorProto:
    return draw.choice(model.graph.initializer)


def _node(draw: Random, model: onnx.ModelProto) -> onnx.NodeProto:
    return draw.choice(model.graph.node)


def other_dtype(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """Of an initialiser: its bytes no longer fit."""
    _tensor(draw, model).data_type = draw.choice(TYPES)


def other_dims(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    tensor = _tensor(draw, model)
    dims = [draw.choice((0, -1, 1, 2**31, 2**40, 2**62, 3)) for _ in range(draw.randrange(4))]
    del tensor.dims[:]
    tensor.dims.extend(dims if draw.random() < 0.8 else [1] * 70)
    if draw.random() < 0.3:
        tensor.ClearField("raw_data")


def cut_data(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    tensor = _tensor(draw, model)
    tensor.raw_data = tensor.raw_data[: draw.randrange(len(tensor.raw_data) + 1)]


def typed_data(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """Values in a field that may not fit the type, too many or too few of them."""
    tensor = _tensor(draw, model)
    tensor.ClearField("raw_data")
    field = draw.choice(("float_data", "int32_data", "int64_data", "double_data", "uint64_data"))
    count = draw.choice((0, 1, 7, int(np.prod(tensor.dims))))
    getattr(tensor, field).extend([1] * count)
    if draw.random() < 0.3:
        tensor.ClearField(field)
        tensor.string_data.extend([b"\xff"] * count)
    if draw.random() < 0.5:
        tensor.data_type = draw.choice(TYPES)


def _beside(draw: Random, tensor: TensorProto, folder: Path) -> None:
    """Let a tensor lie in another file, which may be anything."""
    data = tensor.raw_data or bytes(64)
    tensor.ClearField("raw_data")
    name = draw.choice(
        ("w.bin",) * 8
        + ("missing", "folder", "loop", "fifo", "../out.bin", "/etc/passwd", "/dev/zero", "out")
        + ("", ".", "a\0b", "x" * 5000, "model.onnx", "~/x", "device", "link")
    )
    (folder / "w.bin").write_bytes(data)
    (folder / "folder").mkdir(exist_ok=True)
    fifo(folder)
    for link, to in (
        ("loop", "loop"),
        ("out", "/etc/passwd"),
        ("device", "/dev/zero"),
        ("link", "w.bin"),
    ):
        if not (folder / link).is_symlink():
            (folder / link).symlink_to(to)
    numbers = ("0", "-1", "x", "", "1e3", "٣", "0x0", " 0", "9" * 30, "9" * 5000, "4", str(1 << 62))
    tensor.data_location = TensorProto.EXTERNAL
    entries = [("location", name), ("offset", "0"), ("length", str(len(data)))]
    for at in range(3):
        if draw.random() < 0.25:
            entries[at] = (entries[at][0], draw.choice(numbers if at else TEXTS))
    if draw.random() < 0.2:
        entries.pop(draw.randrange(3))
    if draw.random() < 0.1:
        entries.append(draw.choice(entries or [("x", "y")]))
    for key, value in entries:
        try:
            tensor.external_data.add(key=key, value=value)
        except (UnicodeError, ValueError):
            tensor.external_data.add(key=key, value="?")


def external(draw: Random, model: onnx.ModelProto, folder: Path) -> None:
    _beside(draw, _tensor(draw, model), folder)


def external_constant(draw: Random, model: onnx.ModelProto, folder: Path) -> None:
    """In an attribute of a node: initialisers are not the only tensors of a file."""
    held = numpy_helper.from_array(np.ones(4, np.float32), "held")
    _beside(draw, held, folder)
    kind = draw.randrange(3)
    node = helper.make_node("Constant", [], ["extra"], name="extra", value=held)
    if kind == 1:
        other = helper.make_graph(
            [node], "sub", [], [helper.make_tensor_value_info("extra", 1, [4])]
        )
        then = numpy_helper.from_array(np.array(True), "then")
        model.graph.initializer.append(then)
        node = helper.make_node("If", ["then"], ["e"], then_branch=other, else_branch=other)
    elif kind == 2:
        inner = helper.make_graph(
            [helper.make_node("Identity", ["held"], ["extra"])],
            "sub",
            [],
            [helper.make_tensor_value_info("extra", 1, [4])],
            [held],
        )
        then = numpy_helper.from_array(np.array(True), "then")
        model.graph.initializer.append(then)
        node = helper.make_node("If", ["then"], ["e"], then_branch=inner, else_branch=inner)
    model.graph.node.insert(0, node)


def sparse(draw: Random, model: onnx.ModelProto, folder: Path) -> None:
    tensor = _tensor(draw, model)
    values = numpy_helper.from_array(np.ones(draw.choice((0, 1, 3)), np.float32), tensor.name)
    places = np.array(draw.choice(([0, 1, 2], [5, 5, 5], [-1, 0, 2], [10**9, 1, 2], [], [0])))
    indices = numpy_helper.from_array(places.astype(draw.choice((np.int64, np.float32))), "i")
    made = onnx.SparseTensorProto(values=values, indices=indices)
    made.dims.extend(draw.choice(([16, 16], [2**40], [-1], [], [2**62, 2**62], [3], [2**28])))
    if draw.random() < 0.2:
        _beside(draw, made.values, folder)
    model.graph.sparse_initializer.append(made)
    if draw.random() < 0.8:
        model.graph.initializer.remove(tensor)


def twice(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    graph = model.graph
    field = draw.choice(("node", "initializer", "input", "output", "value_info"))
    held = getattr(graph, field)
    if held:
        held.append(draw.choice(held))


def names(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    node = _node(draw, model)
    new = draw.choice((*TEXTS[:2], "x", "y", *(n.output[0] for n in model.graph.node)))
    field = draw.choice((node.input, node.output))
    if field:
        field[draw.randrange(len(field))] = new
    if draw.random() < 0.3:
        node.op_type = draw.choice(("", "Nope", "If", "Loop", "Scan", "Constant", "QLinearMatMul"))


def _function(name: str, calls: str, count: int) -> onnx.FunctionProto:
    nodes = [helper.make_node(calls, [f"v{i}"], [f"v{i + 1}"], domain="f") for i in range(count)]
    return helper.make_function(
        "f",
        name,
        ["v0"],
        [f"v{count}"],
        nodes,
        [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)],
    )


def functions(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """That call themselves, each other, one that is not there, or each other 2**20 times."""
    model.opset_import.append(helper.make_opsetid("f", 1))
    kind = draw.randrange(4)
    if kind == 0:
        model.functions.append(_function("a", "a", 1))
    elif kind == 1:
        model.functions.extend([_function("a", "b", 1), _function("b", "a", 1)])
    elif kind == 2:
        model.functions.append(_function("a", "nowhere", 2))
    else:
        deep = draw.choice((5, 12, 22))
        for level in range(deep):
            name = "a" if level == 0 else f"a{level}"
            model.functions.append(_function(name, f"a{level + 1}", 2))
        identity = [helper.make_node("Identity", ["v0"], ["v1"])]
        opset = [helper.make_opsetid("", 18)]
        model.functions.append(
            helper.make_function("f", f"a{deep}", ["v0"], ["v1"], identity, opset)
        )
    model.graph.node.append(helper.make_node("a", [model.graph.input[0].name], ["fx"], domain="f"))
    if draw.random() < 0.7:
        out = model.graph.output[0]
        model.graph.output.append(
            helper.make_tensor_value_info("fx", out.type.tensor_type.elem_type, None)
        )


def loops(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """That never end, or make a value of terabytes."""
    true = numpy_helper.from_array(np.array(True), "go")
    trip = numpy_helper.from_array(np.array(draw.choice((2**62, 10, 2**40))), "trip")
    size = draw.choice((1, 1 << 22, 1 << 34))
    shape = numpy_helper.from_array(np.array([size]), "size")
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["c"], ["c1"]),
            helper.make_node("Expand", ["s", "size"], ["e"]),
            helper.make_node("ReduceMax", ["e"], ["s1"], keepdims=0),
            *([helper.make_node("Identity", ["e"], ["grown"])] if draw.random() < 0.5 else []),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", 7, []),
            helper.make_tensor_value_info("c", 9, []),
            helper.make_tensor_value_info("s", 1, []),
        ],
        [helper.make_tensor_value_info("c1", 9, []), helper.make_tensor_value_info("s1", 1, [])],
    )
    outs = ["last"]
    if body.node[-1].output[0] == "grown":
        body.output.append(helper.make_tensor_value_info("grown", 1, [size]))
        outs.append("all")
    model.graph.initializer.extend([true, trip, shape])
    name = model.graph.output[0].name
    reduce = helper.make_node("ReduceMax", [name], ["first"], keepdims=0)
    loop = helper.make_node("Loop", ["trip", "go", "first"], outs, body=body)
    nodes = [reduce, loop]
    if draw.random() < 0.6:
        # In front of everything, so that no run may leave it out.
        given = model.graph.input[0].name
        for node in model.graph.node:
            for at, read in enumerate(node.input):
                if read == given:
                    node.input[at] = "given"
        nodes = [
            helper.make_node("ReduceMax", [given], ["first"], keepdims=0),
            loop,
            helper.make_node("Sub", ["last", "last"], ["zero"]),
            helper.make_node("Add", [given, "zero"], ["given"]),
        ]
        for node in reversed(nodes):
            model.graph.node.insert(0, node)
    else:
        model.graph.node.extend(nodes)
        model.graph.output.append(helper.make_tensor_value_info("last", 1, []))


def absurd_sizes(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """Of inputs, outputs, value infos; opsets; versions."""
    kind = draw.randrange(4)
    if kind == 0:
        for item in model.opset_import:
            item.version = draw.choice((0, -1, 1, 2, 7, 99, 2**31, 2**62))
    elif kind == 1:
        model.ir_version = draw.choice((0, -1, 1, 99, 2**40))
    else:
        value = draw.choice((*model.graph.input, *model.graph.output))
        shape = value.type.tensor_type.shape
        if shape.dim:
            shape.dim[draw.randrange(len(shape.dim))].dim_value = draw.choice((0, -1, 2**62, 1))
        if draw.random() < 0.3:
            value.type.tensor_type.elem_type = draw.choice(TYPES)
        if draw.random() < 0.2:
            value.type.tensor_type.ClearField("shape")
        if draw.random() < 0.1:
            value.ClearField("type")


def huge_values(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """A graph whose constants fold to more than any machine holds."""
    size = draw.choice(([2**20, 2**20], [2**33], [2**28], [-5], [2**62, 4]))
    model.graph.initializer.append(numpy_helper.from_array(np.array(size, np.int64), "hs"))
    op = draw.choice(("ConstantOfShape", "Expand", "Tile", "Range", "RandomNormal"))
    if op == "ConstantOfShape":
        node = helper.make_node(op, ["hs"], ["huge"])
    elif op == "RandomNormal":
        node = helper.make_node(op, [], ["huge"], shape=[abs(n) for n in size])
    elif op == "Range":
        for name, number in (("r0", 0), ("r1", 2**40), ("r2", draw.choice((1, 0, -1)))):
            model.graph.initializer.append(numpy_helper.from_array(np.array(number), name))
        node = helper.make_node(op, ["r0", "r1", "r2"], ["huge"])
    else:
        one = numpy_helper.from_array(np.ones([1] * len(size), np.float32), "one")
        model.graph.initializer.append(one)
        node = helper.make_node(op, ["one", "hs"], ["huge"])
    model.graph.node.insert(0, node)
    model.graph.node.append(helper.make_node("Shape", ["huge"], ["hshape"]))
    model.graph.node.append(helper.make_node("ReduceSum", ["huge"], ["hsum"], keepdims=0))
    if draw.random() < 0.7:
        kind = 7 if op == "Range" else 1
        model.graph.output.append(helper.make_tensor_value_info("hsum", kind, []))


def attributes(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """Of a node: others, of other types, without a value."""
    node = _node(draw, model)
    name = draw.choice([a.name for a in node.attribute] or ["axis"])
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    made = onnx.AttributeProto(name=name, type=draw.choice(range(15)))
    if draw.random() < 0.6:
        made.i = draw.choice((0, -1, 2**31, -(2**62)))
        made.ints.extend([draw.choice((0, -1, 2**62))] * draw.randrange(4))
    if draw.random() < 0.2:
        made.ref_attr_name = "nowhere"
    node.attribute.append(made)


def constants(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """Constant nodes without value, of absurd type, of a sparse tensor, of strings."""
    made = draw.choice(
        (
            helper.make_node("Constant", [], ["kc"]),
            helper.make_node("Constant", [], ["kc"], value_float=1.0),
            helper.make_node("Constant", [], ["kc"], value_strings=[b"a", b"\xff"]),
            helper.make_node("Constant", [], ["kc"], value_string=b"\xff"),
            helper.make_node("Constant", [], ["kc"], nonsense=3),
            helper.make_node("Constant", [], [], value_int=3),
            helper.make_node("Constant", ["x"], ["kc", "kd"], value_int=3),
            helper.make_node(
                "Constant", [], ["kc"], value=TensorProto(data_type=draw.choice(TYPES), dims=[3])
            ),
            helper.make_node(
                "Constant",
                [],
                ["kc"],
                sparse_value=onnx.SparseTensorProto(
                    values=numpy_helper.from_array(np.ones(1, np.float32)),
                    indices=numpy_helper.from_array(np.zeros(1, np.int64)),
                    dims=[draw.choice((4, 2**60, -1))],
                ),
            ),
        )
    )
    model.graph.node.insert(0, made)
    if draw.random() < 0.4:
        model.graph.output.append(helper.make_tensor_value_info("kc", 1, None))


def metadata(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """What this program wrote there, with other values."""
    if not model.metadata_props or draw.random() < 0.2:
        model.metadata_props.add(key="export_verify.input_choices", value="[" * 50_000)
        return
    entry = draw.choice(model.metadata_props)
    entry.value = draw.choice(
        (
            '{"x": {"minimum": {"batch": 1e400}, "value": "a"}}',
            '{"x": {"value": NaN}}',
            "[]",
            "null",
            "[" * 5000,
            "{",
            "9" * 5000,
            '{"x": {"a": 1e99}}',
            "NaN",
            "-1",
            "",
        )
    )


def fields(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """Any field of any message inside: another value, none, twice."""
    for _step in range(draw.choice((1, 2, 4))):
        _any_field(draw, model)


def _any_field(draw: Random, message: Message) -> None:
    while True:
        held = message.ListFields()
        if not held:
            return
        field, value = draw.choice(held)
        if field.type == field.TYPE_MESSAGE and draw.random() < 0.9:
            items = list(value) if field.is_repeated else [value]
            if items:
                message = draw.choice(items)
                continue
        break
    if draw.random() < 0.25:
        message.ClearField(field.name)
    elif field.type == field.TYPE_MESSAGE:
        if field.is_repeated and len(value):
            value.append(draw.choice(value)) if draw.random() < 0.5 else value.pop()
    else:
        _scalar(draw, message, field, value)


def _scalar(draw: Random, message: Message, field: object, value: object) -> None:
    name = field.name  # type: ignore[attr-defined]
    new: object
    if isinstance(value, bytes):
        new = changed_bytes(draw, value)
    elif field.is_repeated:  # type: ignore[attr-defined]
        items = getattr(message, name)
        if len(items) and draw.random() < 0.5:
            items.pop()
        elif len(items):
            items.append(items[0])
        return
    elif isinstance(value, str):
        new = draw.choice(TEXTS)
    else:
        new = draw.choice(SIZES)
    try:
        setattr(message, name, new)
    except (ValueError, TypeError, UnicodeError, OverflowError):
        message.ClearField(name)


def empty(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """Of nodes, of inputs, of outputs, of opsets, of everything."""
    fields_of = draw.choice(("node", "input", "output", "initializer"))
    if draw.random() < 0.2:
        model.ClearField(draw.choice(("graph", "opset_import", "ir_version")))
    else:
        del getattr(model.graph, fields_of)[:]


def quantised(draw: Random, model: onnx.ModelProto, _: Path) -> None:
    """A weight of a type of which several values share a byte, or eight bits."""
    tensor = _tensor(draw, model)
    tensor.data_type = draw.choice((17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 3, 2, 16))
    count = int(np.prod(tensor.dims))
    tensor.raw_data = bytes(draw.choice((count, (count + 1) // 2, (count + 3) // 4, 0)))


EDITS: tuple[Edit, ...] = (
    *(other_dtype, other_dims, cut_data, typed_data, external, external, external_constant),
    *(external_constant, sparse, twice, names, functions, loops, absurd_sizes, huge_values),
    *(attributes, constants, metadata, fields, fields, empty, quantised),
)
