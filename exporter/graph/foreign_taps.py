"""Values of a file that was exported elsewhere and that are known to be the program's.

``torch.onnx.export(dynamo=True)`` names ONNX values after the nodes of the graph that it
translates and writes onto every ONNX node where it came from:

    pkg.torch.onnx.name_scopes       ['', 'encoder', 'encoder.3', 'linear_7']
    pkg.torch.onnx.class_hierarchy   ['M', 'Encoder', 'torch.nn...Linear', 'aten.linear.default']
    pkg.torch.onnx.stack_trace       File "encoder.py", line 88, in forward ...
    namespace                        the first two in one text: ': M/encoder: Encoder/linear_7: ...'

A value counts as the program's when name, module path and op all agree, and the source line too
where both sides know it. A name alone is not enough: one op more, and every number behind it is
another layer's. Where a module calls an op several times (in one line, where lines are known),
the file may not hold names that the program lacks there: the numbers have moved, then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.graph.index import GraphIndex
from exporter.graph.node_origin import Origin, origin_of
from exporter.graph.program import Op, Program, Ref
from exporter.graph.taps import tap_ops


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What a file and a program have in common.

    Attributes:
        taps: names of the program's ops whose values the file is known to hold; its outputs,
            which are called by their public names, are among them where they agree.
        described: nodes of the file that say where they came from.
    """

    taps: frozenset[str]
    described: int

    @property
    def useful(self) -> bool:
        """True when there is more than the outputs to compare."""
        return bool(self.taps)


def agreeing_taps(program: Program, graph: GraphIndex) -> Agreement:
    """Join a program and a file by the metadata of the file."""
    origins = {
        position: origin
        for position, node in enumerate(graph.nodes)
        if (origin := origin_of(node)) is not None
    }
    lines = all(origin.source for origin in origins.values())
    ours: dict[_Place, set[str]] = {}
    theirs: dict[_Place, set[str]] = {}
    for op in program.ops:
        ours.setdefault(_place(op.module, op.target, op.source, lines), set()).add(op.name)
    for origin in origins.values():
        place = _place(origin.module, origin.op, origin.source, lines)
        theirs.setdefault(place, set()).add(origin.name)
    agreeing = set()
    by_name = {op.name: op for op in program.ops}
    for op in tap_ops(program):
        position = graph.producer.get(program.onnx_name(op.name))
        origin = origins.get(position) if position is not None else None
        made = _maker(op, by_name)
        place = _place(made.module, made.target, made.source, lines)
        if origin is not None and _agree(made, origin) and theirs.get(place, set()) <= ours[place]:
            agreeing.add(op.name)
    inner = agreeing - set(program.outputs)
    return Agreement(taps=frozenset(agreeing if inner else ()), described=len(origins))


_Place = tuple[str, str, str]


def _place(module: str, target: str, source: str, lines: bool) -> _Place:
    return module, target, source if lines else ""


def _maker(op: Op, by_name: Mapping[str, Op]) -> Op:
    """The op whose node in the file has this value: a part of a tuple has no node of its own."""
    if op.target != "operator.getitem" or not isinstance(op.args[0], Ref):
        return op
    return by_name.get(op.args[0].name, op)


def _agree(op: Op, origin: Origin) -> bool:
    if (op.name, op.module, op.target) != (origin.name, origin.module, origin.op):
        return False
    return not op.source or not origin.source or op.source == origin.source
