"""A digest of a captured program: its ops, their arguments, its constants, what it rests on.

Places in source files do not count: a project that was copied elsewhere is the same program.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def capture_digest(program: ExportedProgram) -> str:
    """sha256 that two captures share exactly when they are the same program on the same constants.

    Weights have a digest of their own; constants that the code brings are in this one.
    """
    digest = hashlib.sha256()
    for line in _lines(program):
        digest.update(line.encode(errors="surrogatepass") + b"\n")
    return digest.hexdigest()


def _lines(program: ExportedProgram) -> Iterator[str]:
    for path, part in program.graph_module.named_modules():
        if isinstance(part, GraphModule):
            yield f"graph {path}"
            yield from map(_node, part.graph.nodes)
    yield _text(program.graph_signature)
    for symbol, limits in sorted(program.range_constraints.items(), key=lambda item: str(item[0])):
        yield f"{symbol} in {limits}"
    for name, constant in sorted(program.constants.items()):
        yield f"constant {name} {_constant(constant)}"


def _node(node: Node) -> str:
    target = node.target if isinstance(node.target, str) else _name(node.target)
    value = node.meta.get("val")
    modules = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    parts = (node.op, node.name, target, node.args, node.kwargs, _shown(value), modules[-1:])
    return " ".join(map(_text, parts))


def _name(target: Any) -> str:
    name = getattr(target, "name", None)  # of an op: with its overload
    return str(name()) if callable(name) else getattr(target, "__qualname__", repr(target))


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value)


def _text(value: Any) -> str:
    return _ADDRESS.sub("", str(value))


def _constant(value: Any) -> str:
    if not isinstance(value, Tensor):
        return _text(value)
    if value.device.type == "meta":
        return _shown(value)
    data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return f"{_shown(value)} {hashlib.sha256(data.data).hexdigest()}"
