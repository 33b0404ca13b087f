"""Run the same pieces in other ways; what agrees with float64 and what does not tells causes apart.

Two readings. "each op": every tap fed PyTorch's values, which finds what is wrong by itself.
"as one": only what enters the layer is fed, so that onnxruntime may fuse across taps as it does
in the shipped file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from onnx.reference import ReferenceEvaluator

from exporter.core.errors import first_line
from exporter.core.tensors import Arrays
from exporter.debugging.isolate import Isolated, judge_value
from exporter.debugging.pair import Pair
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import WindowRun
from exporter.execution.ort_session import LEVELS
from exporter.execution.providers import present_providers
from exporter.graph.index import GraphIndex
from exporter.graph.subgraph import OWN, WindowGraph, standalone
from exporter.interpret.evaluate import to_array
from exporter.judge.layer_results import JudgedTap
from exporter.judge.second_opinion import SecondOpinion
from exporter.parity.status import Status

REFERENCE = "ONNX reference evaluator"
PYTORCH = "PyTorch float32"
JUDGE = "PyTorch float64"

# The reference evaluator is plain Python: beyond this it would take minutes.
_MOST_STEPS = 4_000
_MOST_PRODUCTS = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class VariationResult:
    """How one variation did; ``agrees`` is None when it was not run, ``why`` says why."""

    agrees: bool | None
    strain: float | None = None
    error: float | None = None
    limit: float | None = None
    tap: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """One row of the matrix."""

    name: str
    separate: VariationResult
    together: VariationResult
    deployment: Deployment | None = None


_Run = Callable[[WindowGraph], Mapping[str, np.ndarray]]


def vary(pair: Pair, isolated: Isolated) -> tuple[Variation, ...]:
    """Run the isolated taps in every way that this machine offers."""
    rows = tuple(row for row in isolated.rows if row.nodes)
    if not rows:
        return ()
    # Float32's cost over the whole layer, where it was asked for; dear, and the same for all.
    opinion = _opinion(pair, isolated)
    graph = pair.actual
    inside = frozenset(row.planned.onnx_name for row in rows)
    windows = (
        isolated.window(graph, rows, pair.cut),
        isolated.window(graph, isolated.last_rows, pair.cut - inside),
    )
    variations = [
        Variation(
            name=JUDGE,
            separate=VariationResult(agrees=True, why="the judge"),
            together=VariationResult(agrees=True, why="the judge"),
        ),
        _pytorch(pair, isolated, rows, opinion),
    ]
    threads = pair.deployment.threads
    for provider in present_providers():
        ways = [Deployment(provider=provider, level=level, threads=threads) for level in LEVELS]
        if threads != 1:
            ways.append(Deployment(provider=provider, level="all", threads=1))
        for way in ways:
            run = _on_onnxruntime(graph, isolated.feeds, way)
            name = f"onnxruntime {way.label()}"
            variations.append(_try(pair, isolated, rows, windows, name, run, way, opinion))
    run = _on_reference(graph, isolated.feeds)
    variations.append(_try(pair, isolated, rows, windows, REFERENCE, run, None, opinion))
    return tuple(variations)


def _on_onnxruntime(graph: GraphIndex, feeds: Arrays, way: Deployment) -> _Run:
    return lambda window: WindowRun(window, graph, way).run(feeds)


def _on_reference(graph: GraphIndex, feeds: Arrays) -> _Run:
    def run(window: WindowGraph) -> Mapping[str, np.ndarray]:
        model = standalone(window, graph)
        evaluator = ReferenceEvaluator(model)
        with np.errstate(all="ignore"):
            results = evaluator.run(
                list(window.outputs), {n: np.array(feeds[n]) for n in window.inputs}
            )
        return dict(zip(window.outputs, (np.asarray(r) for r in results), strict=True))

    return run


def _try(
    pair: Pair,
    isolated: Isolated,
    rows: tuple[JudgedTap, ...],
    windows: tuple[WindowGraph, WindowGraph],
    name: str,
    run: _Run,
    way: Deployment | None,
    opinion: SecondOpinion | None,
) -> Variation:
    outcomes = []
    for window, judged, whole in (
        (windows[0], rows, False),
        (windows[1], isolated.last_rows, True),
    ):
        slow = too_slow(window, isolated) if way is None else ""
        if slow:
            outcomes.append(VariationResult(agrees=None, why=slow))
            continue
        try:
            results = run(window)
        except Exception as error:  # noqa: BLE001 - refusing to run is a result, whatever is raised
            outcomes.append(VariationResult(agrees=False, why=f"stops: {first_line(error, 300)}"))
            continue
        values = {key.removesuffix(OWN): value for key, value in results.items()}
        outcomes.append(_outcome(pair, isolated, judged, values, whole, opinion))
    return Variation(name=name, separate=outcomes[0], together=outcomes[1], deployment=way)


def _outcome(
    pair: Pair,
    isolated: Isolated,
    rows: tuple[JudgedTap, ...],
    values: Mapping[str, np.ndarray],
    whole: bool,
    opinion: SecondOpinion | None,
) -> VariationResult:
    worst = VariationResult(agrees=True)
    for row in rows:
        truth = isolated.whole[row.planned.tap.name] if whole else None
        measured, verdict = judge_value(
            pair, isolated, row, values[row.planned.onnx_name], truth=truth
        )
        if whole and opinion is not None:
            measured, verdict = opinion.on(row.planned.tap.name, measured, verdict)
        bad = verdict.status is Status.FAIL
        distance = measured.actual or measured.direct
        rank = (bad, verdict.strain or 0.0)
        if rank < (not worst.agrees, worst.strain or 0.0) or (worst.tap and rank == (False, 0.0)):
            continue
        worst = VariationResult(
            agrees=not bad,
            strain=verdict.strain,
            error=distance.max_abs if distance else None,
            limit=verdict.limit.max_abs if verdict.limit else None,
            tap=row.planned.tap.name,
            why=verdict.reason if bad else "",
        )
    return worst


def _opinion(pair: Pair, isolated: Isolated) -> SecondOpinion | None:
    """As in a run: over several ops, PyTorch's single draw of rounding may happen to be good."""
    inputs = {n: to_array(v) for n, v in isolated.entering.items() if isinstance(v, torch.Tensor)}
    if len(inputs) != len(isolated.entering):
        return None
    names = [row.planned.tap.name for row in isolated.last_rows]
    return SecondOpinion(isolated.program, inputs, pair.policy, names)


def _pytorch(
    pair: Pair, isolated: Isolated, rows: tuple[JudgedTap, ...], opinion: SecondOpinion | None
) -> Variation:
    values = {r.planned.onnx_name: isolated.reference[r.planned.tap.name] for r in rows}
    return Variation(
        name=PYTORCH,
        separate=_outcome(pair, isolated, rows, values, False, opinion),
        together=_outcome(pair, isolated, isolated.last_rows, values, True, opinion),
    )


def too_slow(window: WindowGraph, isolated: Isolated) -> str:
    """Why the reference evaluator should not be asked, or ""."""
    weights = {t.name: tuple(t.dims) for t in window.model.graph.initializer}
    longest = max((max(isolated.feeds[n].shape, default=0) for n in window.inputs), default=0)
    most = max((isolated.feeds[n].size for n in window.inputs), default=0)
    for node in window.model.graph.node:
        if node.op_type in ("LSTM", "GRU", "RNN", "Loop", "Scan") and longest > _MOST_STEPS:
            return f"not run: {node.op_type} over up to {longest} steps in Python"
        shape = weights.get(node.input[1], ()) if node.op_type == "Conv" else ()
        if shape:
            options = {a.name: a for a in node.attribute}
            groups = options["group"].i if "group" in options else 1
            stride = math.prod(options["strides"].ints) if "strides" in options else 1
            positions = most / (shape[1] * groups * stride)
            if positions * math.prod(shape) > _MOST_PRODUCTS:
                return "not run: a convolution of this size takes too long in Python"
    return ""
