"""Causality of the PyTorch module: prefix sweep, gradient, other future; layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from exporter.contracts.causality.cudnn import backend_note, check_backends
from exporter.contracts.causality.plan import Plan
from exporter.contracts.causality.prefix import OutputFindings, sweep_prefixes
from exporter.contracts.compare.align import Law, first_difference, learn_law
from exporter.contracts.compare.noise import Noise, noise_of
from exporter.contracts.locate.first import Judge, locate, outputs_of, record, shared_keys
from exporter.contracts.locate.recorder import Call
from exporter.contracts.probes import other_future
from exporter.contracts.result import TORCH, ContractResult, Location, not_applicable
from exporter.contracts.target import Target, as_view
from exporter.core.errors import first_line
from exporter.core.stopwatch import RUNNING, timed
from exporter.parity.status import Status

NAME = "causality"
FUTURE_SCALE = 10.0
_MOST_LAYERS = 40
_EVERYTHING = (
    "every step depends on what follows, as far as the probe reaches: take statistics and attention"
    " over the past only, or say under no_causality that this output needs the whole input"
)
_ONE_ALGORITHM = (
    "make the backend choose one algorithm for all lengths (TF32 and cuDNN benchmark off), or "
    "stream with a fixed length"
)


def check(target: Target, plan: Plan) -> tuple[ContractResult, dict[str, Law], Noise]:
    """Run the three probes.

    Returns:
        the verdict, how each output follows the input, and the float32 noise.

    Raises:
        ForwardError: the module does not run on the probe.
    """
    noise = noise_of(target)
    base = record(target, plan.full)
    prefix_inputs = plan.prefix(target, plan.cut)
    prefix = record(target, prefix_inputs)
    changed = other_future(target, plan.full, plan.axis, plan.cut, scale=FUTURE_SCALE)
    future = record(target, changed)
    laws = learn_laws((base, prefix), (plan.steps, plan.cut))
    outputs, skipped = {}, dict(plan.skipped)
    for name, declared in plan.declared.items():
        law = laws.get(f"output:{name}")
        if law is None or not law.follows:
            skipped[name] = "does not follow the length of the input"
        else:
            outputs[name] = OutputFindings(declared=declared)
    output_laws = {name: laws[f"output:{name}"] for name in outputs}
    if not outputs:
        why = "; ".join(f"{name}: {why}" for name, why in skipped.items())
        return not_applicable(NAME, TORCH, why), output_laws, noise
    for name, findings in outputs.items():
        key = f"output:{name}"
        findings.future = _lookahead(laws[key], plan.cut, base[key], future[key], prefix[key])
        _gradient(target, plan, name, laws[key], tuple(prefix[key].value.shape), findings)
    noise = sweep_prefixes(target, plan, outputs, output_laws, noise, outputs_of(base), prefix)
    layers = _layers(plan, base, prefix, future, laws)
    status, reason, where, advice = _verdict(
        target, plan, outputs, (base, prefix, future), (prefix_inputs, changed), laws, noise
    )
    worst = max(outputs.values(), key=lambda f: (f.lookahead - f.declared, f.prefix))
    backends = check_backends(target, plan, output_laws)
    sizes = {name: base[f"output:{name}"].value.numel() for name in outputs}
    limits = {name: noise.limit(name, 1.0, size) for name, size in sizes.items()}
    # What leaks anyway moves with the length on every backend.
    note = backend_note(backends, limits) if status is Status.PASS else None
    result = ContractResult(
        name=NAME,
        side=TORCH,
        status=status,
        observed=f"lookahead {worst.lookahead} steps; prefix {worst.moved}",
        limit=f"lookahead {worst.declared} steps; prefix {worst.moved_limit}",
        where=where,
        advice=advice or (_ONE_ALGORITHM if note else None),
        reason="; ".join(text for text in (reason, note) if text),
        details={
            "outputs": {name: _row(findings) for name, findings in outputs.items()},
            "skipped": skipped,
            "lookahead_per_layer": layers,
            "noise": noise.why,
            "backends": _backend_rows(backends),
        },
    )
    return result, output_laws, noise


def learn_laws(runs: tuple[Mapping[str, Call], ...], lengths: tuple[int, ...]) -> dict[str, Law]:
    """How every recorded value follows the length of the input."""
    laws = {}
    for key in runs[0]:
        if all(key in run for run in runs):
            law = learn_law(lengths, [tuple(run[key].value.shape) for run in runs])
            if law is not None:
                laws[key] = law
    return laws


def _lookahead(law: Law, cut: int, base: Call, future: Call, prefix: Call) -> int:
    """Input steps behind ``cut`` that the past is seen to depend on; 0 for none."""
    return lookahead_of(
        law, cut, as_view(base.value), as_view(future.value), tuple(prefix.value.shape)
    )


def lookahead_of(
    law: Law, cut: int, base: np.ndarray, future: np.ndarray, length: tuple[int, ...]
) -> int:
    """As a step i at rate a belongs to the inputs before (i + 1) / a, the first step that
    changes with the inputs from ``cut`` on sees cut + 1 - (i + 1) / a steps ahead."""
    if not law.follows:
        return 0
    index = law.past(cut, length)
    position, rate = law.main
    first = first_difference(base[index], future[index], position, 0.0)
    return 0 if first is None else max(1, cut + 1 - math.ceil((first + 1) / rate))


def _gradient(
    target: Target,
    plan: Plan,
    name: str,
    law: Law,
    length: tuple[int, ...],
    findings: OutputFindings,
) -> None:
    """Lookahead from d past / d input: the last input with a gradient that is not exactly 0."""
    if target.spec(name).discrete:
        findings.gradient_why = "the output is discrete"
        return
    tensors = target.tensors(plan.full)
    leaf = tensors[plan.axis.input]
    if not leaf.is_floating_point():
        findings.gradient_why = "the input is discrete"
        return
    leaf.requires_grad_(True)
    # A module may write to what it is given; a leaf would refuse that with another error.
    tensors[plan.axis.input] = leaf * 1.0
    try:
        with torch.enable_grad(), timed(RUNNING):
            value = target.named(target.module(*tensors.values()))[name]
            if not value.requires_grad:
                findings.gradient_why = "no gradient flows"
                return
            past = value[law.past(plan.cut, length)]
            weights = torch.from_numpy(
                np.random.default_rng(7).uniform(0.5, 1.5, tuple(past.shape)).astype(np.float32)
            )
            target.forwards += 3
            (slope,) = torch.autograd.grad((past * weights).sum(), leaf)
    except Exception as error:  # noqa: BLE001 - the user's code may refuse a gradient in any way
        findings.gradient_why = f"no gradient: {first_line(error, 160)}"
        return
    finally:
        target.snapshot.restore()
    if bool(torch.isnan(slope).any()):
        findings.gradient_why = "the gradient is NaN"
        return
    moved = slope.abs().movedim(plan.axis.position, 0).reshape(slope.shape[plan.axis.position], -1)
    seen = torch.nonzero(moved.sum(1)).reshape(-1)
    last = int(seen[-1]) if len(seen) else -1
    findings.gradient = max(0, last + 1 - plan.cut)


def _layers(
    plan: Plan,
    base: dict[str, Call],
    prefix: dict[str, Call],
    future: dict[str, Call],
    laws: Mapping[str, Law],
) -> dict[str, int]:
    seen = {
        key: _lookahead(laws[key], plan.cut, base[key], future[key], prefix[key])
        for key in shared_keys((base, prefix, future))
        if key in laws
    }
    ahead = {key: steps for key, steps in seen.items() if steps}
    return dict(list(ahead.items())[:_MOST_LAYERS])


def _verdict(
    target: Target,
    plan: Plan,
    outputs: dict[str, OutputFindings],
    runs: tuple[dict[str, Call], ...],
    inputs: tuple[Any, Any],
    laws: Mapping[str, Law],
    noise: Noise,
) -> tuple[Status, str, Location | None, str | None]:
    base, prefix, future = runs
    prefix_inputs, changed = inputs
    leaking = {name: findings for name, findings in outputs.items() if findings.leaks}
    if leaking:
        name, worst = max(leaking.items(), key=lambda item: item[1].lookahead)
        fed = (plan.full, changed, prefix_inputs)
        place = locate(target, fed, (base, future, prefix), leak_judge(plan))
        steps = "step" if worst.lookahead == 1 else "steps"
        everything = sees_everything(worst, plan, laws[f"output:{name}"])
        reach = " (all that the probe holds)" if everything else ""
        return (
            Status.FAIL,
            f"really not causal: '{name}' sees {worst.lookahead} {steps} ahead{reach}, "
            f"{worst.declared} declared",
            place,
            _EVERYTHING
            if everything
            else "pad on the left only, mask the future, or declare lookahead_samples: "
            f"{worst.lookahead}",
        )
    differing = {name: findings for name, findings in outputs.items() if findings.prefix_differs}
    if not differing:
        return Status.PASS, "no output sees more than it declares", None, None
    name, worst = max(differing.items(), key=lambda item: item[1].prefix)
    place = _first_prefix_difference(target, plan, worst, laws, noise)
    if worst.double is not None and worst.double <= worst.double_limit:
        return (
            Status.FAIL,
            f"numerics of the convolution backend, not structure: '{name}' moves by "
            f"{worst.prefix:.3g} with the length, gradient and other futures are clean, and "
            f"in float64 it moves by {worst.double:.3g}",
            place,
            _ONE_ALGORITHM,
        )
    return (
        Status.FAIL,
        f"really not causal: '{name}' depends on how long the input is ({worst.moved} with the"
        " length" + _in_float64(worst.double) + "), along a path without gradient",
        place,
        "take lengths, maxima and means over the past only",
    )


def _in_float64(gap: float | None) -> str:
    if gap is None:
        return ""
    return f", by {gap:.3g} in float64" if math.isfinite(gap) else ", in float64 as well"


def sees_everything(findings: OutputFindings, plan: Plan, law: Law) -> bool:
    """The lookahead is no figure of the model: it ends where the probe does."""
    _, rate = law.main
    first_step = plan.cut + 1 - math.ceil(1 / rate)
    ahead = findings.gradient is not None and findings.gradient >= plan.steps - plan.cut
    return ahead or findings.future >= max(first_step, 1)


def leak_judge(plan: Plan) -> Judge:
    """Objects to what sees further ahead than any output may; for runs on the whole, on another
    future and on the prefix."""
    allowed = max(plan.declared.values())

    def judge(_key: str, values: tuple[np.ndarray, ...]) -> bool:
        base, future, prefix = values
        law = learn_law((plan.steps, plan.cut), (base.shape, prefix.shape))
        if law is None or not law.follows:
            return False
        return lookahead_of(law, plan.cut, base, future, prefix.shape) > allowed

    return judge


def prefix_judge(
    plan: Plan, noise: Noise, size: int, declared: int, laws: Mapping[str, Law] | None = None
) -> Judge:
    """Objects to what differs beyond rounding; for runs on the first ``size`` steps and on all."""

    def judge(key: str, values: tuple[np.ndarray, ...]) -> bool:
        part, base = values
        law = (laws or {}).get(key) or learn_law((size, plan.steps), (part.shape, base.shape))
        if law is None or not law.follows:
            return False
        index = law.past(size - declared, part.shape)
        return not noise.explains(key, part[index], base[index])

    return judge


def _first_prefix_difference(
    target: Target,
    plan: Plan,
    worst: OutputFindings,
    laws: Mapping[str, Law],
    noise: Noise,
) -> Location | None:
    size = worst.prefix_at or plan.cut
    short_inputs = plan.prefix(target, size)
    short, whole = record(target, short_inputs), record(target, plan.full)
    judge = prefix_judge(plan, noise, size, worst.declared, laws)
    return locate(target, (short_inputs, plan.full), (short, whole), judge)


def _row(findings: OutputFindings) -> dict[str, Any]:
    return {
        "declared": findings.declared,
        "lookahead": findings.lookahead,
        "by_gradient": findings.gradient
        if findings.gradient is not None
        else findings.gradient_why,
        "by_other_future": findings.future,
        "prefix_difference": _figure(findings.prefix),
        "prefix_limit": findings.prefix_limit,
        "prefix_length": findings.prefix_at,
        "prefix_difference_float64": _figure(findings.double),
    }


def _backend_rows(backends: Mapping[str, Mapping[str, float]] | str) -> Any:
    if isinstance(backends, str):
        return backends
    return {
        label: {name: _figure(value) for name, value in row.items()}
        for label, row in backends.items()
    }


def _figure(value: float | None) -> float | str | None:
    return str(value) if value is not None and not math.isfinite(value) else value
