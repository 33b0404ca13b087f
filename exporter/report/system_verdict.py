"""The verdict of a whole system: graphs, calls, results and the manifest decide together."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.parity.exit_code import ExitDecision, decide
from exporter.parity.status import Status, is_differing, severity, status_of
from exporter.report.system import ResultRecord, SystemReport


def concluded_system(report: SystemReport) -> SystemReport:
    """The report with error rate, verdict, exit code and headline that its parts give.

    A token that differs fails, unless all of them together stay within the rate that is declared:
    then it is a finding. What was not driven, called or compared never passes.
    """
    rate = _rate(report.results)
    if rate is not None and 0.0 < rate <= report.max_token_error_rate:
        report = report.model_copy(
            update={"results": [allowed(result, rate, report) for result in report.results]}
        )
    decision = decide(
        _statuses(report),
        ambiguous=_unsure(report),
        ambiguous_cap=report.max_ambiguous,
    )
    # A graph and a manifest have had caps of their own: beyond those, this one excuses nothing.
    verdicts = [graph.verdict for graph in report.graphs]
    verdicts += [] if report.manifest is None else [report.manifest.verdict.verdict]
    if decision.status is Status.PASS and any(status_of(v) is Status.AMBIGUOUS for v in verdicts):
        decision = ExitDecision(status=Status.AMBIGUOUS)
    update = {
        "token_error_rate": rate,
        "verdict": decision.status.value,
        "exit_code": decision.exit_code,
    }
    report = report.model_copy(update=update)
    return report.model_copy(update={"headline": _headline(report)})


def _unsure(report: SystemReport) -> int:
    """Decisions in doubt: results and utterances, and graphs whose calls are, case by case.

    A call in doubt makes the result in doubt, as a rule, and is not counted beside it; a case with
    more graphs in doubt than results has these.
    """
    cases: dict[str, tuple[list[str], set[str]]] = {}
    for result in report.results:
        if status_of(result.verdict.verdict) is Status.AMBIGUOUS:
            cases.setdefault(result.case, ([], set()))[0].append(result.deployment)
    for calls in report.calls:
        if status_of(calls.verdict.verdict) is Status.AMBIGUOUS:
            cases.setdefault(calls.case, ([], set()))[1].add(calls.graph)
    rows = 0 if report.manifest is None else report.manifest.verdicts.get(Status.AMBIGUOUS, 0)
    return rows + sum(max(len(results), len(graphs)) for results, graphs in cases.values())


def _rate(results: list[ResultRecord]) -> float | None:
    """Token errors per token of PyTorch's, over all results; None where no tokens came."""
    tokens = [error for result in results for error in result.errors if error.unit == "token"]
    length = sum(error.length for error in tokens)
    count = sum(error.substitutions + error.deletions + error.insertions for error in tokens)
    return count / max(1, length) if tokens else None


def allowed(result: ResultRecord, rate: float, report: SystemReport) -> ResultRecord:
    """A result that fails by its tokens alone as a finding: all of them stay within the rate."""
    differs = any(record.unit == "token" and record.rate > 0 for record in result.errors)
    others = result.fails_beside_tokens
    others = others or any(is_differing(record.verdict) for record in result.outputs.values())
    if status_of(result.verdict.verdict) is not Status.FAIL or not differs or others:
        return result
    why = (
        f"{result.verdict.reason}; token error rate {rate:.4g} over all cases, declared:"
        f" {report.max_token_error_rate:g}"
    )
    verdict = result.verdict.model_copy(update={"verdict": Status.FINDING.value, "reason": why})
    return result.model_copy(update={"verdict": verdict})


def _statuses(report: SystemReport) -> Iterator[tuple[Status, bool]]:
    judged = {call.graph for call in report.calls}
    for graph in report.graphs:
        yield status_of(graph.verdict), graph.required
        if not graph.calls or graph.name not in judged:
            yield Status.NOT_RUN, True
    for calls in report.calls:
        yield status_of(calls.verdict.verdict), True
    for result in report.results:
        yield status_of(result.verdict.verdict), True
    if not any(_shows(result) for result in report.results):
        yield Status.NOT_RUN, True
    if report.manifest is not None:
        yield status_of(report.manifest.verdict.verdict), True


def _shows(result: ResultRecord) -> bool:
    """True where something was compared: an empty hypothesis shows nothing, declared or not."""
    return status_of(result.verdict.verdict) is not Status.EMPTY_AS_DECLARED


def _headline(report: SystemReport) -> str:
    for graph in report.graphs:
        if status_of(graph.verdict) is not Status.PASS and graph.required:
            return f"graph '{graph.name}' by itself: {graph.verdict}: {graph.headline}"
    bad = [record for record in report.calls if severity(record.verdict.verdict) > _FINE]
    if bad:
        first = max(bad, key=lambda item: severity(item.verdict.verdict))
        layer = f" in {first.layer}" if first.layer else ""
        return (
            f"graph '{first.graph}'{layer}: call {first.worst_call} of case '{first.case}',"
            f" {first.output} ({first.link}): {first.verdict.verdict}: {first.verdict.reason}"
        )
    idle = [graph.name for graph in report.graphs if not graph.calls]
    unseen = {graph.name for graph in report.graphs} - {record.graph for record in report.calls}
    if unseen and not idle:
        return f"no call of graph '{min(unseen)}' was judged: nothing was shown of it"
    if idle:
        return f"graph '{idle[0]}' was never called: nothing was shown of the system"
    wrong = [record for record in report.results if severity(record.verdict.verdict) > _FINE]
    if wrong:
        worst = max(wrong, key=lambda item: severity(item.verdict.verdict))
        return f"case '{worst.case}': {worst.verdict.verdict}: {worst.verdict.reason}"
    if not any(_shows(result) for result in report.results):
        return "every hypothesis is empty: nothing was compared"
    if (
        report.manifest is not None
        and status_of(report.manifest.verdict.verdict) is not Status.PASS
    ):
        return f"manifest: {report.manifest.verdict.verdict}: {report.manifest.verdict.reason}"
    calls = sum(graph.calls for graph in report.graphs)
    tokens = sum(len(record.tokens or ()) for record in report.results)
    said = f"{tokens} tokens equal" if tokens else "what comes out agrees"
    rows = "" if report.manifest is None else f"; {report.manifest.verdict.reason}"
    return (
        f"{len(report.graphs)} graphs agree by themselves and in {calls} calls of the driver;"
        f" {said} on {len(report.results)} result(s){rows}"
    )


_FINE = severity(Status.FINDING)
