"""Causality of the ONNX file: other future (bit by bit) and prefix, then the first value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exporter.contracts.causality.plan import Plan
from exporter.contracts.causality.torch import FUTURE_SCALE, leak_judge, lookahead_of, prefix_judge
from exporter.contracts.compare.align import Law
from exporter.contracts.compare.differ import Mismatch, differ
from exporter.contracts.compare.noise import Noise, distance
from exporter.contracts.locate.first import first_value
from exporter.contracts.probes import other_future
from exporter.contracts.result import ONNX, Answer, ContractResult, not_applicable, not_run
from exporter.contracts.target import Target

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
    base, future, prefix = (target.onnx.run(run) for run in (plan.full, changed, short))
    missing = sorted(set(laws) - set(base))
    if missing:
        return not_run(NAME, ONNX, f"the file has no output '{missing[0]}'")
    rows: dict[str, Any] = {}
    leaks: dict[str, int] = {}
    moved: dict[str, Mismatch] = {}
    for name, law in laws.items():
        declared = plan.declared[name]
        steps = lookahead_of(law, plan.cut, base[name], future[name], prefix[name].shape)
        index = law.past(plan.cut - declared, prefix[name].shape)
        left, right = prefix[name][index], base[name][index]
        away = differ(left, right, noise, name)
        shown = f"{distance(left, right):.3g}" if away is None else away.text("short", "whole")
        rows[name] = {"declared": declared, "lookahead": steps, "prefix_difference": shown}
        if steps > declared:
            leaks[name] = steps
        if away is not None:
            moved[name] = away
    worst = max(rows.values(), key=lambda row: row["lookahead"])
    said = Answer(NAME, ONNX, {"outputs": rows})
    observed = f"lookahead {worst['lookahead']} steps, past compared bit by bit"
    limit = f"lookahead {worst['declared']} steps"
    if leaks:
        name = max(leaks, key=lambda key: leaks[key])
        return said.failed(
            observed,
            limit,
            f"really not causal: '{name}' changes with the future, {leaks[name]} steps "
            f"ahead, {plan.declared[name]} declared",
            where=first_value(target, (plan.full, changed, short), leak_judge(plan)),
            advice="mask the future in the exported graph, or declare the lookahead",
        )
    if moved:
        name, away = max(moved.items(), key=lambda item: item[1].strain)
        judge = prefix_judge(plan, noise, plan.cut, max(plan.declared.values()))
        return said.failed(
            f"prefix {away.text('in the short input', 'in the whole')}",
            away.limit_text,
            f"'{name}' depends on how long the input is, not on what the future holds",
            where=first_value(target, (short, plan.full), judge),
            advice="look for a length, maximum or mean that is taken over the whole input",
        )
    return said.passed(observed, limit, "another future leaves the past equal bit by bit")
