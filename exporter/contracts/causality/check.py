"""Causality: what was said does not change when more is said.

Three probes, because each alone is fooled:

    prefix     the output for x[:n] equals the start of the output for x     noise moves it 1e-7
    gradient   d past / d future is exactly 0                                scale-free: the arbiter
    future     x[:n] + another future, same length: the past is equal bit by bit

The gradient sees every path that numbers flow along and is blind to lengths and to comparisons;
the prefix sees those too, but a weak leak drowns in rounding. A prefix that differs while the
other two are clean, and that float64 makes agree, is not a leak but the numerics of a
convolution backend that picks its algorithm by length (cuDNN, TF32: kyutai-labs/moshi issue 134).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from pydantic import Field

from exporter.contracts.causality.calls import check_calls
from exporter.contracts.causality.onnx import check as check_onnx
from exporter.contracts.causality.plan import Plan
from exporter.contracts.causality.streaming import Streaming, streaming_result
from exporter.contracts.causality.torch import check as check_torch
from exporter.contracts.compare.align import Law
from exporter.contracts.probes import resize, take_row
from exporter.contracts.result import ONNX, SIDES, TORCH, ContractResult, not_applicable, not_run
from exporter.contracts.settings import ContractSettings, Named, Reason
from exporter.contracts.target import ForwardError, Target, TimeAxis, on_file
from exporter.core.tensors import Arrays

NAME = "causality"
_WAVEFORM_STEPS = (15_360, 7_680, 3_840)
_MOST_STEPS = 16 * 15_360
_FRAME_STEPS = (64, 48, 32, 24, 16, 12, 8, 4)


class Settings(ContractSettings):
    """Options.

    Attributes:
        lookahead_samples: input steps behind the present that an output may see; one number, or
            one per output (outputs that are not named are then not checked).
        input, axis: along which input and axis time runs; guessed when not given.
        no_causality: output -> why causality means nothing there.
        streaming: chunk by chunk equals offline.
    """

    lookahead_samples: int | dict[str, int] = 0
    input: str | None = None
    axis: str | None = None
    no_causality: dict[str, Reason] = Field(default_factory=dict)
    streaming: Streaming | None = None

    def names(self) -> Iterator[Named]:
        # What is left out by name, in a section that was inherited, checks nothing in any case.
        if isinstance(self.lookahead_samples, dict):
            for name in self.lookahead_samples.keys() - self.no_causality.keys():
                yield Named(keys=("lookahead_samples", name), name=name, kind="output")
        yield from super().names()
        if self.streaming is not None:
            for word in self.streaming.names():
                yield replace(word, keys=("streaming", *word.keys))


def check(target: Target, settings: Settings) -> tuple[ContractResult, ...]:
    """Check causality on both sides, and chunk by chunk as rows of their own."""
    results = _both_sides(target, settings)
    if settings.streaming is not None:
        results += [streaming_result(target, settings.streaming, side) for side in SIDES]
    return tuple(results)


def _both_sides(target: Target, settings: Settings) -> list[ContractResult]:
    plan = make_plan(target, settings)
    if isinstance(plan, str) and target.windows and target.states:
        sides = ((TORCH, target.torch), (ONNX, target.onnx.run))
        return [check_calls(target, side, run) for side, run in sides]
    if isinstance(plan, str):
        return [not_applicable(NAME, side, plan) for side in SIDES]
    try:
        while True:
            result, laws, noise = check_torch(target, plan)
            longer = _longer(target, settings, plan) if not laws else None
            if longer is None:
                break
            plan = longer
    except ForwardError as error:
        why = f"the module does not run on the probe: {error}"
        return [not_run(NAME, side, why) for side in SIDES]
    flat = _ought_to_follow(target, settings, plan, laws)
    if flat:
        why = (
            f"'{flat[0]}' has as many steps for {plan.cut} as for {plan.steps} steps of"
            f" '{plan.axis.name}': give a longer first case, or say under no_causality why it does"
            " not follow the input"
        )
        return [not_run(NAME, side, why) for side in SIDES]
    return [result, on_file(NAME, target, lambda: check_onnx(target, plan, laws, noise))]


def _ought_to_follow(
    target: Target, settings: Settings, plan: Plan, laws: Mapping[str, Law]
) -> list[str]:
    """Outputs that are declared by name, or all of them where an axis of theirs varies and none
    was seen to: a probe that cannot see what it looks for shows nothing."""
    if isinstance(settings.lookahead_samples, dict):
        return [name for name in plan.declared if name not in laws]
    if laws:
        return []
    return [
        name
        for name in plan.declared
        if any(isinstance(size, str) and size != target.batch for size in target.spec(name).shape)
    ]


def _longer(target: Target, settings: Settings, plan: Plan) -> Plan | None:
    """The same on an input four times as long: the steps of the outputs may be long ones."""
    most = plan.axis.maximum or _MOST_STEPS
    steps = min(4 * plan.steps, most, _MOST_STEPS)
    if steps <= plan.steps or not _ought_to_follow(target, settings, plan, {}):
        return None
    sizes = steps, max(steps // 2, plan.axis.minimum)
    return _plan(target, plan.axis, plan.full, sizes, plan.declared, plan.skipped)


def make_plan(target: Target, settings: Settings) -> Plan | str:
    """Choose lengths; a string says why causality means nothing here."""
    axis = target.time_axis(settings.input, settings.axis)
    if axis is None:
        return "no input has an axis along which time could run"
    given = settings.lookahead_samples
    names = [spec.name for spec in target.outputs]
    wanted = dict(given) if isinstance(given, dict) else dict.fromkeys(names, given)
    declared = {name: n for name, n in wanted.items() if name not in settings.no_causality}
    if not declared:
        return "; ".join(f"{name}: {why}" for name, why in settings.no_causality.items())
    full = take_row(target, target.cases[0].entire, 0)
    have = full[axis.input].shape[axis.position]
    steps, cut = choose_steps(have, axis, max(declared.values()))
    skipped = {name: why for name, why in settings.no_causality.items() if name in names}
    skipped |= {name: "not declared" for name in names if name not in wanted}
    return _plan(target, axis, full, (steps, cut), declared, skipped)


def _plan(
    target: Target,
    axis: TimeAxis,
    full: Arrays,
    sizes: tuple[int, int],
    declared: dict[str, int],
    skipped: dict[str, str],
) -> Plan:
    steps, cut = sizes
    lengths = {cut + 1, steps - 1, max(axis.minimum, steps // 4)}
    if target.thorough:
        lengths |= {steps * 3 // 4 + 1, cut - 1, steps // 3, steps // 8}
    sweep = sorted(lengths)
    return Plan(
        axis=axis,
        full=resize(target, full, axis, steps),
        steps=steps,
        cut=cut,
        sweep=tuple(n for n in sweep if axis.minimum <= n < steps and n != cut),
        declared=declared,
        skipped=skipped,
    )


def choose_steps(have: int, axis: TimeAxis, lookahead: int) -> tuple[int, int]:
    """(length, cut): the longest of a few round lengths that the case has, cut in the middle.

    Halves of the round lengths are multiples of the strides that speech models use (160, 320,
    512, 640, 960 samples; 2, 3, 4, 6, 8 frames), so that a layer's rate comes out exactly.
    """
    sizes = _WAVEFORM_STEPS if have >= _WAVEFORM_STEPS[-1] else _FRAME_STEPS
    limit = axis.maximum or have
    steps = next((size for size in sizes if size <= min(max(have, 4), limit)), min(have, limit))
    while steps < 4 * lookahead and steps * 2 <= limit:
        steps *= 2
    return steps, max(steps // 2, axis.minimum)
