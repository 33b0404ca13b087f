"""Which layers of a file to take apart: what differs in structure, and what fails by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from exporter.core.tensors import PlannedTap
from exporter.debugging.located_differences import Located, explaining
from exporter.debugging.pair import Pair
from exporter.debugging.select import LayerTaps, layer_of_module
from exporter.graph.subgraph import piece_of
from exporter.judge.layer_results import Culprit, JudgedTap
from exporter.judge.layers import judge_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A layer to take apart; ``propagated`` is a tap that fails in the free run only, and why."""

    layer: LayerTaps
    propagated: tuple[PlannedTap, str] | None = None


def of_report(pair: Pair) -> tuple[Suspect, ...]:
    """The culprits that the last run found, in its order; behind them what kernels lose."""
    taps = {t.tap.name: t for t in pair.planned}
    suspects: dict[str, Suspect] = {}
    for culprit in (*pair.report.culprits, *pair.report.findings):
        if culprit.tap not in taps:
            continue
        suspect = Suspect(
            layer=layer_of_module(pair, culprit.layer),
            propagated=None if culprit.by_itself else (taps[culprit.tap], culprit.reason),
        )
        suspects.setdefault(culprit.layer, suspect)
    return tuple(suspects.values())


def of_file(
    pair: Pair,
    located: Sequence[Located],
    *,
    budget: int,
    progress: Callable[[str], None],
) -> tuple[Suspect, ...]:
    """Layers of the file under test that differ in structure or fail by themselves.

    A tap that fails where a structural difference lies in its piece says nothing new: the layer
    of the difference is named, not the one behind it.
    The suspects are in program order.
    """
    modules = {at.module: None for at in located}
    propagated: dict[str, tuple[PlannedTap, str]] = {}
    for culprit in _numeric(pair, budget, progress):
        planned = culprit.tap.planned
        if not culprit.local:
            judged = culprit.tap.propagated
            if not modules and judged is not None:
                modules[planned.tap.module] = None
                propagated[planned.tap.module] = (planned, judged.verdict.reason)
            continue
        nodes = piece_of(pair.actual, planned.onnx_name, pair.cut)
        row = JudgedTap(planned=planned, nodes=nodes)
        if not explaining(pair, row, located):
            modules[planned.tap.module] = None
    order = {t.tap.module: i for i, t in reversed(list(enumerate(pair.planned)))}
    ranked = sorted(modules, key=lambda name: order.get(name, len(order)))
    return tuple(
        Suspect(layer=layer_of_module(pair, name), propagated=propagated.get(name))
        for name in ranked
    )


def _numeric(pair: Pair, budget: int, progress: Callable[[str], None]) -> tuple[Culprit, ...]:
    link = judge_layers(
        pair.program,
        pair.actual,
        [pair.case],
        policy=pair.policy,
        deployment=pair.deployment,
        budget=budget,
        known_taps=pair.known,
        progress=progress,
    )
    return (*link.culprits, *(c for c in link.findings if c not in link.culprits))
