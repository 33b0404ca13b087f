"""What no structural difference explains: weights, dtypes, shapes, kernels, the graph itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx.reference import ReferenceEvaluator

from exporter.debug.finding import ADDED_UP, GRAPH, INPUT, KERNEL, Finding
from exporter.debug.isolate import Isolated, Row, first_line
from exporter.debug.reference import run_reference
from exporter.debug.subject import Subject
from exporter.debug.variations import REFERENCE, Variation, standalone, too_slow
from exporter.execution.evaluate import to_array
from exporter.execution.onnxruntime import Deployment, WindowRun
from exporter.graph.subgraph import OWN, Partition, cut_window
from exporter.graph.taps import PlannedTap
from exporter.parity.compare import measure, measure_exact
from exporter.parity.status import Status
from exporter.parity.tolerance import Policy
from exporter.parity.verdict import judge

_SHAPE_READERS = frozenset({"Reshape", "Expand", "Tile"})


def explain_row(
    subject: Subject, held: Isolated, row: Row, matrix: Sequence[Variation]
) -> Finding:
    """Say what makes one tap fail, as narrowly as it can be shown."""
    found = _weight(subject, row) or _dtype_or_shape(subject, row)
    if found is not None:
        return found
    ways = [v for v in matrix if v.deployment is not None and v.separate.agrees is not None]
    levels = _only_some(ways)
    evaluator = next((v for v in matrix if v.name == REFERENCE), None)
    node, by_evaluator = _blame(subject, held, row)
    region = _region(subject, row) if node is None else node
    reason = row.verdict.reason if row.verdict else ""
    if levels:
        return _finding(row, KERNEL, region, f"kernel differs: {region} {levels}; {reason}")
    if by_evaluator or (evaluator is not None and evaluator.separate.agrees):
        text = f"kernel differs: {region} passes in ONNX's reference evaluator, not in onnxruntime"
        return _finding(row, KERNEL, region, f"{text}; {reason}")
    said = "" if by_evaluator is None else " in onnxruntime and in ONNX's reference evaluator alike"
    text = f"{region} computes something else than {row.planned.tap.op}{said}; {reason}"
    return _finding(row, GRAPH, region, text)


def _only_some(ways: Sequence[Variation]) -> str:
    """Which part of onnxruntime is guilty, if some of its variations agree and some do not."""
    for reading in ("separate", "together"):
        agree = [v for v in ways if getattr(v, reading).agrees]
        wrong = [v for v in ways if getattr(v, reading).agrees is False]
        if not agree or not wrong:
            continue
        shown = "" if reading == "separate" else " once ops are fused across taps"
        providers = [{v.deployment.provider for v in side if v.deployment} for side in (agree, wrong)]
        if not providers[0] & providers[1]:
            return f"is wrong only on {', '.join(sorted(providers[1]))}{shown}"
        levels = [{v.deployment.level for v in side if v.deployment} for side in (agree, wrong)]
        if levels[1] - levels[0]:
            only = sorted(levels[1] - levels[0])
            return f"is wrong only at graph optimisation level {', '.join(only)}{shown}"
        return f"is wrong only as {', '.join(v.name for v in wrong)}{shown}"
    return ""


def fusion_finding(held: Isolated, matrix: Sequence[Variation]) -> Finding | None:
    """A layer whose ops are right one by one, and wrong at some optimisation levels together."""
    ways = [v for v in matrix if v.deployment is not None]
    wrong = [v for v in ways if v.together.agrees is False]
    if not wrong or len(wrong) == len(ways):
        return None
    name = wrong[0].together.tap
    row = next((r for r in held.last_rows if r.planned.tap.name == name), held.last_rows[-1])
    told = _only_some(ways)
    text = f"kernel differs: the layer as a whole {told}; {wrong[0].together.why}"
    return _finding(row, KERNEL, "the layer as a whole", text)


def _weight(subject: Subject, row: Row) -> Finding | None:
    """An initialiser that carries a parameter's name and not its values."""
    graph, tensors = subject.actual, subject.program.tensors
    for index in row.nodes:
        for name in graph.reads[index]:
            if name not in graph.initializers or name not in tensors:
                continue
            wanted, present = to_array(tensors[name].cpu()), graph.array(name)
            node = _label(subject, index)
            if wanted.shape != present.shape or wanted.dtype != present.dtype:
                both = [f"{a.dtype.name} {list(a.shape)}" for a in (wanted, present)]
                kind = "dtype" if wanted.shape == present.shape else "shape"
                text = f"{kind} of weight '{name}' of {node} differs: {both[1]} in the file,"
                text += f" {both[0]} in PyTorch"
                return _finding(row, kind, node, text, name, both[0], both[1])
            unequal = ~((wanted == present) | ((wanted != wanted) & (present != present)))
            if unequal.any():
                gap = np.abs(present.astype(np.float64) - wanted.astype(np.float64))
                at = np.unravel_index(int(np.nanargmax(np.where(unequal, gap, -1.0))), gap.shape)
                place = [int(i) for i in at]
                both = [f"{float(a[at]):.9g} at {place}" for a in (wanted, present)]
                text = (
                    f"weight '{name}' of {node} differs: {both[1]} in the file, {both[0]} in"
                    f" PyTorch ({int(unequal.sum()):,} of {unequal.size:,} elements differ)"
                )
                return _finding(row, "weight", node, text, name, both[0], both[1])
    return None


def _dtype_or_shape(subject: Subject, row: Row) -> Finding | None:
    m = row.measurement
    if m is None or m.problem is None:
        return None
    last = _label(subject, subject.actual.producer[row.planned.onnx_name])
    if m.dtype_expected != m.dtype_actual:
        both = str(m.dtype_expected), str(m.dtype_actual)
        text = f"dtype differs: {last} gives {both[1]}, PyTorch {both[0]}"
        return _finding(row, "dtype", last, text, "dtype", *both)
    if m.shape_expected != m.shape_actual:
        both = str(m.shape_expected), str(m.shape_actual)
        baked = _constant_shape(subject, row)
        text = f"shape differs: {last} gives {both[1]}, PyTorch {both[0]}"
        text += f"; a shape is baked in: {baked}" if baked else ""
        return _finding(row, "shape", last, text, baked or "shape", *both)
    return None


def _constant_shape(subject: Subject, row: Row) -> str:
    graph = subject.actual
    for index in row.nodes:
        node = graph.nodes[index]
        if node.op_type in _SHAPE_READERS and node.input[1] in graph.initializers:
            values = graph.array(node.input[1])
            if (values > 1).any():
                return f"'{node.input[1]}' = {values.tolist()} of {_label(subject, index)}"
    return ""


def _blame(subject: Subject, held: Isolated, row: Row) -> tuple[str | None, bool | None]:
    """(the node whose kernel differs, whether the reference evaluator gets the tap right).

    Every node of the piece is run on onnxruntime with the evaluator's own inputs; the one that is
    furthest from the evaluator is to blame. None where the evaluator cannot run the piece.
    """
    graph = subject.actual
    window = held.window(graph, [row], subject.cut)
    if too_slow(window, held):
        return (_label(subject, row.nodes[0]) if len(row.nodes) == 1 else None), None
    names = [n for i in row.nodes for n in graph.nodes[i].output if n]
    model = standalone(window, graph)
    model.graph.output.extend(
        type(model.graph.output[0])(name=n)
        for n in names
        if n not in subject.cut and n not in {o.name for o in model.graph.output}
    )
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(
                None, {n: np.array(held.feeds[n]) for n in window.inputs}
            )
    except Exception:  # noqa: BLE001 - the evaluator's gaps are no finding about this file
        return (_label(subject, row.nodes[0]) if len(row.nodes) == 1 else None), None
    values = dict(zip((o.name for o in model.graph.output), results, strict=True))
    plain = {n.removesuffix(OWN): np.asarray(v) for n, v in values.items() if not isinstance(v, list)}
    name = row.planned.onnx_name
    reference = held.reference[row.planned.tap.name]
    right = (
        name in plain
        and plain[name].shape == reference.shape
        and _agrees(held, row, plain[name], subject.policy)
    )
    if len(row.nodes) == 1:
        return _label(subject, row.nodes[0]), right
    if not right:
        return None, False
    worst, blamed = 1.0, None
    for index in row.nodes:
        strain = _node_strain(subject, index, {**held.feeds, **plain})
        if strain > worst:
            worst, blamed = strain, _label(subject, index)
    return blamed, True


def _agrees(held: Isolated, row: Row, value: np.ndarray, policy: Policy) -> bool:
    tap = row.planned.tap
    truth, reference = held.truth[tap.name], held.reference[tap.name]
    if tap.name in held.exact or reference.dtype.kind in "biu":
        measured = measure_exact(tap.name, reference, value)
    else:
        measured = measure(tap.name, truth=truth, reference=reference, actual=value)
    return judge(measured, policy).status is not Status.FAIL


def _node_strain(subject: Subject, index: int, values: dict[str, np.ndarray]) -> float:
    """How far one node on onnxruntime is from the reference evaluator; 1 is the limit."""
    graph, node = subject.actual, subject.actual.nodes[index]
    reads = [n for n in graph.reads[index] if n not in graph.initializers]
    outputs = [n for n in node.output if n in values]
    if not outputs or any(n not in values for n in reads):
        return 0.0
    window = cut_window(
        graph,
        (index,),
        keep=outputs,
        pending=(),
        forced=frozenset(),
        dtypes={n: values[n].dtype for n in reads},
    )
    try:
        found = WindowRun(window, graph, subject.deployment).run(values)
    except Exception:  # noqa: BLE001 - refusing the node is the strongest disagreement
        return float("inf")
    strains = []
    for name, value in found.items():
        truth = values[name]
        if truth.dtype.kind != "f":
            strains.append(0.0 if np.array_equal(truth, value) else float("inf"))
            continue
        m = measure(name, truth=truth.astype(np.float64), reference=truth, actual=value)
        verdict = judge(m, subject.policy)
        bad = verdict.status is Status.FAIL
        strains.append(verdict.strain or (float("inf") if bad else 0.0))
    return max(strains, default=0.0)


def entering_finding(subject: Subject, held: Isolated, culprits: Sequence[str]) -> Finding | None:
    """Is what enters the layer wrong already? Judged in a free run against free float64.

    Args:
        culprits: module paths known to be wrong.
    """
    graph = subject.actual
    inside = {row.planned.onnx_name for row in held.rows}
    by_name = {t.onnx_name: t for t in subject.planned}
    entering = [by_name[n] for n in held.feeds if n in by_name and n not in inside]
    if not entering:
        return None
    entering.sort(key=lambda t: subject.planned.index(t))
    names = [t.tap.name for t in entering]
    plain, wide = run_reference(subject, names, names)
    try:
        values = _free(subject, entering)
    except Exception as error:  # noqa: BLE001 - reported as the finding
        return _input(entering[0], f"the graph stops before this layer: {first_line(error)}", culprits)
    for tap in entering:
        reference, truth = to_array(plain[tap.tap.name]), to_array(wide[tap.tap.name])
        actual = values[tap.onnx_name]
        if reference.dtype.kind in "biu":
            measured = measure_exact(tap.tap.name, reference, actual)
        else:
            measured = measure(tap.tap.name, truth=truth, reference=reference, actual=actual)
        verdict = judge(measured, subject.policy, empty_declared=bool(subject.case.expect_empty))
        if verdict.status is Status.FAIL:
            return _input(tap, verdict.reason, culprits)
    return None


def _free(subject: Subject, taps: Sequence[PlannedTap]) -> dict[str, np.ndarray]:
    graph = subject.actual
    names = [t.onnx_name for t in taps]
    nodes = Partition(graph).take(names)
    inputs = {n: np.asarray(subject.case.inputs[n], order="C") for n in graph.inputs}
    window = cut_window(
        graph,
        nodes,
        keep=names,
        pending=(),
        forced=frozenset(),
        dtypes={n: v.dtype for n, v in inputs.items()},
    )
    way = Deployment(provider=subject.deployment.provider, threads=subject.deployment.threads)
    return WindowRun(window, graph, way).run(inputs)


def _input(tap: PlannedTap, reason: str, culprits: Sequence[str]) -> Finding:
    where = ", ".join(f"'{name}'" for name in culprits[:3]) or f"'{tap.tap.module}'"
    text = (
        f"the layer itself is right, its input '{tap.tap.name}' is wrong already: look upstream at"
        f" {where}; {reason}"
    )
    return Finding(
        kind=INPUT,
        layer=tap.tap.module,
        op=tap.tap.op,
        tap=tap.tap.name,
        source=tap.tap.source,
        node="",
        thing=tap.tap.name,
        expected="",
        actual="",
        text=text,
        shown=True,
    )


def added_up(tap: PlannedTap, reason: str) -> Finding:
    """No layer fails by itself, yet the free run is too far off by here."""
    return Finding(
        kind=ADDED_UP,
        layer=tap.tap.module,
        op=tap.tap.op,
        tap=tap.tap.name,
        source=tap.tap.source,
        node="",
        thing="",
        expected="",
        actual="",
        text=f"no op of this layer fails by itself; errors have added up by here: {reason}",
        shown=True,
    )


def _region(subject: Subject, row: Row) -> str:
    if len(row.nodes) == 1:
        return _label(subject, row.nodes[0])
    if not row.nodes:
        return f"the constant '{row.planned.onnx_name}'"
    return f"the fused region {' + '.join(row.ops[-6:])}"


def _label(subject: Subject, index: int) -> str:
    node = subject.actual.nodes[index]
    first = next((n for n in node.output if n), "")
    return f"{node.op_type} '{node.name}'" if node.name else f"{node.op_type} of '{first}'"


def _finding(
    row: Row,
    kind: str,
    node: str,
    text: str,
    thing: str = "",
    expected: str = "",
    actual: str = "",
) -> Finding:
    tap = row.planned.tap
    return Finding(
        kind=kind,
        layer=tap.module,
        op=tap.op,
        tap=tap.name,
        source=tap.source,
        node=node,
        thing=thing,
        expected=expected,
        actual=actual,
        text=text,
        shown=True,
    )
