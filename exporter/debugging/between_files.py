"""One value in which two files part, as a folder that stands alone: both sub-graphs, and why.

a.onnx   the truth's nodes from the nearest values that agree up to this one   inputs_a.npz
b.onnx   the judged file's                                                     inputs_b.npz
repro.py runs both and exits 1 while they differ; README.md says what was found, in words
"""

from __future__ import annotations

import pprint
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exporter.core.files import replacing, write_text
from exporter.core.tensors import Arrays
from exporter.debugging.node_in_words import node_in_words
from exporter.execution import repro_files
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_windows import OnnxWindows
from exporter.graph.index import GraphIndex
from exporter.graph.subgraph import cut_window, standalone
from exporter.report.two_files import TwoFiles, ValueRow

_ROUNDING = 1e-5
_PLAIN = Deployment(level="disable", threads=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The nodes of one file that compute a value, from the nearest joined values on.

    Attributes:
        name: of the value. words: each node, in the order of the file.
        inputs: what the piece is fed: the file's own values on the case.
        value: what the file itself has there.
    """

    name: str
    nodes: tuple[int, ...]
    words: tuple[str, ...]
    inputs: Mapping[str, np.ndarray]
    value: np.ndarray
    model: bytes


def piece_of(graph: GraphIndex, name: str, stops: Collection[str], inputs: Arrays) -> Piece:
    """Cut the piece that computes ``name``; it begins at ``stops``, or at the file's inputs."""
    nodes: set[int] = set()
    begins: dict[str, None] = {}
    stack = [name]
    while stack:
        at = graph.producer[stack.pop()]
        if at in nodes:
            continue
        nodes.add(at)
        for read in graph.reads[at]:
            if read in graph.initializers:
                continue
            if read in stops or read not in graph.producer:
                begins[read] = None
            else:
                stack.append(read)
    order = tuple(sorted(nodes))
    inside = [out for at in order for out in graph.nodes[at].output if out]
    wanted = [*(read for read in begins if read in graph.producer), *inside]
    walk = OnnxWindows(graph, inputs, _PLAIN, taps=frozenset(wanted))
    values = {**inputs, **walk.advance(wanted, last=True)}
    window = cut_window(
        graph, order, keep=[name], dtypes={read: values[read].dtype for read in begins}
    )
    return Piece(
        name=name,
        nodes=order,
        words=tuple(
            node_in_words(graph, next(filter(None, graph.nodes[at].output)), values) for at in order
        ),
        inputs={read: values[read] for read in window.inputs},
        value=values[name],
        model=standalone(window, graph).SerializeToString(),
    )


def write_between(
    folder: Path, report: TwoFiles, row: ValueRow, pieces: tuple[Piece, Piece], case: Arrays
) -> Path:
    """Write the folder of one value; an older one is overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    plan: dict[str, Any] = {}
    for side, piece in zip("ab", pieces, strict=True):
        with replacing(folder / f"{side}.onnx") as part:
            part.write_bytes(piece.model)
        # By position: a value may be called like a parameter of savez.
        with replacing(folder / f"inputs_{side}.npz") as part, part.open("wb") as stream:
            np.savez(stream, *piece.inputs.values())
        plan[side] = {"output": piece.name, "inputs": list(piece.inputs)}
    with replacing(folder / "case.npz") as part, part.open("wb") as stream:
        np.savez(stream, *case.values())
    plan |= {"case": list(case), "limit": _limit(row, *pieces)}
    source = Path(repro_files.__file__).read_text(encoding="utf-8")
    head = "PLAN: dict[str, Any] = "
    written = pprint.pformat(plan, width=96, sort_dicts=False)
    write_text(folder / "repro.py", source.replace(f"{head}{{}}", f"{head}{written}", 1))
    write_text(folder / "README.md", _readme(report, row, pieces))
    return folder


def _limit(row: ValueRow, a: Piece, b: Piece) -> float:
    """What the difference was held against: the error over its strain; else rounding."""
    left, right = a.value.astype(np.float64), b.value.astype(np.float64)
    strain = max(row.local_strain or 0.0, row.propagated_strain or 0.0)
    if left.shape == right.shape and strain > 1.0 and np.isfinite(left - right).all():
        return float(np.abs(left - right).max(initial=0.0)) / strain
    return _ROUNDING * float(np.abs(left).max(initial=0.0))


def lines_of(report: TwoFiles, row: ValueRow, pieces: tuple[Piece, Piece]) -> list[str]:
    """What was found of one value, for a person."""
    layer = f" (layer {row.layer})" if row.layer else ""
    first, second = pieces
    said = [f"'{row.actual}'{layer} of B stands for '{row.expected}' of A: {row.reason}"]
    said += [f"  differs by {_apart(first.value, second.value)}"]
    changed = [item.words for item in report.altered if item.value == row.actual]
    said += [f"  {text}" for text in changed] or ["  weights and attributes: none seen to differ"]
    for label, piece in (("A", first), ("B", second)):
        said.append(f"  {label}: {len(piece.nodes)} node(s)")
        said += [f"    {text}" for text in piece.words]
    return said


def _apart(left: np.ndarray, right: np.ndarray) -> str:
    if left.shape != right.shape:
        return f"layout: {list(left.shape)} in A and {list(right.shape)} in B"
    with np.errstate(invalid="ignore"):
        gap = np.abs(left.astype(np.float64) - right.astype(np.float64))
    count = int((left != right).sum())
    return f"{gap.max(initial=0.0):.4g} at most, in {count} of {left.size} elements"


def _readme(report: TwoFiles, row: ValueRow, pieces: Sequence[Piece]) -> str:
    text = "\n".join(lines_of(report, row, (pieces[0], pieces[1])))
    return (
        f"# '{row.actual}'\n\n"
        f"A: {report.truth}\nB: {report.other}\n\n"
        f"{report.headline}\n\n"
        f"```text\n{text}\n```\n\n"
        "`a.onnx` and `b.onnx` are the nodes that compute this value in each file, from the nearest"
        " values that agree on. Each is fed its own file's values; `python repro.py` runs both and"
        " exits 1 while they differ. `case.npz` holds the inputs of the whole files.\n"
    )
