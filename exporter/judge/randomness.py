"""Outputs that follow random numbers: no distance tells whether a file has them right.

torch and onnxruntime draw other numbers from the same seed, so an output that moves with the seed
differs between them whether the file is right or not. The captured program is run with torch's own
numbers and can be judged; what runs outside of torch is ambiguous, never a pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from exporter.judge.case_run import CaseRun
from exporter.judge.links import CAPTURED
from exporter.judge.outputs import OutputResult
from exporter.parity.status import Status, Who, is_failing


def with_randomness(
    results: Sequence[OutputResult], run: CaseRun, actual: str
) -> list[OutputResult]:
    """The results of one link on one case; those that random numbers decide are ambiguous."""
    return [_judged(result, run, actual) for result in results]


def _judged(result: OutputResult, run: CaseRun, actual: str) -> OutputResult:
    gap = run.moving.get(result.name)
    verdict = result.verdict
    if gap is None or result.measurement.problem is not None:
        return result
    draws = run.eager.draws if run.eager is not None else ()
    if actual == CAPTURED and (not is_failing(verdict.status) or not draws):
        return result  # what no op of torch drew is a constant of the capture
    ops = f" ({', '.join(draws)})" if draws else ""
    reason = (
        f"drawn at random{ops}: with another seed PyTorch itself moves by {gap:.3g}, and"
        " onnxruntime draws its own numbers; make the noise an input, or add a case in which an"
        " input scales it to 0"
    )
    return replace(
        result,
        verdict=replace(
            verdict, status=Status.AMBIGUOUS, who=Who.UNKNOWN, reason=reason, strain=None
        ),
    )
