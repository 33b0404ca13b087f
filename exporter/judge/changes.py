"""What was changed in a file since it was exported, and whether that may have been on purpose."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.graph.compare_graphs import diff_structure
from exporter.graph.difference_kinds import Kind
from exporter.graph.index import GraphIndex
from exporter.graph.program import Program
from exporter.graph.rewrites import new_epsilons, unexplained
from exporter.graph.taps import plan_taps
from exporter.report.comparison import StructureRecord


def structure_records(
    program: Program, own: GraphIndex, given: GraphIndex, *, on_purpose: bool
) -> list[StructureRecord]:
    """All differences of a file to the export that it descends from, in that one's order.

    Args:
        own: the export. given: the file.
        on_purpose: whoever asks knows that a tool has rewritten the file. Differences that a
            rewriting explains are then accepted: numbers judge them. One that stands alone is not.
    """
    names = [tap.onnx_name for tap in plan_taps(program, own)]
    modules = {program.onnx_name(op.name): op.module for op in program.ops}
    differences = diff_structure(own, given, taps=names)
    odd = unexplained(own, given, differences)
    named = {(item.node, item.name) for item in differences if item.kind is Kind.ATTRIBUTE}
    new = [item for item in new_epsilons(own, given) if (item.node, item.name) not in named]
    pairs = [*zip(differences, odd, strict=True), *((item, True) for item in new)]
    return [
        StructureRecord(
            kind=item.kind.value,
            node=item.node,
            name=item.name,
            expected=item.expected,
            actual=item.actual,
            tap=item.tap,
            layer=modules.get(item.tap or ""),
            explained=not alone,
            accepted=on_purpose and not alone,
        )
        for item, alone in pairs
    ]


def purpose_note(structure: Sequence[StructureRecord]) -> list[str]:
    """What a report says of a file that was changed on purpose."""
    accepted = sum(item.accepted for item in structure)
    alone = len(structure) - accepted
    others = f"; {alone} are explained by no rewriting beside them and fail" if alone else ""
    return [
        f"changed on purpose: {accepted} differences to the export that it descends from are "
        f"judged by numbers{others}"
    ]
