"""The headline findings of a report as sentences, most serious first."""

from __future__ import annotations

from exporter.parity.status import needs_a_word
from exporter.report.comparison import CulpritRecord
from exporter.report.rows import output_rows
from exporter.report.safe_text import figure, printable, times
from exporter.report.schema import Report

_MOST = 10


def findings(report: Report) -> list[str]:
    """Sentences on every link, layer, output, contract and golden that is not good.

    Of each kind at most ten are told and the rest counted. [] means that nothing is wrong.
    """
    kinds = [
        [
            f"link '{link.name}' ({link.expected} -> {link.actual}): {link.verdict}."
            f" {link.reason}".rstrip()
            for link in report.links
            if needs_a_word(link.verdict)
        ],
        [_culprit(culprit) for culprit in report.culprits],
        [
            f"{record.kind} '{record.name}' of {record.node}: exported {record.expected},"
            f" in the file {record.actual}"
            for record in report.structure
            if not record.accepted
        ],
        [
            f"output '{row.name}' in link '{row.link}', case '{row.case}': {row.verdict},"
            f" worst difference {row.difference}"
            for row in output_rows(report)
            if needs_a_word(row.verdict)
        ],
        [
            f"contract '{record.name}' ({record.side}): {record.verdict}. "
            + ". ".join(
                s for s in (record.observed, record.where, record.reason, record.advice) if s
            )
            for record in report.contracts
            if needs_a_word(record.verdict)
        ],
        [
            f"golden '{record.case}': {record.state}. "
            + ". ".join(s for s in (record.first_layer, record.reason, record.advice) if s)
            for record in report.golden
            if needs_a_word(record.verdict)
        ],
    ]
    lines: list[str] = []
    for kind in kinds:
        lines += [printable(line) for line in kind[:_MOST]]
        if len(kind) > _MOST:
            lines.append(f"... and {len(kind) - _MOST} more of this kind")
    return lines


def _culprit(culprit: CulpritRecord) -> str:
    ratio = f", {times(culprit.ratio)} PyTorch's own" if culprit.ratio is not None else ""
    who = f"; wrong: {culprit.who}" if culprit.who else ""
    return (
        f"layer '{culprit.layer}', {culprit.op} at {culprit.source or 'an unknown line'}"
        f" (stage '{culprit.stage}'): local error {figure(culprit.local_error)}, limit"
        f" {figure(culprit.limit)}{ratio}{who}. {culprit.reason}"
    ).rstrip()
