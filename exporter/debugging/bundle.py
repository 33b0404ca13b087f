"""Write a layer as a folder that stands alone: model, inputs, truth, script, finding."""

from __future__ import annotations

import pprint
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from safetensors.numpy import save_file

from exporter.core.files import replacing, write_text
from exporter.debugging.diagnose import Diagnosis
from exporter.debugging.finding import Finding
from exporter.debugging.isolate import Isolated
from exporter.debugging.pair import Pair
from exporter.debugging.readme import render_readme
from exporter.debugging.torch_layer import save_layer
from exporter.execution import repro
from exporter.execution.deployment import PROVIDERS
from exporter.graph.index import GraphIndex
from exporter.graph.subgraph import OWN, standalone
from exporter.judge.layer_results import JudgedTap
from exporter.parity.compare import measure
from exporter.parity.tolerance import limit, natural_scale

MOST_BYTES = 48 << 20
"""What a bundle of one encoder layer may weigh; outputs that pass are left out beyond it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A folder that was written.

    Attributes:
        bytes: of all files together. outputs: how many taps it compares.
        left_out: taps that pass and were left out for size.
        no_torch: why there is no ``torch_layer.pt2``; "" when there is one.
    """

    folder: Path
    bytes: int
    outputs: int
    left_out: int
    no_torch: str


def write_bundle(pair: Pair, diagnosis: Diagnosis, parent: Path) -> Bundle:
    """Write the bundle of one diagnosis to ``<parent>/<layer>``; an older one is overwritten."""
    folder = parent / folder_name(diagnosis.layer.name)
    folder.mkdir(parents=True, exist_ok=True)
    isolated = diagnosis.held
    whole = any(finding.whole for finding in diagnosis.findings) and not isolated.failing
    no_torch = save_layer(isolated.program, isolated.entering, folder / "torch_layer.pt2")
    if no_torch:
        (folder / "torch_layer.pt2").unlink(missing_ok=True)
    rows = _rows(isolated, whole)
    torch_bytes = 0 if no_torch else (folder / "torch_layer.pt2").stat().st_size
    kept = _within(pair, isolated, rows, torch_bytes, whole)
    model, feeds = _model(pair, isolated, kept, whole)
    with replacing(folder / "layer.onnx") as part:
        part.write_bytes(model.SerializeToString())
    with replacing(folder / "inputs.safetensors") as part:
        save_file({n: _plain(isolated.feeds[n]) for n in feeds}, part)
    expected = {_key(r, whole): _plain(_truth(isolated, r, whole)) for r in kept}
    with replacing(folder / "expected.safetensors") as part:
        save_file(expected, part)
    plan = {
        "outputs": {_key(r, whole): _plan(pair, isolated, r, whole) for r in kept},
        "nodes": _signatures(pair, diagnosis.findings, model),
        "level": _level(pair, diagnosis, whole),
        "provider": PROVIDERS[pair.deployment.provider],
        "threads": pair.deployment.threads,
    }
    write_text(folder / "repro.py", script(plan))
    left_out = len(rows) - len(kept)
    write_text(folder / "README.md", render_readme(pair, diagnosis, no_torch, left_out))
    size = sum(path.stat().st_size for path in folder.iterdir())
    return Bundle(
        folder=folder, bytes=size, outputs=len(kept), left_out=left_out, no_torch=no_torch
    )


def folder_name(layer: str) -> str:
    """A layer's name as the name of a folder."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", layer).strip("._")[:100] or "root"


def script(plan: dict[str, Any]) -> str:
    """``repro.py`` with its limits written into it."""
    source = Path(repro.__file__).read_text()
    head = "PLAN: dict[str, Any] = "
    written = pprint.pformat(plan, width=96, sort_dicts=False)
    return source.replace(f"{head}{{}}", f"{head}{written}", 1)


def _rows(isolated: Isolated, whole: bool) -> list[JudgedTap]:
    """What to compare: failing taps first, then the ends of the layer, then the rest."""
    if whole:
        return list(isolated.last_rows)
    live = [r for r in isolated.rows if r.nodes or (r.planned.constant and r.fails_by_itself)]
    rank = {True: 0, False: 1}
    return sorted(
        live, key=lambda r: (rank[r.fails_by_itself], r.planned.tap.name not in isolated.ends)
    )


def _within(
    pair: Pair, isolated: Isolated, rows: Sequence[JudgedTap], used: int, whole: bool
) -> list[JudgedTap]:
    """As many rows as fit; those that fail, and the first, always stay."""
    kept: list[JudgedTap] = []
    seen: set[str] = set()
    total = used
    for row in rows:
        names = {n for i in row.nodes for n in pair.actual.reads[i]} - seen
        size = _truth(isolated, row, whole).nbytes
        size += sum(isolated.feeds[n].nbytes for n in names if n in isolated.feeds)
        size += sum(pair.actual.array(n).nbytes for n in names if n in pair.actual.initializers)
        if row.fails_by_itself or not kept or total + size <= MOST_BYTES:
            kept.append(row)
            seen |= names
            total += size
    order = {row.planned.tap.name: i for i, row in enumerate(isolated.rows)}
    return sorted(kept, key=lambda row: order[row.planned.tap.name])


def _model(
    pair: Pair, isolated: Isolated, rows: Sequence[JudgedTap], whole: bool
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    graph = pair.actual
    inside = frozenset(row.planned.onnx_name for row in isolated.rows) if whole else frozenset()
    window = isolated.window(graph, [r for r in rows if r.nodes], pair.cut - inside)
    model = standalone(window, graph)
    model.graph.name = "layer"
    for row in rows:
        if not row.nodes:
            name = row.planned.onnx_name
            model.graph.initializer.append(numpy_helper.from_array(graph.array(name), name))
            model.graph.node.append(helper.make_node("Identity", [name], [name + OWN]))
            model.graph.output.add(name=name + OWN)
    model.producer_name = "export-verify"
    return model, window.inputs


def _key(row: JudgedTap, whole: bool) -> str:
    """Name of the output of ``layer.onnx`` that holds a tap."""
    return row.planned.onnx_name if whole else row.planned.onnx_name + OWN


def _truth(isolated: Isolated, row: JudgedTap, whole: bool) -> np.ndarray:
    name = row.planned.tap.name
    if row.planned.constant:
        return isolated.reference.get(name, np.zeros(0))
    if whole:
        return isolated.whole[name]
    return isolated.reference[name] if _is_equal(isolated, row, whole) else isolated.truth[name]


def _is_equal(isolated: Isolated, row: JudgedTap, whole: bool) -> bool:
    name = row.planned.tap.name
    return isolated.reference[name].dtype.kind in "biu" or (name in isolated.exact and not whole)


def _plan(pair: Pair, isolated: Isolated, row: JudgedTap, whole: bool) -> dict[str, Any]:
    tap = row.planned.tap
    reference = isolated.reference[tap.name]
    plan: dict[str, Any] = {"dtype": reference.dtype.name, "max": None, "rms": None, "op": tap.op}
    if _is_equal(isolated, row, whole):
        return plan
    # The limit rests on PyTorch's own cost, never on what the file under test gives.
    measured = measure(
        tap.name,
        truth=_truth(isolated, row, whole),
        reference=reference,
        actual=reference,
        natural_scale=natural_scale(tap.op),
    )
    allowed = limit(measured, pair.policy, layer=tap.module)
    return {**plan, "max": allowed.max_abs, "rms": allowed.rms}


def _plain(array: np.ndarray) -> np.ndarray:
    """Contiguous and of its own memory, as safetensors wants it."""
    return np.array(array, order="C", copy=True)


def _level(pair: Pair, diagnosis: Diagnosis, whole: bool) -> str:
    """The level at which the difference shows: the judged one, unless only another shows it."""
    judged = pair.deployment.level
    if not whole:
        return judged
    wrong = [v.deployment.level for v in diagnosis.matrix if v.deployment and not v.together.agrees]
    return judged if judged in wrong or not wrong else wrong[0]


def _signatures(
    pair: Pair, findings: Sequence[Finding], model: onnx.ModelProto
) -> dict[str, dict[str, str]]:
    """What the nodes of structural findings were when they were exported, by their value."""
    inside = {name.removesuffix(OWN) for node in model.graph.node for name in node.output}
    signatures: dict[str, dict[str, str]] = {}
    for finding in findings:
        if finding.located is None:
            continue
        for value in finding.located.values:
            here = value in inside
            gone = value in pair.expected.producer and value not in pair.actual.producer
            if here or gone:
                signatures[value] = _signature(pair.expected, value)
    return signatures


def _signature(graph: GraphIndex, value: str) -> dict[str, str]:
    if value not in graph.producer:
        return {}
    node = graph.nodes[graph.producer[value]]
    holder = onnx.GraphProto()
    for name in dict.fromkeys(node.input):
        if name in graph.initializers:
            holder.initializer.append(numpy_helper.from_array(graph.array(name), name))
    versions = {entry.domain: entry.version for entry in graph.model.opset_import}
    return repro.signature(node, holder, versions.get("", versions.get("ai.onnx", 0)))
