"""``squeeze`` as PyTorch means it: an axis that has more than one element stays.

ONNX's ``Squeeze`` refuses such an axis, and without axes it takes away every axis of one element of
the input that it happens to get. What a squeeze takes away was decided when the program was traced.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Node

_ATEN = torch.ops.aten
_VIEW = torch.ops.prims.view_of.default
"""What a squeeze of several axes that are all larger is taken apart into."""
_SQUEEZES = (_ATEN.squeeze.default, _ATEN.squeeze.dim, _ATEN.squeeze.dims)


def with_plain_squeezes(program: ExportedProgram) -> ExportedProgram:
    """The program, its squeezes that ONNX has no counterpart of written as what they do."""
    changed = False
    for node in list(program.graph.nodes):
        if node.op != "call_function":
            continue
        if node.target in _SQUEEZES:
            changed = _rewritten(node) or changed
        elif node.target is _VIEW:
            node.target, changed = _ATEN.clone.default, True
    if changed:
        program.graph_module.recompile()
    return program


def _rewritten(node: Node) -> bool:
    """Change one squeeze in place; False when it may stay."""
    source: Any = node.args[0]
    shape = source.meta["val"].shape
    wanted = _wanted(node, len(shape))
    gone = [axis for axis in wanted if isinstance(shape[axis], int) and shape[axis] == 1]
    if gone == wanted and node.target is _ATEN.squeeze.dim:
        return False
    if not gone:
        node.target, node.args, node.kwargs = _ATEN.clone.default, (source,), {}
        return True
    # One axis at a time from the last, the one that is left over under the node's own name.
    for axis in sorted(gone, reverse=True)[:-1]:
        with node.graph.inserting_before(node):
            step = node.graph.call_function(_ATEN.squeeze.dim, (source, axis))
        step.meta.update(node.meta)
        step.meta["val"] = source.meta["val"].squeeze(axis)
        source = step
    node.target, node.args, node.kwargs = _ATEN.squeeze.dim, (source, min(gone)), {}
    return True


def _wanted(node: Node, rank: int) -> list[int]:
    if node.target is _ATEN.squeeze.default:
        return list(range(rank))
    dims: Any = node.args[1]
    axes = [dims] if isinstance(dims, int) else list(dims)
    return sorted({axis % rank for axis in axes}) if rank else []
