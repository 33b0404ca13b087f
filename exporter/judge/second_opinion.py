"""The second opinion on a value that failed: float32's cost taken from several draws.

PyTorch's distance to float64 is one draw of rounding noise. At an element that amplifies it (the
log of a nearly empty mel bin), or in an output of few elements, that draw may happen to be small,
and a file that is right is then over a limit that is too low. Further draws come from the program
alone (see ``interpret.float32_cost``) and know nothing of the file.

The layer of every value is read from the program, so an override counts here as it did before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property

from exporter.core.tensors import Arrays
from exporter.graph.program import Program
from exporter.interpret.float32_cost import float32_cost
from exporter.parity.measurement import Distance, Measurement
from exporter.parity.status import Status
from exporter.parity.tolerance import Policy
from exporter.parity.verdict import Verdict, judge


def is_doubtful(verdict: Verdict) -> bool:
    """True for a failure that rests on a distance: nothing else depends on what float32 costs."""
    return verdict.status is Status.FAIL and verdict.strain is not None


class SecondOpinion:
    """What several draws of float32 say of values of one case; drawn once, when first asked.

    Args:
        program: of the values. inputs: of the case, by the program's names.
        names: values of the program that may be asked for.
    """

    def __init__(self, program: Program, inputs: Arrays, policy: Policy, names: Iterable[str]):
        self._program = program
        self._inputs = inputs
        self._policy = policy
        self._names = tuple(names)
        self._layers = {op.name: op.module for op in program.ops}

    @cached_property
    def _costs(self) -> Mapping[str, Distance]:
        return float32_cost(self._program, self._inputs, self._names)

    def measured(self, name: str, measured: Measurement) -> Measurement:
        """What was measured of a value, with the larger cost; as it is where no draw reaches it."""
        cost = self._costs.get(name)
        return measured if cost is None else with_cost(measured, cost)

    def on(self, name: str, measured: Measurement, verdict: Verdict) -> tuple[Measurement, Verdict]:
        """Figures and verdict of a value with the larger cost.

        They stay as they are where the failure does not rest on what float32 costs, and where no
        draw reaches the value.
        """
        if not is_doubtful(verdict) or name not in self._costs:
            return measured, verdict
        return judge_again(
            measured, self._costs[name], self._policy, layer=self._layers.get(name, "")
        )


def judge_again(
    measured: Measurement, cost: Distance, policy: Policy, *, layer: str
) -> tuple[Measurement, Verdict]:
    """Judge a measurement with the larger of PyTorch's own distance and another one of float32.

    Args:
        layer: module path of the value, for overrides that name a layer.
    """
    again = with_cost(measured, cost)
    return again, judge(again, policy, layer=layer)


def with_cost(measured: Measurement, cost: Distance) -> Measurement:
    """The same measurement with the larger of PyTorch's own distance and that of the draws."""
    own = measured.reference
    if own is None or own.max_abs is None or own.rms is None:
        return measured
    if cost.max_abs is None or cost.rms is None:
        return measured
    larger = replace(own, max_abs=max(own.max_abs, cost.max_abs), rms=max(own.rms, cost.rms))
    return replace(measured, reference=larger)
