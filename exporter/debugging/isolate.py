"""Cut taps out of the ONNX graph, feed them PyTorch's values, compare them one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from exporter.core.errors import OnnxStoppedError, first_line
from exporter.core.tensors import COMPARED, Arrays, PlannedTap
from exporter.debugging.layer_program import layer_program
from exporter.debugging.pair import Pair
from exporter.debugging.torch_values import boundary, region_of, truth_of
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import WindowRun
from exporter.execution.onnx_windows import OnnxWindows
from exporter.execution.stored_form import StoredShapes, as_expected
from exporter.graph.index import GraphIndex
from exporter.graph.program import Program
from exporter.graph.subgraph import OWN, WindowGraph, cut_window, piece_of
from exporter.interpret.allowed_ops import shown_targets
from exporter.interpret.evaluate import to_array
from exporter.interpret.run_program import values_of
from exporter.judge.layer_results import JudgedTap, Judgement
from exporter.judge.tap_measure import measure_tap
from exporter.parity.compare import measure
from exporter.parity.measurement import Measurement
from exporter.parity.status import Status, Who
from exporter.parity.verdict import Verdict, judge_tap


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolated:
    """Taps cut out of the file, with all that is needed to run them again in another way.

    Attributes:
        rows: taps in program order; local figures only, None for those that the file does not hold.
        feeds: ONNX name -> float32 PyTorch's value, for every value that the pieces read.
        truth: tap name -> float64 on those values. reference: tap name -> float32 PyTorch.
        exact: taps that must be equal bit for bit.
        ends: names of taps that something outside reads: what the taps give as a whole.
        whole: tap name -> float64 of the ends, on the values that enter all taps together.
        program: the ops behind the ends, on the same values; entering: those values.
    """

    rows: tuple[JudgedTap, ...]
    feeds: Arrays
    truth: Arrays
    reference: Arrays
    exact: frozenset[str]
    ends: frozenset[str]
    whole: Arrays
    program: Program
    entering: Mapping[str, Any]

    @property
    def last_rows(self) -> tuple[JudgedTap, ...]:
        """Rows of the ends that the file computes."""
        return tuple(row for row in self.rows if row.planned.tap.name in self.ends and row.nodes)

    @property
    def failing(self) -> tuple[JudgedTap, ...]:
        return tuple(row for row in self.rows if row.fails_by_itself)

    def window(
        self, graph: GraphIndex, rows: Iterable[JudgedTap], forced: frozenset[str]
    ) -> WindowGraph:
        """The model that computes ``rows``, every tap in ``forced`` fed from outside."""
        rows = tuple(rows)
        names = [row.planned.onnx_name for row in rows]
        nodes = tuple(sorted({i for name in names for i in piece_of(graph, name, forced)}))
        dtypes = {name: value.dtype for name, value in self.feeds.items()}
        return cut_window(graph, nodes, keep=names, forced=forced, dtypes=dtypes)


def isolate(pair: Pair, taps: Iterable[PlannedTap], *, also: Iterable[str] = ()) -> Isolated:
    """Compare every tap on the values that PyTorch has in front of it.

    Args:
        taps: in any order; those that the file does not hold become rows without figures.
        also: names of further program values whose float32 value should be in ``feeds``.
    """
    graph, cut = pair.actual, pair.cut
    wanted = {t.tap.name for t in taps}
    planned = [t for t in pair.planned if t.tap.name in wanted]
    rows = [_bare(graph, t, cut) for t in planned]
    live = [row.planned.tap.name for row in rows if row.nodes]
    stops = boundary(pair)
    region = region_of(pair, live, stops)
    names = {t.onnx_name: t.tap.name for t in pair.planned}
    read = {n for row in rows for i in row.nodes for n in graph.reads[i]}
    inputs = {n for n in read if n in graph.inputs}
    forced = {n: names[n] for n in read if n in cut}
    own = {op.name for op in region.ops}
    reference, _ = values_of(
        pair.program, pair.case.inputs, {*region.entering, *own, *forced.values(), *also}
    )
    truth = truth_of(pair, live, reference, stops)
    ends = _ends(pair, live)
    around = stops - set(live)
    whole = truth_of(pair, ends, reference, around)
    program = layer_program(pair, ends, reference, around)
    feeds = {n: np.asarray(pair.case.inputs[n], order="C") for n in inputs}
    stored = shapes_in_file(pair)
    feeds |= {n: stored.give(n, to_array(reference[p])) for n, p in forced.items()}
    feeds |= {pair.program.onnx_name(n): to_array(reference[n]) for n in also if n in reference}
    isolated = Isolated(
        rows=tuple(rows),
        feeds=feeds,
        truth={n: to_array(v) for n, v in truth.values.items()},
        reference={n: to_array(reference[n]) for n in live},
        exact=truth.exact,
        ends=frozenset(ends),
        whole={n: to_array(v) for n, v in whole.values.items()},
        program=program,
        entering={n: reference[n] for n in program.inputs},
    )
    results, errors = _run(pair, isolated, [row for row in rows if row.nodes])
    given = [(row, row.planned.onnx_name) for row in rows]
    judged = (_judged(pair, isolated, row, results.get(n), errors.get(n)) for row, n in given)
    return replace(isolated, rows=tuple(judged))


def shapes_in_file(pair: Pair) -> StoredShapes:
    """Shapes of the taps that the run has found in another shape in the file, on this case."""
    shapes = {
        tap.name
        for link in pair.report.links
        for layer in link.layers
        for tap in layer.taps
        if tap.local is not None and tap.local.get("shape_stored") is not None
    }
    stored = StoredShapes()
    names = {t.onnx_name: t.tap.name for t in pair.planned if t.tap.name in shapes}
    wanted = [name for name in names if name in pair.cut]
    if not wanted:
        return stored
    reference, _ = values_of(pair.program, pair.case.inputs, {names[name] for name in wanted})
    walk = OnnxWindows(pair.actual, pair.case.inputs, pair.deployment, taps=frozenset(wanted))
    for name, value in walk.advance(wanted, last=False).items():
        stored.take(name, value, np.shape(to_array(reference[names[name]])))
    return stored


def _ends(pair: Pair, names: list[str]) -> list[str]:
    """Those of ``names`` that are outputs of the graph or read by an op that is not named."""
    own, program = set(names), pair.program
    read = {n for op in program.ops if op.name not in own for n in op.refs()}
    ends = [n for n in names if n in read or n in program.outputs]
    return ends or names[-1:]


def ops_of(graph: GraphIndex, row: JudgedTap) -> tuple[str, ...]:
    """Operators of the nodes that compute a tap."""
    return tuple(graph.nodes[index].op_type for index in row.nodes)


def _bare(graph: GraphIndex, planned: PlannedTap, cut: frozenset[str]) -> JudgedTap:
    live = planned.fate == COMPARED and not planned.constant
    nodes = piece_of(graph, planned.onnx_name, cut) if live else ()
    return JudgedTap(planned=planned, nodes=nodes)


def _run(
    pair: Pair, isolated: Isolated, rows: list[JudgedTap]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All pieces in one session; one by one when onnxruntime refuses one of them."""
    if not rows:
        return {}, {}
    try:
        return run_window(pair, isolated, rows, pair.cut, pair.deployment), {}
    except OnnxStoppedError as error:
        if len(rows) == 1:
            return {}, {rows[0].planned.onnx_name: first_line(error, 300)}
    # Which piece it means is found by halving.
    half = len(rows) // 2
    left, right = (_run(pair, isolated, part) for part in (rows[:half], rows[half:]))
    return {**left[0], **right[0]}, {**left[1], **right[1]}


def run_window(
    pair: Pair,
    isolated: Isolated,
    rows: Iterable[JudgedTap],
    forced: frozenset[str],
    deployment: Deployment,
) -> dict[str, np.ndarray]:
    """Run the pieces of ``rows`` on onnxruntime; results by ONNX name."""
    window = isolated.window(pair.actual, rows, forced)
    results = WindowRun(window, pair.actual, deployment).run(isolated.feeds)
    return {name.removesuffix(OWN): value for name, value in results.items()}


def _judged(
    pair: Pair, isolated: Isolated, row: JudgedTap, actual: np.ndarray | None, refused: str | None
) -> JudgedTap:
    if refused is not None:
        name, reason = row.planned.tap.name, f"onnxruntime stops: {refused}"
        verdict = Verdict(name=name, status=Status.FAIL, who=Who.ONNX, reason=reason)
        nothing = measure(name, truth=None, reference=isolated.reference[name], actual=None)
        return _with(pair, row, nothing, verdict)
    if row.planned.constant:
        actual = pair.actual.array(row.planned.onnx_name)
    if actual is None or row.planned.tap.name not in isolated.truth:
        return row
    return _with(pair, row, *judge_value(pair, isolated, row, actual))


def _with(pair: Pair, row: JudgedTap, measured: Measurement, verdict: Verdict) -> JudgedTap:
    judged = Judgement(measurement=measured, verdict=verdict, case=pair.case.name)
    return replace(row, local=judged)


def judge_value(
    pair: Pair,
    isolated: Isolated,
    row: JudgedTap,
    actual: np.ndarray,
    *,
    truth: Any = None,
    reference: Any = None,
) -> tuple[Measurement, Verdict]:
    """Measure and judge one value of a tap, wherever it comes from.

    Args:
        truth, reference: replace those of the isolated tap.
    """
    tap = row.planned.tap
    reference = isolated.reference[tap.name] if reference is None else reference
    if not row.planned.output:
        reshaped = as_expected(actual, reference.shape)
        actual = actual if reshaped is None else reshaped
    measured = measure_tap(
        row.planned,
        truth=isolated.truth[tap.name] if truth is None else truth,
        reference=reference,
        actual=actual,
        shown=shown_targets(pair.program)[tap.name],
        exact=truth is None and tap.name in isolated.exact,
    )
    return measured, judge_tap(measured, row.planned, pair.case, pair.policy)
