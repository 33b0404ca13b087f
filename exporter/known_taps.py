"""Where the taps of a given file come from: its own export, its metadata, or nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.build import PREFIX
from exporter.execution.targets import moves_elements
from exporter.graph.foreign_taps import Agreement, agreeing_taps
from exporter.graph.index import GraphIndex
from exporter.graph.program import Program
from exporter.graph.taps import COMPARED, plan_taps, tap_ops
from exporter.reference import Reference

_ELSEWHERE = "the file does not descend from this pipeline's export (its metadata does not say so)"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTaps:
    """Which values of a file are known to be the program's, and why.

    Attributes:
        descends: the file says that it came from the pipeline's own export.
        tapped: layers can be compared.
        known: as for ``plan_taps``.
        expected: taps that the file ought to hold; one that it has lost is named when the piece
            behind it fails.
        note: the same in one sentence, for the report.
    """

    descends: bool
    tapped: bool
    known: frozenset[str] | None
    expected: frozenset[str]
    note: str


def known_taps(metadata: Mapping[str, str], given: GraphIndex, own: Reference) -> KnownTaps:
    """Decide what is known of the values of ``given``.

    Args:
        metadata: of the given file.
        own: what the pipeline's own run left.
    """
    if _descends(metadata, own):
        return KnownTaps(
            descends=True,
            tapped=True,
            known=None,
            expected=_held(own, computed=False),
            note="the file descends from this pipeline's export: its values are compared by name",
        )
    agreed = agreeing_taps(own.program, given)
    return KnownTaps(
        descends=False,
        tapped=agreed.useful,
        known=agreed.taps if agreed.useful else None,
        expected=_held(own, computed=True) if agreed.useful else frozenset(),
        note=_note(own.program, agreed),
    )


def _descends(metadata: Mapping[str, str], own: Reference) -> bool:
    """True when the file says that it came from this very export."""
    keys = (f"{PREFIX}export_digest", f"{PREFIX}graph_digest", f"{PREFIX}weights_digest")
    return all(key in own.metadata and metadata.get(key) == own.metadata[key] for key in keys)


def _held(own: Reference, *, computed: bool) -> frozenset[str]:
    """Taps of the pipeline's own file; without those that only move elements, if ``computed``.

    Exporters differ in which of these they leave out.
    """
    taps = [tap.tap for tap in plan_taps(own.program, own.graph) if tap.fate == COMPARED]
    return frozenset(tap.name for tap in taps if not (computed and moves_elements(tap.op)))


def _note(program: Program, agreed: Agreement) -> str:
    if agreed.useful:
        return (
            f"{_ELSEWHERE}, but torch.onnx.export has written into it where its nodes come from: "
            f"{len(agreed.taps)} of {len(tap_ops(program))} values have name, module and op of "
            "this pipeline's program and are compared one by one"
        )
    why = "says of no node where it comes from"
    if agreed.described:
        why = f"describes {agreed.described} nodes, none of them as this pipeline's program does"
    return f"{_ELSEWHERE} and {why}: only its outputs are compared"
