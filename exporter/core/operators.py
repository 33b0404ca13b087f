"""Words for the nodes of an ONNX file that everybody who reads one needs."""

from __future__ import annotations

from typing import Protocol


class Node(Protocol):
    """What tells an operator: its name, and the operator set that it is of."""

    @property
    def op_type(self) -> str: ...
    @property
    def domain(self) -> str: ...


def is_standard(node: Node) -> bool:
    """True for an operator of ONNX itself, whichever of its two names the operator set has."""
    return node.domain in ("", "ai.onnx")


def is_constant(node: Node) -> bool:
    """True for ONNX's own Constant; an operator set of somebody else may have one of that name."""
    return node.op_type == "Constant" and is_standard(node)
