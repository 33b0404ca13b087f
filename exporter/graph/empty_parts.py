"""``torch.cat`` with ``torch.empty(0)`` among its parts, which PyTorch leaves out.

A tensor of one axis without an element joins with tensors of any rank: code begins with one and
adds to it. ONNX's ``Concat`` wants one rank for all.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.export import ExportedProgram

_CAT = torch.ops.aten.cat.default


def with_plain_cats(program: ExportedProgram) -> ExportedProgram:
    """The program, without parts of its cats that hold nothing in another rank."""
    changed = False
    for node in program.graph.nodes:
        if node.op != "call_function" or node.target is not _CAT:
            continue
        given: Any = node.args[0]
        value = node.meta["val"]
        kept = [part for part in given if not _joins_nothing(part.meta["val"], value)]
        if kept and len(kept) < len(given):
            node.args = (kept, *node.args[1:])
            changed = True
    if changed:
        program.graph_module.recompile()
    return program


def _joins_nothing(part: torch.Tensor, value: torch.Tensor) -> bool:
    """True for a part without an element and of another rank than the result.

    A size that the data decides is none to ask of: it is not known to be 0.
    """
    if part.dim() != 1 or value.dim() == 1 or part.dtype != value.dtype:
        return False
    return isinstance(part.shape[0], int) and part.shape[0] == 0
