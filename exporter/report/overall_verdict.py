"""The verdict of a whole report, from what stands in it; ``parity.exit_code.decide`` decides.

Whoever puts a report together, changes a part of one or judges one again asks here, so that the
verdict, the exit code and the certificate of one and the same report never differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from exporter.core.errors import EXIT_USER_INPUT
from exporter.parity.exit_code import ExitDecision, decide
from exporter.parity.status import Status, status_of
from exporter.report.schema import CHECK_STRUCTURE, ContractRecord, GoldenRecord, Report

GOLDEN_TAMPERED = "tampered"
"""State of a golden that is not what was recorded, which is as bad as a damaged ONNX file."""


def decided(report: Report) -> Report:
    """The report with the verdict and the exit code that its parts give."""
    decision = decision_of(report)
    code = _exit_code(decision, report.golden)
    return report.model_copy(update={"verdict": decision.status.value, "exit_code": code})


def goldens_exit_code(goldens: Sequence[GoldenRecord], ambiguous_cap: int) -> int:
    """What the process returns for goldens alone: what a report of them would have."""
    statuses = ((status_of(golden.verdict), True) for golden in goldens)
    unsure = _ambiguous_in_goldens(goldens)
    return _exit_code(decide(statuses, ambiguous=unsure, ambiguous_cap=ambiguous_cap), goldens)


def contracts_exit_code(records: Sequence[ContractRecord]) -> int:
    """0 when everything that is required ran and passed, else 1.

    Contracts that mean nothing for the pipeline do not count, unless there is nothing else.
    """
    return decide(
        (status_of(contract.verdict), contract.required) for contract in records
    ).exit_code


def _exit_code(decision: ExitDecision, goldens: Sequence[GoldenRecord]) -> int:
    """A golden that was tampered with is a wrong input."""
    tampered = any(golden.state == GOLDEN_TAMPERED for golden in goldens)
    return EXIT_USER_INPUT if tampered else decision.exit_code


def decision_of(report: Report) -> ExitDecision:
    """Decide over links, contracts, goldens and checks of a report."""
    return decide(
        _statuses(report),
        ambiguous=ambiguous_outputs(report),
        ambiguous_cap=report.policy.max_ambiguous,
    )


def verdict_line(report: Report) -> str:
    """The verdict as every page begins with it: a pass of outputs alone is not the same pass."""
    only = report.links and all(not link.compared for link in report.links)
    said = report.verdict.upper()
    if report.fallback:
        said = f"{said}, fall-back file of the legacy exporter"
    return f"{said}, outputs only" if only and report.verdict == Status.PASS else said


def ambiguous_outputs(report: Report) -> int:
    """How many outputs are ambiguous: what ``parity.max_ambiguous`` caps.

    An output of a case counts once, however many of its elements are ambiguous and on however
    many links. What is ambiguous and has no outputs counts as one: a contract, a layer walk whose
    decision reached no output. A golden counts the outputs that moved, at least one per case.
    """
    outputs = {(o.case, o.name) for o in report.outputs if _unsure(o.verdict.verdict)}
    count = len(outputs) or int(any(_unsure(link.verdict) for link in report.links))
    count += sum(_unsure(record.verdict) for record in (*report.contracts, *report.checks))
    return count + _ambiguous_in_goldens(report.golden)


def _ambiguous_in_goldens(goldens: Sequence[GoldenRecord]) -> int:
    return sum(max(1, g.ambiguous, len(g.moved)) for g in goldens if _unsure(g.verdict))


def _unsure(verdict: str) -> bool:
    return status_of(verdict) is Status.AMBIGUOUS


def _statuses(report: Report) -> Iterator[tuple[Status, bool]]:
    for link in report.links:
        yield status_of(link.verdict), report.policy.required
    for record in (*report.contracts, *report.checks):
        yield status_of(record.verdict), record.required
    for golden in report.golden:
        yield status_of(golden.verdict), True
    if report.stopped is not None:
        yield Status.FAIL, True
    # A report that says nothing about its differences comes from a version that failed for them.
    differs = any(not record.accepted for record in report.structure)
    if differs and all(record.code != CHECK_STRUCTURE for record in report.checks):
        yield Status.FAIL, True
