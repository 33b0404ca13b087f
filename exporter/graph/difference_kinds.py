"""What can differ between two ONNX graphs of which one descends from the other."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

ABSENT = "absent"


class Kind(StrEnum):
    """What it is that differs."""

    ATTRIBUTE = "attribute"
    CONSTANT = "constant"
    WEIGHT = "weight"
    DTYPE = "dtype"
    SHAPE = "shape"
    NODE_MISSING = "node missing"
    NODE_ADDED = "node added"
    OP_CHANGED = "op changed"
    INPUTS_CHANGED = "inputs changed"
    OUTPUTS_CHANGED = "outputs changed"
    INTERFACE = "interface"
    OPSET = "opset"
    FUNCTION = "function"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One place where a file is not what it descends from.

    Attributes:
        kind: what it is that differs.
        node: name of the node; "" where the whole file is meant.
        op: operator of that node; "" where the whole file is meant.
        name: the attribute, initialiser, input or output.
        expected, actual: short and readable; "absent" where a side has nothing.
        tap: the nearest value that the node leads to (see ``diff_structure``).
        also: the same for further nodes that read the same initialiser.
        index: place of the largest difference within an initialiser.
        count, size: how many of how many elements differ.
        values: a value of every node that the difference is at, by the names of the expected graph.
        note: what the change looks like ("the transpose of the expected values"), if known.
        stored: whether ``expected`` and ``actual`` are values that lie in the file, of an input.
    """

    kind: Kind
    node: str
    op: str
    name: str
    expected: str
    actual: str
    tap: str | None = None
    also: tuple[str, ...] = ()
    index: tuple[int, ...] | None = None
    count: int | None = None
    size: int | None = None
    values: tuple[str, ...] = ()
    note: str = ""
    stored: tuple[bool, bool] = (False, False)
