"""Causality of the ONNX file: other future (bit by bit) and prefix, then the first value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exporter.contracts.causality.plan import Plan
from exporter.contracts.causality.torch import FUTURE_SCALE, leak_judge, lookahead_of, prefix_judge
from exporter.contracts.compare.align import Law
from exporter.contracts.compare.differ import Difference, differ
from exporter.contracts.compare.noise import Noise, distance
from exporter.contracts.locate.first import first_value
from exporter.contracts.probes import other_future
from exporter.contracts.result import ONNX, ContractResult, not_applicable, not_run
from exporter.contracts.target import Target
from exporter.core.errors import OnnxStoppedError
from exporter.parity.status import Status

NAME = "causality"


def check(target: Target, plan: Plan, laws: Mapping[str, Law], noise: Noise) -> ContractResult:
    """Check the file.

    Args:
        laws: how each checked output follows the input, from the PyTorch side.
        noise: float32 noise per output.
    """
    if not laws:
        return not_applicable(NAME, ONNX, "no output follows the length of the input")
    changed = other_future(target, plan.full, plan.axis, plan.cut, scale=FUTURE_SCALE)
    short = plan.prefix(target, plan.cut)
    try:
        base, future, prefix = (target.onnx.run(run) for run in (plan.full, changed, short))
    except OnnxStoppedError as error:
        return not_run(NAME, ONNX, f"onnxruntime does not run the probe: {error}")
    missing = sorted(set(laws) - set(base))
    if missing:
        return not_run(NAME, ONNX, f"the file has no output '{missing[0]}'")
    rows: dict[str, Any] = {}
    leaks: dict[str, int] = {}
    moved: dict[str, Difference] = {}
    for name, law in laws.items():
        declared = plan.declared[name]
        steps = lookahead_of(law, plan.cut, base[name], future[name], prefix[name].shape)
        index = law.past(plan.cut - declared, prefix[name].shape)
        left, right = prefix[name][index], base[name][index]
        away = differ(left, right, noise, name)
        said = f"{distance(left, right):.3g}" if away is None else away.text("short", "whole")
        rows[name] = {"declared": declared, "lookahead": steps, "prefix_difference": said}
        if steps > declared:
            leaks[name] = steps
        if away is not None:
            moved[name] = away
    worst = max(rows.values(), key=lambda row: row["lookahead"])
    shared: dict[str, Any] = {"name": NAME, "side": ONNX, "details": {"outputs": rows}}
    shared["observed"] = f"lookahead {worst['lookahead']} steps, past compared bit by bit"
    shared["limit"] = f"lookahead {worst['declared']} steps"
    if leaks:
        name = max(leaks, key=lambda key: leaks[key])
        return ContractResult(
            status=Status.FAIL,
            reason=f"really not causal: '{name}' changes with the future, {leaks[name]} steps "
            f"ahead, {plan.declared[name]} declared",
            where=_first(target, plan, (plan.full, changed, short)),
            advice="mask the future in the exported graph, or declare the lookahead",
            **shared,
        )
    if moved:
        name, away = max(moved.items(), key=lambda item: item[1].strain)
        said = f"prefix {away.text('in the short input', 'in the whole')}"
        shared |= {"observed": said, "limit": away.limit_text}
        return ContractResult(
            status=Status.FAIL,
            reason=f"'{name}' depends on how long the input is, not on what the future holds",
            where=_first_prefix(target, plan, short, noise),
            advice="look for a length, maximum or mean that is taken over the whole input",
            **shared,
        )
    return ContractResult(
        status=Status.PASS, reason="another future leaves the past equal bit by bit", **shared
    )


def _first(target: Target, plan: Plan, runs: tuple[Any, Any, Any]) -> Any:
    found = first_value(target, runs, leak_judge(plan))
    return found.place if found else None


def _first_prefix(target: Target, plan: Plan, short: Any, noise: Noise) -> Any:
    judge = prefix_judge(plan, noise, plan.cut, max(plan.declared.values()))
    found = first_value(target, (short, plan.full), judge)
    return found.place if found else None
