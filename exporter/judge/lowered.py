"""Measurements of outputs told what the file holds in front of them, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from exporter.core.stages import Station
from exporter.core.tensors import COMPARED, Case, PlannedTap
from exporter.graph.index import GraphIndex
from exporter.graph.node_formats import Held, HeldPrecision, native_formats
from exporter.graph.program import Program
from exporter.graph.taps import plan_taps
from exporter.interpret.format_cost import (
    held_by_kind,
    held_of_ops,
    output_costs,
)
from exporter.judge.subject import Subject
from exporter.parity.measurement import Distance, Measurement
from exporter.parity.tolerance import Policy, coarser, declared_formats


def lowered_as_declared(program: Program, graph: GraphIndex, policy: Policy) -> bool:
    """True for a file that holds a lower precision than the model, and none but the declared."""
    formats = HeldPrecision(graph, (), native_formats(program)).formats
    return bool(formats) and not coarser(formats, policy)


_Planned = tuple[PlannedTap, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutputs:
    """What the file behind some outputs holds.

    Attributes:
        formats: coarser than the model's own, anywhere in the file; none for PyTorch itself.
        costs: by output. alone: nothing in front of the outputs is compared.
    """

    formats: tuple[str, ...] = ()
    costs: Mapping[str, Distance] = field(default_factory=dict)
    alone: bool = False

    def tell(self, measured: Measurement) -> Measurement:
        """The measurement of an output, with what is known of its file."""
        return replace(
            measured,
            held=self.formats,
            cost=self.costs.get(measured.name),
            alone=self.alone,
        )


class LoweredFiles:
    """What files cost at their outputs, case by case; each file is looked at once.

    Args:
        policy: in float32, what is tapped is known from its taps and is not looked at here.
    """

    def __init__(self, subject: Subject, policy: Policy):
        self._program = subject.program
        self._known, self._joins = subject.known_taps, subject.joins
        self._tapped = subject.tapped
        self._native = declared_formats(policy)
        self._asked = policy.precision != "float32" or not subject.tapped
        self._files: dict[str, tuple[tuple[str, ...], Mapping[str, Held], _Planned]] = {}
        self._found: dict[tuple[str, str], HeldOutputs] = {}

    def outputs(
        self, station: Station | None, graph: Callable[[Station], GraphIndex], case: Case
    ) -> HeldOutputs | None:
        """What is known of the outputs of one file on one case; None where nobody has to ask.

        Args:
            station: the file; None for PyTorch, which holds what it holds. graph: opens it.
        """
        if station is None or not self._asked:
            return None if station is not None else HeldOutputs()
        if station.name not in self._files:
            self._files[station.name] = self._look(graph(station))
        key = (station.name, case.name)
        if key not in self._found:
            precision, ops, planned = self._files[station.name]
            self._found[key] = HeldOutputs(
                formats=precision,
                costs=output_costs(self._program, case.inputs, ops, planned),
                alone=not self._tapped,
            )
        return self._found[key]

    def _look(self, graph: GraphIndex) -> tuple[tuple[str, ...], Mapping[str, Held], _Planned]:
        planned = plan_taps(self._program, graph, self._known, self._joins) if self._tapped else ()
        cut = [t.onnx_name for t in planned if t.fate == COMPARED and not t.constant]
        precision = HeldPrecision(graph, cut, native_formats(self._program))
        names = [
            name for output in graph.outputs for name in precision.behind(output, self._native)
        ]
        formats = tuple(sorted({*precision.formats, *names}))
        if self._tapped:
            return formats, held_of_ops(self._program, precision, planned), planned
        return formats, held_by_kind(self._program, precision), planned
