"""Which op's results a value shows: its own, or those of the op that it only moves elements of.

A view behind a sigmoid holds probabilities like the sigmoid, and is as accurate as that: kernels
that are accurate in the range of their results are not so in each of them.
"""

from __future__ import annotations

from exporter.execution.targets import moves_elements
from exporter.graph.program import Program
from exporter.parity.tolerance import natural_scale

_DISCRETE = ("int", "uint", "bool")


def shown_targets(program: Program) -> dict[str, str]:
    """Target of the op whose results each value shows, by the name of the value.

    Where a value is put together of several (cat, where), these must be of one natural scale.
    """
    discrete = {op.name for op in program.ops if op.dtype.startswith(_DISCRETE)}
    shown: dict[str, str] = {}
    for op in program.ops:
        shown[op.name] = op.target
        if not moves_elements(op.target):
            continue
        behind = [shown.get(name, "") for name in op.refs() if name not in discrete]
        scales = {natural_scale(target) for target in behind}
        if behind and len(scales) == 1:
            shown[op.name] = behind[0]
    return shown
