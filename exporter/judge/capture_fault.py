"""Why a captured program is not the module that it was made of, and what truth rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from exporter.core.tensors import Case, TensorSpec
from exporter.graph.guards import Guard
from exporter.judge.case_run import CaseRun
from exporter.judge.links import CAPTURED, EAGER
from exporter.judge.outputs import OutputResult
from exporter.parity.status import Status


def capture_fault(
    results: Sequence[OutputResult], runs: Sequence[CaseRun], inputs: Sequence[TensorSpec]
) -> str | None:
    """Why the captured program is not the module, the plainest reason first; None if it is."""
    axes = {spec.name: spec.shape for spec in inputs}
    written = sorted({name for run in runs for name in run.written})
    if written:
        return f"PyTorch writes to its input(s) {', '.join(written)}"
    for run in runs:
        if run.unwritten:
            return f"{run.unwritten}; case '{run.case.name}'"
    for run in runs:
        if run.state:
            return run.state
    for run in runs:
        reason = _fault_of(run, results, axes)
        if reason:
            return reason
    return None


def _fault_of(
    run: CaseRun, results: Sequence[OutputResult], axes: Mapping[str, Sequence[int | str]]
) -> str:
    """What one case shows: a guard of the model's own, a program that stops, or numbers."""
    link = f"{EAGER} -> {CAPTURED}"
    failed = [
        result
        for result in results
        if result.link == link
        and result.case == run.case.name
        and result.verdict.status is Status.FAIL
    ]
    agrees = not failed and not run.stopped
    # A way that one size alone takes is tried as a whole by a case of that size.
    tried = [g for g in run.broken if agrees and g.leaves_out_one_size]
    guard = next((g for g in run.broken if g.by_model and g not in tried), None)
    if guard is not None:
        also = f": {_difference(_worst(failed))}" if failed else ""
        if run.stopped:
            also = f", and the captured program stops there: {run.stopped}"
        return (
            f"the capture holds only for {guard.words(axes)};"
            f" case '{run.case.name}' has {_sizes(guard, run.case, axes)}{also}"
        )
    said = "; ".join(guard.words(axes) for guard in run.broken[:2])
    rests = f"; the capture rests on: {said}" if said else ""
    if run.stopped:
        return (
            f"the captured program stops on case '{run.case.name}', which the module takes:"
            f" {run.stopped}{rests}"
        )
    if failed and all(_nan_alike(result) for result in failed):
        first = failed[0]
        return (
            f"PyTorch itself gives NaN: {first.measurement.nan_expected} in output '{first.name}'"
            f" of case '{run.case.name}', and the captured program at the same places;"
            " NaN never passes"
        )
    if failed:
        return f"the captured program is not the module: {_difference(_worst(failed))}{rests}"
    return ""


def _nan_alike(result: OutputResult) -> bool:
    """True where all that is wrong is NaN, at the same places on every side."""
    m = result.measurement
    return m.problem is None and bool(m.nan_expected) and m.nan_mismatch == 0


def truth_notes(runs: Sequence[CaseRun], inputs: Sequence[TensorSpec]) -> list[str]:
    """What a report says of how float64 came about, and of ways that a capture did not take."""
    axes = {spec.name: spec.shape for spec in inputs}
    left = [g for run in runs for g in run.broken if g.by_model and g.leaves_out_one_size]
    notes = [
        f"captured for {words}: at that size the module takes another way"
        for words in sorted({guard.words(axes) for guard in left})
    ]
    for doubt in dict.fromkeys(run.doubt for run in runs if run.doubt):
        names = ", ".join(run.case.name for run in runs if run.doubt == doubt)
        notes.append(
            f"float64 truth of {names} is the captured program's, which was held against the"
            f" module in float32: {doubt}"
        )
    narrow = {op for run in runs if run.eager is not None for op in run.eager.narrow}
    if narrow:
        notes.append(
            "ops without a float64 kernel, float32 inside of the float64 run:"
            f" {', '.join(sorted(narrow))}"
        )
    return notes


def _worst(failed: Sequence[OutputResult]) -> OutputResult:
    return max(failed, key=lambda r: r.verdict.strain if r.verdict.strain is not None else 1e300)


def _difference(result: OutputResult) -> str:
    """How an output of the captured program differs from the module's, in words."""
    where = f"output '{result.name}' of case '{result.case}'"
    actual, bound = result.measurement.actual, result.verdict.limit
    if result.verdict.strain is None or actual is None or bound is None:
        return f"{where}: {result.verdict.reason}"
    return (
        f"{where} differs by up to {actual.max_abs:.4g}, limit {bound.max_abs:.4g} = {bound.why};"
        f" at {actual.worst_index} the module gives {actual.worst_expected:.6g},"
        f" the program {actual.worst_actual:.6g}"
    )


def _sizes(guard: Guard, case: Case, axes: Mapping[str, Sequence[int | str]]) -> str:
    """The sizes of a case that a guard speaks of."""
    sizes = {}
    for name, axis in sorted(guard.inputs()):
        label = axes[name][axis]
        sizes[label if isinstance(label, str) else f"{name}.shape[{axis}]"] = np.shape(
            case.inputs[name]
        )[axis]
    if len(sizes) == 1:
        return str(next(iter(sizes.values())))
    return ", ".join(f"{label} {size}" for label, size in sizes.items())
