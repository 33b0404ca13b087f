"""How viewers of ONNX files call nodes, and which modules they belong to.

Model Explorer's extension for ONNX (model-explorer-onnx, ``main.py``) shows a node under its name,
after ``NameFixPass`` of onnx-ir has given every node one of its own, and an output of the graph or
a stored value as ``[value] NAME``; it groups nodes by their metadata ``namespace``, parts apart by
slashes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass

from exporter.graph.ir_model import ir_model
from exporter.graph.node_origin import NAMESPACE, origin_of
from exporter.graph.onnx_file import read_in_place


def viewer_keys(path: Path) -> Mapping[str, tuple[str, ...]]:
    """Value of a file -> keys of what stands for it in a viewer.

    That is its node, and itself where it is an output or stored in the file (which is what becomes
    of a value that was computed of constants alone).

    Raises:
        ArtifactError: the file cannot be read, or not by onnx-ir.
    """
    model = ir_model(read_in_place(path))
    names = {id(value): value.name for value in _values(model)}  # the pass renames values as well
    NameFixPass()(model)
    ends = set(model.graph.outputs)
    keys: dict[str, tuple[str, ...]] = {}
    for value in _values(model):
        node, name = value.producer(), names[id(value)]
        if node is not None and node.name and name:
            keys[name] = (node.name, _itself(value)) if value in ends else (node.name,)
    for value in model.graph.initializers.values():
        if name := names[id(value)]:
            keys[name] = (_itself(value),)
    return keys


def _itself(value: ir.Value) -> str:
    return f"[value] {value.name}"


def _values(model: ir.Model) -> Iterator[ir.Value]:
    yield from model.graph.initializers.values()
    for node in model.graph:
        yield from node.outputs


def modules_of(model: onnx.ModelProto) -> dict[str, str]:
    """Value -> path of the module whose op makes it, as far as the exporter wrote it down."""
    modules = {}
    for node in model.graph.node:
        origin = origin_of(node)
        if origin is not None and origin.module:
            modules.update(dict.fromkeys(node.output, origin.module))
    return modules


def write_modules(model: onnx.ModelProto, modules: Mapping[str, str]) -> None:
    """Give every node that makes a known value its module as metadata: ``encoder/layers/0``."""
    for node in model.graph.node:
        module = next((modules[name] for name in node.output if name in modules), "")
        if not module:
            continue
        kept = [entry for entry in node.metadata_props if entry.key != NAMESPACE]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
        node.metadata_props.add(key=NAMESPACE, value=module.replace(".", "/"))
