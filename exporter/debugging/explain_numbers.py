"""What no structural difference explains: weights, dtypes, shapes, kernels, the graph itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from exporter.debugging.compare_weights import wrong_weight
from exporter.debugging.finding import GRAPH, KERNEL, Finding, at_tap
from exporter.debugging.guilty_node import blame, node_label
from exporter.debugging.isolate import Isolated, ops_of
from exporter.debugging.pair import Pair
from exporter.debugging.variations import REFERENCE, Variation
from exporter.judge.layer_results import JudgedTap

_WHOLE = "the layer as a whole"
_SHAPE_READERS = frozenset({"Reshape", "Expand", "Tile"})


def explain_row(
    pair: Pair, isolated: Isolated, row: JudgedTap, matrix: Sequence[Variation]
) -> Finding:
    """Say what makes one tap fail, as narrowly as it can be shown."""
    finding = _weight(pair, row) or _dtype_or_shape(pair, row)
    if finding is not None:
        return finding
    ways = [v for v in matrix if v.deployment is not None and v.separate.agrees is not None]
    levels = _only_some(ways)
    evaluator = next((v for v in matrix if v.name == REFERENCE), None)
    node, by_evaluator = blame(pair, isolated, row)
    region = _region(pair, row) if node is None else node
    reason = row.local.verdict.reason if row.local else ""
    if levels:
        return _finding(row, KERNEL, region, f"kernel differs: {region} {levels}", reason)
    if by_evaluator or (evaluator is not None and evaluator.separate.agrees):
        text = f"kernel differs: {region} passes in ONNX's reference evaluator, not in onnxruntime"
        return _finding(row, KERNEL, region, text, reason)
    said = "" if by_evaluator is None else " in onnxruntime and in ONNX's reference evaluator alike"
    text = f"{region} computes something else than {row.planned.tap.op}{said}"
    return _finding(row, GRAPH, region, text, reason)


def _only_some(ways: Sequence[Variation]) -> str:
    """Which part of onnxruntime is guilty, if some of its variations agree and some do not."""
    for reading in ("separate", "together"):
        agree = [v for v in ways if getattr(v, reading).agrees]
        wrong = [v for v in ways if getattr(v, reading).agrees is False]
        if not agree or not wrong:
            continue
        shown = "" if reading == "separate" else " once ops are fused across taps"
        sides = (agree, wrong)
        providers = [{v.deployment.provider for v in side if v.deployment} for side in sides]
        if not providers[0] & providers[1]:
            return f"is wrong only on {', '.join(sorted(providers[1]))}{shown}"
        levels = [{v.deployment.level for v in side if v.deployment} for side in sides]
        if levels[1] - levels[0]:
            only = sorted(levels[1] - levels[0])
            return f"is wrong only at graph optimisation level {', '.join(only)}{shown}"
        return f"is wrong only as {', '.join(v.name for v in wrong)}{shown}"
    return ""


def fusion_finding(isolated: Isolated, matrix: Sequence[Variation]) -> Finding | None:
    """A layer whose ops are right one by one, and wrong at some optimisation levels together."""
    ways = [v for v in matrix if v.deployment is not None]
    wrong = [v for v in ways if v.together.agrees is False]
    if not wrong or len(wrong) == len(ways):
        return None
    name = wrong[0].together.tap
    row = next(
        (r for r in isolated.last_rows if r.planned.tap.name == name), isolated.last_rows[-1]
    )
    told = _only_some(ways)
    text = f"kernel differs: {_WHOLE} {told}"
    return _finding(row, KERNEL, _WHOLE, text, wrong[0].together.why, whole=True)


def _weight(pair: Pair, row: JudgedTap) -> Finding | None:
    finding = wrong_weight(pair, row)
    if finding is None:
        return None
    node = node_label(pair, finding.node)
    text = (
        f"{finding.kind} '{finding.name}' of {node} differs: {finding.actual} in the file,"
        f" {finding.expected} in PyTorch{finding.share}"
    )
    same = {"thing": finding.name, "expected": finding.expected, "actual": finding.actual}
    return _finding(row, finding.kind, node, text, **same)


def _dtype_or_shape(pair: Pair, row: JudgedTap) -> Finding | None:
    m = row.local.measurement if row.local else None
    if m is None or m.problem is None or m.dtype_actual is None:
        return None
    last = _region(pair, row)
    if row.planned.onnx_name in pair.actual.producer:
        last = node_label(pair, pair.actual.producer[row.planned.onnx_name])
    if m.dtype_expected != m.dtype_actual:
        both = {"expected": str(m.dtype_expected), "actual": str(m.dtype_actual)}
        text = f"dtype differs: {last} gives {both['actual']}, PyTorch {both['expected']}"
        return _finding(row, "dtype", last, text, thing="dtype", **both)
    if m.shape_expected != m.shape_actual:
        both = {"expected": str(m.shape_expected), "actual": str(m.shape_actual)}
        baked = _constant_shape(pair, row)
        text = f"shape differs: {last} gives {both['actual']}, PyTorch {both['expected']}"
        more = f"a shape is baked in: {baked}" if baked else ""
        return _finding(row, "shape", last, text, more, thing=baked or "shape", **both)
    return None


def _constant_shape(pair: Pair, row: JudgedTap) -> str:
    graph = pair.actual
    for index in row.nodes:
        node = graph.nodes[index]
        if node.op_type in _SHAPE_READERS and node.input[1] in graph.initializers:
            values = graph.array(node.input[1])
            if (values > 1).any():
                return f"'{node.input[1]}' = {values.tolist()} of {node_label(pair, index)}"
    return ""


def _region(pair: Pair, row: JudgedTap) -> str:
    if len(row.nodes) == 1:
        return node_label(pair, row.nodes[0])
    if not row.nodes:
        return f"the constant '{row.planned.onnx_name}'"
    return f"the fused region {' + '.join(ops_of(pair.actual, row)[-6:])}"


def _finding(row: JudgedTap, kind: str, node: str, *clauses: str, **more: Any) -> Finding:
    return at_tap(row.planned.tap, kind, *clauses, node=node, **more)
