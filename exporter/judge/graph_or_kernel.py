"""What a layer that fails by itself fails from: is the graph wrong, or a kernel?

The same nodes of the file are evaluated in float64 on the same float32 values. See
``exporter.parity.nodes_in_float64`` for what follows from that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from exporter.core.tensors import Arrays
from exporter.execution.lockstep import Lockstep
from exporter.execution.stored_form import as_expected
from exporter.execution.tap_values import TapValues
from exporter.graph.program import Program
from exporter.interpret.float32_cost import DRAWS
from exporter.judge.layer_results import JudgedTap, Judgement
from exporter.judge.second_opinion import judge_again
from exporter.parity.compare import as_pairs
from exporter.parity.nodes_in_float64 import Cause, Opinion, opinion
from exporter.parity.status import Status, Who
from exporter.parity.tolerance import Policy


def graph_or_kernel(
    lockstep: Lockstep,
    inputs: Arrays,
    policy: Policy,
    provider: str,
    taps: Mapping[str, JudgedTap],
) -> dict[str, JudgedTap]:
    """Give every local failure of one case its cause, and a kernel's the status of the policy.

    Args:
        lockstep: walked on ``inputs`` already. provider: what ran the kernels.
        taps: judgements of the case by tap; those that failed by themselves are replaced.
    """
    again = dict(taps)
    failing = frozenset(name for name, tap in taps.items() if tap.fails_by_itself)
    for values in lockstep.walk(inputs, failing) if failing else ():
        tap = taps[values.planned.tap.name]
        if tap.local is not None:
            said = replace(_opinion(values, tap.local, policy), provider=provider)
            excused = _within_orders(values, tap.local, policy) if of_kernel(said) else None
            local = excused or _with_opinion(tap.local, said, policy, provider)
            again[tap.planned.tap.name] = replace(tap, local=local)
    return again


def of_kernel(said: Opinion) -> bool:
    """True where the graph is right."""
    return said.cause is Cause.KERNEL


def _within_orders(values: TapValues, judged: Judgement, policy: Policy) -> Judgement | None:
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


def _opinion(values: TapValues, judged: Judgement, policy: Policy) -> Opinion:
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


def _with_opinion(judged: Judgement, said: Opinion, policy: Policy, provider: str) -> Judgement:
    verdict = judged.verdict
    if said.cause is Cause.KERNEL:
        which = f" ({', '.join(said.nodes)})" if said.nodes else ""
        exact = "" if said.graph_error is None else f" to {said.graph_error:.3g}"
        tail = (
            f"a kernel of onnxruntime on {provider}{which} loses digits; the graph is right: the"
            f" same nodes agree with float64 PyTorch{exact} in {said.engine}"
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


def excuse_behind_kernels(program: Program, taps: Mapping[str, JudgedTap]) -> dict[str, JudgedTap]:
    """What a free run has behind a kernel that loses digits is that kernel's, not the graph's.

    Only of inner floating values, and only where nothing else in front fails by itself: decisions
    and outputs keep their verdict.
    """
    local = {name: tap.local.verdict.status for name, tap in taps.items() if tap.local is not None}
    losing = {name for name, status in local.items() if status is Status.FINDING}
    guilty = {name for name, status in local.items() if status is Status.FAIL}
    again = dict(taps)
    if not losing:
        return again
    first = next(name for name in taps if name in losing)
    for op in program.ops:
        if any(name in losing for name in op.refs()):
            losing.add(op.name)
        if any(name in guilty for name in op.refs()):
            guilty.add(op.name)
    for name in losing - guilty:
        free = taps[name].propagated if name in taps else None
        if free is None or not free.fails or free.verdict.strain is None:
            continue
        if taps[name].planned.output:
            continue
        reason = f"behind '{first}', where a kernel loses digits; {free.verdict.reason}"
        verdict = replace(free.verdict, status=Status.FINDING, who=Who.KERNEL, reason=reason)
        again[name] = replace(taps[name], propagated=replace(free, verdict=verdict))
    return again
