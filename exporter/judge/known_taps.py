"""Where the taps of a given file come from: its own export, its metadata, or names alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.build.artifacts import Artifacts
from exporter.build.metadata import EXPORT_DIGEST, GRAPH_DIGEST, WEIGHTS_DIGEST
from exporter.core.tensors import COMPARED
from exporter.graph.foreign_taps import Agreement, agreeing_taps
from exporter.graph.index import GraphIndex
from exporter.graph.program import Program
from exporter.graph.taps import NO_JOINS, Joins, Names, plan_taps, tap_ops
from exporter.interpret.allowed_ops import moves_elements
from exporter.report.schema import CheckRecord

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
        names: what vouches for the names.
        note: the same in one sentence, for the report.
        joins: as for ``plan_taps``.
        unshown: what decides beside the taps, of a file whose values were joined.
    """

    descends: bool
    tapped: bool
    known: frozenset[str] | None
    expected: frozenset[str]
    names: Names
    note: str
    joins: Joins = NO_JOINS
    unshown: tuple[CheckRecord, ...] = ()


def known_taps(metadata: Mapping[str, str], given: GraphIndex, own: Artifacts) -> KnownTaps:
    """Decide what is known of the values of ``given``.

    Args:
        metadata: of the given file.
        own: what the pipeline's own run left.
    """
    survived = _survived(own.program, given)
    count = f"{len(survived)} of {len(tap_ops(own.program))} values"
    if _descends(metadata, own):
        how = f"{count} have kept their names and are compared by them"
        if not survived:
            how = "none of its values has kept its name: only its outputs are compared"
        return KnownTaps(
            descends=True,
            tapped=bool(survived),
            known=None,
            expected=held_taps(own, computed=False),
            names=Names.KEPT,
            note=f"the file descends from this pipeline's export: {how}",
        )
    agreed = agreeing_taps(own.program, given)
    if agreed.useful:
        return KnownTaps(
            descends=False,
            tapped=True,
            known=agreed.taps,
            expected=held_taps(own, computed=True),
            names=Names.KEPT,
            note=f"{_ELSEWHERE}, but torch.onnx.export has written into it where its nodes come"
            f" from: {len(agreed.taps)} of {len(tap_ops(own.program))} values have name, module"
            " and op of this pipeline's program and are compared one by one",
        )
    if survived and not agreed.described:
        return KnownTaps(
            descends=False,
            tapped=True,
            known=survived,
            expected=held_taps(own, computed=True),
            names=Names.BARE,
            note=f"{_ELSEWHERE} and says of no node where it comes from; {count} have names of"
            " this pipeline's program and are compared where numbers bear these out",
        )
    return KnownTaps(
        descends=False,
        tapped=False,
        known=None,
        expected=frozenset(),
        names=Names.BARE,
        note=_outputs_only(agreed),
    )


def _survived(program: Program, given: GraphIndex) -> frozenset[str]:
    """Taps inside whose names are those of computed values in the file."""
    return frozenset(
        tap.tap.name
        for tap in plan_taps(program, given)
        if tap.fate == COMPARED and not tap.constant and not tap.output
    )


def _descends(metadata: Mapping[str, str], own: Artifacts) -> bool:
    """True when the file says that it came from this very export."""
    keys = (EXPORT_DIGEST, GRAPH_DIGEST, WEIGHTS_DIGEST)
    return all(key in own.metadata and metadata.get(key) == own.metadata[key] for key in keys)


def held_taps(own: Artifacts, *, computed: bool) -> frozenset[str]:
    """Taps of the pipeline's own file; without those that only move elements, if ``computed``.

    Exporters differ in which of these they leave out.
    """
    taps = [tap.tap for tap in plan_taps(own.program, own.graph) if tap.fate == COMPARED]
    return frozenset(tap.name for tap in taps if not (computed and moves_elements(tap.op)))


def _outputs_only(agreed: Agreement) -> str:
    why = "says of no node where it comes from, and no value has a name of this pipeline's program"
    if agreed.described:
        why = f"describes {agreed.described} nodes, none of them as this pipeline's program does"
    return f"{_ELSEWHERE} and {why}: only its outputs are compared"
