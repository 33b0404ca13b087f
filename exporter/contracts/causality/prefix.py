"""The prefix probe of causality: one input at many lengths, and what a difference means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from exporter.contracts.causality.plan import Plan
from exporter.contracts.causality.rounding import without_coarse_arithmetic
from exporter.contracts.compare.align import Law
from exporter.contracts.compare.differ import differ
from exporter.contracts.compare.noise import Noise, distance, scale_of
from exporter.contracts.locate.first import outputs_of
from exporter.contracts.locate.recorder import Call
from exporter.contracts.target import Target, as_array


@dataclass(slots=True, kw_only=True)
class OutputFindings:
    """What the probes saw at one output; steps are input steps.

    Attributes:
        lookahead: largest that any structural probe saw.
        gradient: lookahead by gradient; None when it could not be taken (``why``).
        future: lookahead by the other future.
        prefix: largest difference of a prefix, with the length where it was; ``prefix_what`` says
            in words what differs where that is no distance (ids, NaN).
        prefix_floor: what any computation in the module's format may cost there.
        double: the same in float64; None when it was not needed.
    """

    declared: int
    gradient: int | None = None
    gradient_why: str = ""
    future: int = 0
    prefix: float = 0.0
    prefix_limit: float = 0.0
    prefix_floor: float = 0.0
    prefix_at: int | None = None
    prefix_what: str = ""
    double: float | None = None
    double_limit: float = 0.0

    @property
    def moved(self) -> str:
        """How a prefix differs, as a clause."""
        return self.prefix_what or f"differs by {self.prefix:.3g}"

    @property
    def moved_limit(self) -> str:
        """What that was held against."""
        return "equal" if self.prefix_what else f"{self.prefix_limit:.3g}"

    @property
    def lookahead(self) -> int:
        return max(self.gradient or 0, self.future)

    @property
    def leaks(self) -> bool:
        """A structural probe saw more than declared. Zero gradient and a difference within
        rounding is smearing of a kernel, not a path."""
        return self.lookahead > self.declared

    @property
    def prefix_differs(self) -> bool:
        return not self.prefix <= self.prefix_limit


def sweep_prefixes(
    target: Target,
    plan: Plan,
    outputs: dict[str, OutputFindings],
    laws: Mapping[str, Law],
    noise: Noise,
    whole: Mapping[str, np.ndarray],
    recorded: Mapping[str, Call],
) -> Noise:
    """Compare every prefix with the whole and fill in what was found.

    Where a difference lies beyond the format's floor and only the measured noise excuses it, the
    noise itself is questioned: a backend that computes long inputs in TF32 does so in the noise
    run too, wherever a layer there is long enough.

    Args:
        whole: outputs of the full input.
        recorded: the run on ``plan.cut`` steps.

    Returns:
        the noise that decided.
    """
    prefixes = {plan.cut: outputs_of(dict(recorded))}
    prefixes |= {size: target.torch(plan.prefix(target, size)) for size in plan.sweep}
    _compare(outputs, laws, noise, whole, prefixes)
    excused = [
        findings
        for findings in outputs.values()
        if findings.prefix_floor < findings.prefix and not findings.leaks
    ]
    if any(not findings.prefix_differs for findings in excused):
        noise = without_coarse_arithmetic(target, noise)
        _compare(outputs, laws, noise, whole, prefixes)
    for name, findings in outputs.items():
        if findings.prefix_differs and not findings.leaks and findings.prefix_at is not None:
            _confirm_in_double(target, plan, name, laws[name], findings)
    return noise


def _compare(
    outputs: dict[str, OutputFindings],
    laws: Mapping[str, Law],
    noise: Noise,
    whole: Mapping[str, np.ndarray],
    prefixes: Mapping[int, Mapping[str, np.ndarray]],
) -> None:
    for name, findings in outputs.items():
        findings.prefix_at = None
        for size, short in prefixes.items():
            index = laws[name].past(size - findings.declared, short[name].shape)
            left, right = short[name][index], whole[name][index]
            gap, scale = distance(left, right), scale_of(left, right)
            limit = noise.limit(name, scale, left.size)
            if findings.prefix_at is None or gap - limit > findings.prefix - findings.prefix_limit:
                findings.prefix, findings.prefix_limit, findings.prefix_at = gap, limit, size
                findings.prefix_what = ""
                if not np.isfinite(gap) and (away := differ(left, right, noise, name)) is not None:
                    findings.prefix_what = away.text(f"in the first {size} steps", "in all")
                findings.prefix_floor = noise.floor.limit(name, scale, left.size)


def _confirm_in_double(
    target: Target, plan: Plan, name: str, law: Law, findings: OutputFindings
) -> None:
    values = []
    for size in (findings.prefix_at or plan.cut, plan.steps):
        inputs = plan.full if size == plan.steps else plan.prefix(target, size)
        try:
            values.append(as_array(target.double(inputs)[name]))
        except Exception:  # noqa: BLE001 - no float64 run means no confirmation, and says so
            return
    index = law.past((findings.prefix_at or plan.cut) - findings.declared, values[0].shape)
    findings.double = distance(values[0][index], values[1][index])
    # float64 rounds 2^29 times finer; the share allowed is the same.
    findings.double_limit = max(findings.prefix_limit * 2.0**-26, 1e-300)
