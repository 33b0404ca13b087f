"""What GitHub Actions shows: annotations beside the code, and a summary of the job.

One cause is one annotation: a layer that fails by itself, a contract with its place, a stage that
stopped. What only follows from it (outputs, later links) is in the report, not on the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from exporter.parity.status import holds
from exporter.report.advice import next_steps
from exporter.report.rows import taps_of
from exporter.report.safe_text import figure, markdown
from exporter.report.schema import ContractRecord, Report

_MOST = 10
"""GitHub shows as many errors of one step."""
_MOST_BYTES = 900_000
"""A job summary may have 1 MiB."""


def annotation(kind: str, place: str, title: str, body: str) -> str:
    """A workflow command; what would end it or start another is escaped.

    Args:
        kind: error, warning or notice.
        place: ``file:line`` or a file, to which GitHub attaches it.
    """
    file, _, line = place.rpartition(":")
    pairs = {"file": file, "line": line} if file and line.isdigit() else {"file": place}
    pairs["title"] = title
    properties = ",".join(
        f"{key}={_escaped(value).replace(':', '%3A').replace(',', '%2C')}"
        for key, value in pairs.items()
    )
    return f"::{kind} {properties}::{_escaped(body)}"


def _escaped(value: str) -> str:
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def report_annotations(report: Report, file: str) -> list[str]:
    """An error for each cause of a verdict that is not good; none for a good one.

    Args:
        file: the pipeline YAML, where a cause has no line of its own in this checkout.
    """
    if report.exit_code == 0:
        return []
    name = report.pipeline.name
    lines = [] if report.stopped is None else [_stopped(report, file)]
    for record in report.culprits:
        if record.by_itself or not lines:
            title = f"{name}: layer {record.layer or '(root)'} ({record.stage})"
            off = f"local error {figure(record.local_error)}, limit {figure(record.limit)}"
            place = _in_checkout(record.source) or file
            lines.append(annotation("error", place, title, f"{record.op}: {off}. {record.reason}"))
    for record in report.structure if not report.culprits else ():
        if not record.accepted:
            said = f"{record.kind} {record.name}: expected {record.expected}, found {record.actual}"
            lines.append(annotation("error", file, f"{name}: node {record.node}", said))
    lines += contract_annotations(report.contracts, name, file)
    if not lines:
        lines.append(annotation("error", file, f"{name}: {report.verdict}", report.headline))
    return list(dict.fromkeys(lines))[:_MOST]


def _stopped(report: Report, file: str) -> str:
    stopped = report.stopped
    assert stopped is not None  # noqa: S101 - its only caller has looked
    title = f"{report.pipeline.name}: stage {stopped.stage} stopped"
    return annotation("error", _in_checkout(stopped.where) or file, title, stopped.detail)


def contract_annotations(records: Iterable[ContractRecord], name: str, file: str) -> Iterator[str]:
    """An error per contract and place that fails; both sides at one place are one cause."""
    causes: dict[tuple[str, str], list[ContractRecord]] = {}
    for record in records:
        if not holds(record.verdict, required=record.required):
            causes.setdefault((record.name, record.source), []).append(record)
    told: set[str] = set()
    for (contract, line), sides in causes.items():
        if not line and contract in told:
            continue  # the file without a place of its own says no more than the module did
        told.add(contract)
        first = sides[0]
        title = f"{name}: contract {contract} ({', '.join(record.side for record in sides)})"
        said = [first.observed, first.reason, first.where, first.advice]
        body = "\n".join(part for part in said if part) or first.verdict
        yield annotation("error", _in_checkout(line) or file, title, body)


def _in_checkout(source: str) -> str:
    """``file:line`` if that file lies in the working folder, else ""."""
    file, _, line = source.rpartition(":")
    return source if file and line.isdigit() and Path(file).is_file() else ""


def report_summary(report: Report) -> str:
    """A job summary in Markdown: verdict, links, what fails, what to do."""
    lines = [
        f"### {markdown(report.pipeline.name)}: {markdown(report.verdict)}",
        "",
        markdown(report.headline),
    ]
    if report.links:
        lines += ["", "| link | values | verdict |", "|---|---|---|"]
        lines += [
            f"| {markdown(link.name)} | {markdown(taps_of(link))} | {markdown(link.verdict)} |"
            for link in report.links
        ]
    lines += contract_rows(report.contracts)
    if report.exit_code:
        lines += ["", *(f"- {markdown(step)}" for step in next_steps(report))]
    return "\n".join(lines)[:_MOST_BYTES] + "\n"


def contract_rows(records: Sequence[ContractRecord]) -> list[str]:
    """A table of contracts in Markdown; [] without any."""
    if not records:
        return []
    rows = [
        f"| {markdown(record.name)} | {markdown(record.side)} | {markdown(record.verdict)}"
        f" | {markdown(record.observed or record.reason)} |"
        for record in records
    ]
    return ["", "| contract | side | verdict | found |", "|---|---|---|---|", *rows]


def contracts_summary(records: Sequence[ContractRecord], name: str) -> str:
    """A job summary of contracts that were checked by themselves."""
    head = [f"### Contracts of {markdown(name)}"]
    return "\n".join([*head, *contract_rows(records)])[:_MOST_BYTES] + "\n"
