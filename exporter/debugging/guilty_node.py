"""Which node of a piece is to blame: each one on onnxruntime against ONNX's reference evaluator."""

from __future__ import annotations

import numpy as np
from onnx import ValueInfoProto
from onnx.reference import ReferenceEvaluator

from exporter.core.errors import OnnxStoppedError
from exporter.debugging.isolate import Isolated, judge_value
from exporter.debugging.pair import Pair
from exporter.debugging.variations import too_slow
from exporter.execution.onnx_runs import WindowRun
from exporter.graph.subgraph import OWN, cut_window, standalone
from exporter.judge.layer_results import JudgedTap
from exporter.parity.compare import measure
from exporter.parity.status import Status
from exporter.parity.verdict import judge


def blame(pair: Pair, isolated: Isolated, row: JudgedTap) -> tuple[str | None, bool | None]:
    """Find the node whose kernel differs.

    Every node of the piece is run on onnxruntime with the evaluator's own inputs; the one that is
    furthest from the evaluator is to blame.

    Returns:
        the node, or None when no single one can be named; and whether the evaluator gets the tap
        right, or None where it cannot run the piece.
    """
    if not row.nodes:
        return None, None
    only = node_label(pair, row.nodes[0]) if len(row.nodes) == 1 else None
    values = _evaluate(pair, isolated, row)
    if values is None:
        return only, None
    name = row.planned.onnx_name
    _, verdict = judge_value(pair, isolated, row, values[name])
    right = verdict.status is not Status.FAIL
    if only is not None or not right:
        return only, right
    worst, blamed = 1.0, None
    for index in row.nodes:
        strain = _node_strain(pair, index, {**isolated.feeds, **values})
        if strain > worst:
            worst, blamed = strain, node_label(pair, index)
    return blamed, True


def node_label(pair: Pair, index: int) -> str:
    """Operator and name of a node of the file under test."""
    node = pair.actual.nodes[index]
    first = next((n for n in node.output if n), "")
    return f"{node.op_type} '{node.name}'" if node.name else f"{node.op_type} of '{first}'"


def _evaluate(pair: Pair, isolated: Isolated, row: JudgedTap) -> dict[str, np.ndarray] | None:
    """Every value of the piece by the reference evaluator; None when it cannot run it."""
    graph = pair.actual
    window = isolated.window(graph, [row], pair.cut)
    if too_slow(window, isolated):
        return None
    model = standalone(window, graph)
    given = {value.name for value in model.graph.output}
    made = (n for node in model.graph.node for n in node.output)
    model.graph.output.extend(ValueInfoProto(name=n) for n in made if n and n not in given)
    names = [value.name for value in model.graph.output]
    feeds = {n: np.array(isolated.feeds[n]) for n in window.inputs}
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(names, feeds)
    except Exception:  # noqa: BLE001 - gaps of the evaluator are no finding about this file
        return None
    pairs = zip(names, results, strict=True)
    return {n.removesuffix(OWN): np.asarray(v) for n, v in pairs if not isinstance(v, list)}


def _node_strain(pair: Pair, index: int, values: dict[str, np.ndarray]) -> float:
    """How far one node on onnxruntime is from the reference evaluator; 1 is the limit."""
    graph, node = pair.actual, pair.actual.nodes[index]
    reads = [n for n in graph.reads[index] if n not in graph.initializers]
    outputs = [n for n in node.output if n in values]
    if not outputs or any(n not in values for n in reads):
        return 0.0
    window = cut_window(graph, (index,), keep=outputs, dtypes={n: values[n].dtype for n in reads})
    try:
        given_outputs = WindowRun(window, graph, pair.deployment).run(values)
    except OnnxStoppedError:
        return float("inf")
    strains = []
    for name, value in given_outputs.items():
        truth = values[name]
        if truth.dtype.kind != "f":
            strains.append(0.0 if np.array_equal(truth, value) else float("inf"))
            continue
        measured = measure(name, truth=truth.astype(np.float64), reference=truth, actual=value)
        verdict = judge(measured, pair.policy, layer="")  # one node: no tap, and no layer
        bad = verdict.status is Status.FAIL
        strains.append(verdict.strain or (float("inf") if bad else 0.0))
    return max(strains, default=0.0)
