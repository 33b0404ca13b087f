"""Outputs that differ because a decision inside could have gone either way.

A step of its own, behind the layer walk: what the walk found out about a case is used again, and
only a case that was not walked, whose outputs differ and rest on a decision, is walked for it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import replace

from exporter.graph.program import Program
from exporter.interpret.margins import ANGLES, decides
from exporter.judge.outputs import OutputResult
from exporter.parity.status import Status, Who


def doubtful_cases(
    program: Program, results: Sequence[OutputResult], walked: Container[str]
) -> list[str]:
    """Names of cases that have to be walked: an output differs that may rest on a decision.

    Args:
        walked: cases whose layers were walked already.
    """
    resting = _resting_on_decisions(program)
    differing = dict.fromkeys(
        result.case
        for result in results
        if _differs(result)
        and result.case not in walked
        and (result.measurement.kind == "discrete" or result.name in resting)
    )
    return list(differing)


def settle(results: Sequence[OutputResult], why: Callable[[str], str | None]) -> list[OutputResult]:
    """Outputs that differ are ambiguous where a decision of their case was.

    Args:
        why: the ambiguous decision of a case in words; None when it has none, or when something
            else fails there.
    """
    judged = []
    for result in results:
        reason = why(result.case) if _differs(result) else None
        if reason is not None:
            verdict = replace(
                result.verdict,
                status=Status.AMBIGUOUS,
                who=Who.BOTH_WITHIN_ROUNDING,
                reason=f"{reason}; {result.verdict.reason}",
            )
            result = replace(result, verdict=verdict)
        judged.append(result)
    return judged


def _differs(result: OutputResult) -> bool:
    return result.verdict.status is Status.FAIL and result.measurement.problem is None


def _resting_on_decisions(program: Program) -> set[str]:
    """Public names of outputs that a comparison, a choice or an angle stands in front of."""
    resting: set[str] = set()
    for op in program.ops:
        here = decides(op) or op.target in ANGLES
        if here or any(name in resting for name in op.refs()):
            resting.add(op.name)
    pairs = zip(program.outputs, program.output_names, strict=True)
    return {label for name, label in pairs if name in resting}
