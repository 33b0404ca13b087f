"""Where a stored tensor or a small value of the graph comes from, in the model's own words."""

from __future__ import annotations

import numpy as np

from exporter.debugging.pair import Pair
from exporter.graph.compare_tensors import content
from exporter.graph.index import GraphIndex
from exporter.interpret.evaluate import to_array

# Ops that hand a constant on as it is.
_PASSING = frozenset({"Cast", "CastLike", "Identity", "Expand", "Reshape", "Unsqueeze", "Squeeze"})


def parameter_of(pair: Pair, initializer: str, tap: str) -> str:
    """The model's parameter behind an initialiser without a name of its own; "" if unknown.

    The exporter stores some weights transposed or in another order under a new name. Candidates
    are what the op of the tap reads; a name is only given where the values are the same.
    """
    program = pair.program
    if initializer in program.tensors or initializer not in pair.expected.initializers:
        return ""
    op = next((op for op in program.ops if op.name == tap), None)
    if op is None:
        return ""
    array = pair.expected.array(initializer)
    for name in op.refs():
        key = program.weights.get(name)
        if key is None:
            continue
        tensor = to_array(program.tensors[key])
        if tensor.shape == array.shape and np.array_equal(tensor, array):
            return key
        if tensor.ndim == 2 and tensor.T.shape == array.shape and np.array_equal(tensor.T, array):
            return f"{key}, transposed"
    return ""


def constant_behind(graph: GraphIndex, name: str) -> str | None:
    """The constant that is handed on to a value, in words; ``None`` where it is computed."""
    at = name
    while at in graph.producer:
        node = graph.nodes[graph.producer[at]]
        if node.op_type not in _PASSING or not node.input:
            return None
        at = node.input[0]
    return content(graph, at) if at != name and at in graph.initializers else None
