"""What a comparison of two files found, as its report."""

from __future__ import annotations

from dataclasses import replace

from exporter.flows.compare_inputs import FilePair, InputSets
from exporter.flows.compare_rows import ComparedRows
from exporter.graph.index import GraphIndex
from exporter.graph.lowered.in_real_numbers import unrounded
from exporter.joining.alike import same_graph
from exporter.joining.join import FLOAT32
from exporter.joining.joined import Joined, Proof
from exporter.joining.pieces_in_words import altered, left_out_in_words, rewritten
from exporter.joining.unshown import unshown
from exporter.parity.exit_code import decide
from exporter.parity.status import Status
from exporter.report.two_files import AlteredRow, TwoFiles, TwoFilesOutput, ValueRow
from exporter.report.two_files_headline import two_files_headline


def two_files_report(
    pair: FilePair, inputs: InputSets, joined: Joined, rows: ComparedRows
) -> TwoFiles:
    """Verdict, headline and all that stands behind them."""
    values, outputs = rows.values, rows.outputs
    changed = [
        AlteredRow(
            value=item.join.actual, layer=rows.layer(item.join), words=item.words(), fails=True
        )
        for item in altered(pair.a, _as_meant(pair, joined), joined)
    ]
    silent = list(unshown(joined))
    changed += [
        AlteredRow(
            value=item.actual,
            layer=rows.layer_of(item.expected, item.actual),
            words=item.words,
            fails=True,
        )
        for item in silent
        if item.status is Status.FAIL
    ]
    changed += rows.unsaid
    own = tuple(join for join in joined.joins if join.expected not in pair.inside)
    written = rewritten(pair.a, pair.b, replace(joined, joins=own))
    same = same_graph(pair.a, pair.b, pair.inputs_of_b)
    unvouched = [item for item in silent if item.status is not Status.FAIL]
    decision = decide(
        [
            *((Status(row.verdict), True) for row in (*values, *outputs)),
            *((Status.FAIL, True) for row in changed if row.fails),
            *((item.status, True) for item in unvouched),
        ]
    )
    first = _first(values, changed)
    return TwoFiles(
        truth=str(pair.truth),
        other=str(pair.other),
        verdict=decision.status.value,
        exit_code=decision.exit_code,
        headline=two_files_headline(
            decision,
            same,
            first,
            changed,
            values,
            outputs,
            [item.words for item in unvouched],
            without_partner=len(joined.alone) + len(joined.ambiguous),
            # A file that rounds is the same in real numbers, which says nothing of a kernel.
            alike_in_float64=joined.restored is None
            and not changed
            and _alike_in_float64(values, outputs),
        ),
        same_graph=same,
        joined=joined.counts,
        candidates=joined.candidates,
        ambiguous=list(joined.ambiguous),
        alone=list(joined.alone),
        values=values,
        outputs=outputs,
        altered=changed,
        rewritten=[item.words() for item in written],
        first=first,
        cases=[f"case {at + 1}" for at in range(len(inputs.judged))],
        deployments=list(dict.fromkeys(row.deployment for row in outputs)),
        notes=list(inputs.notes),
        not_checked=left_out_in_words(joined),
    )


def _as_meant(pair: FilePair, joined: Joined) -> GraphIndex:
    """The judged file with the constants that it was rounded from; itself in float32."""
    if joined.restored is None:
        return pair.b
    return unrounded(pair.b, constants=joined.restored.arrays).graph


def _alike_in_float64(values: list[ValueRow], outputs: list[TwoFilesOutput]) -> bool:
    """Whether all that fails is the same in float64 in both files."""
    alike = {
        row.actual
        for row in values
        if row.proof == Proof.VALUE.value and row.distance is not None and row.distance <= FLOAT32
    }
    fails = Status.FAIL.value
    failing = {row.actual for row in values if row.verdict == fails}
    failing |= {row.name for row in outputs if row.verdict == fails}
    return bool(failing) and failing <= alike


def _first(values: list[ValueRow], changed: list[AlteredRow]) -> ValueRow | None:
    """The first value that is wrong by itself or has an altered weight; failing that, at all."""
    marked = {row.value for row in changed}
    fails = Status.FAIL.value
    own = (row for row in values if row.actual in marked or row.local == fails)
    return next(own, next((row for row in values if row.verdict == fails), None))
