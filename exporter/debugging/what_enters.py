"""A layer that is right by itself: is what enters it wrong already?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from exporter.core.errors import OnnxStoppedError, first_line
from exporter.core.tensors import PlannedTap
from exporter.debugging.finding import ADDED_UP, INPUT, Finding, at_tap
from exporter.debugging.isolate import Isolated
from exporter.debugging.pair import Pair
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import WindowRun
from exporter.graph.subgraph import Partition, cut_window
from exporter.interpret.allowed_ops import shown_targets
from exporter.interpret.evaluate import to_array
from exporter.interpret.run_program import values_of
from exporter.judge.second_opinion import SecondOpinion
from exporter.judge.tap_measure import measure_tap
from exporter.parity.status import Status
from exporter.parity.verdict import judge_tap


def entering_finding(pair: Pair, isolated: Isolated, culprits: Sequence[str]) -> Finding | None:
    """Is what enters the layer wrong already? Judged in a free run against free float64.

    Args:
        culprits: module paths known to be wrong.
    """
    inside = {row.planned.onnx_name for row in isolated.rows}
    by_name = {t.onnx_name: t for t in pair.planned}
    entering = [by_name[n] for n in isolated.feeds if n in by_name and n not in inside]
    if not entering:
        return None
    entering.sort(key=lambda t: pair.planned.index(t))
    names = [t.tap.name for t in entering]
    plain, wide = values_of(pair.program, pair.case.inputs, names, names)
    try:
        values = _free(pair, entering)
    except OnnxStoppedError as error:
        return _input(entering[0], f"the graph stops before it: {first_line(error, 300)}", culprits)
    shown = shown_targets(pair.program)
    opinion = SecondOpinion(pair.program, pair.case.inputs, pair.policy, names)
    for tap in entering:
        measured = measure_tap(
            tap,
            truth=to_array(wide[tap.tap.name]),
            reference=to_array(plain[tap.tap.name]),
            actual=values[tap.onnx_name],
            shown=shown[tap.tap.name],
        )
        verdict = judge_tap(measured, tap, pair.case, pair.policy)
        # As in a run: PyTorch's single draw of rounding may happen to be good up to here.
        _, verdict = opinion.on(tap.tap.name, measured, verdict)
        if verdict.status is Status.FAIL:
            return _input(tap, verdict.reason, culprits)
    return None


def _free(pair: Pair, taps: Sequence[PlannedTap]) -> dict[str, np.ndarray]:
    graph = pair.actual
    names = [t.onnx_name for t in taps]
    nodes = Partition(graph).take(names)
    inputs = {n: np.asarray(pair.case.inputs[n], order="C") for n in graph.inputs}
    dtypes = {n: v.dtype for n, v in inputs.items()}
    window = cut_window(graph, nodes, keep=names, dtypes=dtypes)
    way = Deployment(provider=pair.deployment.provider, threads=pair.deployment.threads)
    return WindowRun(window, graph, way).run(inputs)


def _input(tap: PlannedTap, reason: str, culprits: Sequence[str]) -> Finding:
    where = ", ".join(f"'{name}'" for name in culprits[:3]) or f"'{tap.tap.module}'"
    what = f"the layer itself is right, its input '{tap.tap.name}' is wrong already"
    return at_tap(tap.tap, INPUT, f"{what}: look upstream at {where}", reason, thing=tap.tap.name)


def added_up(tap: PlannedTap, reason: str) -> Finding:
    """No layer fails by itself, yet the free run is too far off by here."""
    return at_tap(
        tap.tap,
        ADDED_UP,
        "no op of this layer fails by itself",
        f"errors have added up by here: {reason}",
    )
