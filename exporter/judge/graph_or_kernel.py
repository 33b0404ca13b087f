"""What a layer that fails by itself fails from: is the graph wrong, or a kernel?

The same nodes of the file are evaluated in float64 on the same float32 values. See
``exporter.parity.cause`` for what follows from that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from exporter.core.tensors import Arrays
from exporter.execution.lockstep import Lockstep
from exporter.execution.stored import as_expected
from exporter.execution.tap_values import TapValues
from exporter.graph.program import Program
from exporter.graph.taps import PlannedTap
from exporter.interpret.float32_cost import DRAWS
from exporter.judge.culprits import Judged, WorstOf
from exporter.judge.second_opinion import judge_again
from exporter.parity.cause import Cause, Opinion, opinion
from exporter.parity.compare import as_pairs
from exporter.parity.status import Status, Who
from exporter.parity.tolerance import Policy


def graph_or_kernel(
    lockstep: Lockstep,
    inputs: Arrays,
    policy: Policy,
    provider: str,
    found: Mapping[str, WorstOf],
) -> None:
    """Give every local failure of one case its cause, and a kernel's the status of the policy.

    Args:
        lockstep: walked on ``inputs`` already. provider: what ran the kernels.
        found: judgements of the case by tap; those that failed are replaced.
    """
    failing = frozenset(
        name
        for name, held in found.items()
        if held.local is not None and held.local.verdict.status is Status.FAIL
    )
    if not failing:
        return
    for values in lockstep.walk(inputs, failing):
        held = found[values.planned.tap.name]
        if held.local is not None:
            said = replace(_opinion(values, held.local, policy), provider=provider)
            judged = _within_orders(values, held.local, policy) if of_kernel(said) else None
            held.local = judged or _with_opinion(held.local, said, policy, provider)


def of_kernel(said: Opinion) -> bool:
    """True where the graph is right."""
    return said.cause is Cause.KERNEL


def _within_orders(values: TapValues, judged: Judged, policy: Policy) -> Judged | None:
    """The judgement with what other orders of summation cost, if it passes with that.

    Asked only where the graph is known to be right: no order excuses a wrong node.
    """
    if values.cost is None or judged.verdict.strain is None:
        return None
    layer = values.planned.tap.module
    measured, verdict = judge_again(judged.measurement, values.cost(), policy, layer=layer)
    if verdict.status is not Status.PASS:
        return None
    reason = f"{verdict.reason}; of {DRAWS} orders of summation"
    return replace(judged, measurement=measured, verdict=replace(verdict, reason=reason))


def _opinion(values: TapValues, judged: Judged, policy: Policy) -> Opinion:
    measured, name = judged.measurement, values.planned.onnx_name
    if measured.problem is not None and measured.dtype_actual is not None:
        # Another shape or another type is said by the nodes, whatever the kernel.
        return Opinion(cause=Cause.GRAPH)
    if measured.problem is not None:
        return Opinion(cause=Cause.UNKNOWN, why=measured.problem)
    if values.double is None or (values.truth_local is None and values.slices is None):
        return Opinion(cause=Cause.UNKNOWN, why="no float64 value is at hand")
    run = values.double()
    if name not in run.values:
        return Opinion(cause=Cause.UNKNOWN, why=run.why or "nothing evaluates it in float64")
    truth = values.truth_local
    if truth is None and values.slices is not None:
        truth = values.slices.whole_local().numpy()
    if truth is None:
        return Opinion(cause=Cause.UNKNOWN, why="no float64 value is at hand")
    parts = as_pairs(values.reference)
    double = as_expected(run.values[name], parts.shape)
    said = opinion(
        measured,
        policy,
        layer=values.planned.tap.module,
        truth=truth,
        reference=values.reference,
        double=run.values[name] if double is None else double,
        engine=run.engine,
    )
    if of_kernel(said) and values.losing is not None:
        return replace(said, nodes=values.losing())
    return said


def _with_opinion(judged: Judged, said: Opinion, policy: Policy, provider: str) -> Judged:
    verdict = judged.verdict
    if said.cause is Cause.KERNEL:
        which = f" ({', '.join(said.nodes)})" if said.nodes else ""
        tail = (
            f"a kernel of onnxruntime on {provider}{which} loses digits; the graph is right: the"
            f" same nodes agree with float64 PyTorch{_to(said.graph_error)} in {said.engine}"
        )
        # NaN, or a decision that went the other way, is no loss of digits.
        harmless = policy.kernel_loss == "finding" and verdict.strain is not None
        status = Status.FINDING if harmless else Status.FAIL
        verdict = replace(
            verdict, status=status, who=Who.KERNEL, reason=f"{verdict.reason}; {tail}"
        )
    elif said.cause is Cause.UNKNOWN:
        tail = f"not known whether graph or kernel ({said.why})"
        verdict = replace(verdict, reason=f"{verdict.reason}; {tail}")
    elif said.graph_error is not None:
        tail = f"the graph itself is off by {said.graph_error:.4g} ({said.engine})"
        verdict = replace(verdict, reason=f"{verdict.reason}; {tail}")
    return replace(judged, verdict=verdict, opinion=said)


def _to(error: float | None) -> str:
    return "" if error is None else f" to {error:.3g}"


def excuse_behind_kernels(
    program: Program, planned: tuple[PlannedTap, ...], found: Mapping[str, WorstOf]
) -> None:
    """What a free run has behind a kernel that loses digits is that kernel's, not the graph's.

    Only of inner floating values, and only where nothing else in front fails by itself: decisions
    and outputs keep their verdict.
    """
    losing, guilty = set(), set()
    for name, held in found.items():
        if held.local is None:
            continue
        if held.local.verdict.status is Status.FINDING:
            losing.add(name)
        elif held.local.verdict.status is Status.FAIL:
            guilty.add(name)
    if not losing:
        return
    first = next(iter(name for name in found if name in losing))
    for op in program.ops:
        if any(name in losing for name in op.refs()):
            losing.add(op.name)
        if any(name in guilty for name in op.refs()):
            guilty.add(op.name)
    outputs = {tap.tap.name for tap in planned if tap.output}
    for name, held in found.items():
        judged = held.propagated
        if judged is None or judged.verdict.status is not Status.FAIL or name not in losing:
            continue
        if name in guilty or name in outputs or judged.verdict.strain is None:
            continue
        reason = f"behind '{first}', where a kernel loses digits; {judged.verdict.reason}"
        verdict = replace(judged.verdict, status=Status.FINDING, who=Who.KERNEL, reason=reason)
        held.propagated = replace(judged, verdict=verdict)
