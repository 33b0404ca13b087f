"""What is known to go wrong with nodes of some kinds: a catalogue, each with what was measured.

An entry fires on the graph alone. It is a hint of where to look, no verdict: whether this file
suffers from it, ``run``, ``verify`` or ``compare`` measure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from exporter.graph.anatomy import Placed, walk

RATES = frozenset({8_000, 16_000, 22_050, 24_000, 44_100, 48_000})
RANDOM = frozenset(
    "RandomNormal RandomNormalLike RandomUniform RandomUniformLike Bernoulli Multinomial".split()
)
"""Operators that draw numbers."""
_RATE = re.compile(r"^(sr|fs|sampl\w*rate\w*|rate)(_hz)?(:\d+)?$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trap:
    """One entry: ``finds`` gives the names of the nodes that it is about."""

    key: str
    says: str
    finds: Callable[[onnx.ModelProto], Iterator[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sprung:
    """An entry that fires, and at which nodes."""

    key: str
    says: str
    nodes: tuple[str, ...]


def traps_of(model: onnx.ModelProto) -> tuple[Sprung, ...]:
    """Entries of the catalogue that fire on a model."""
    sprung = ((trap, tuple(trap.finds(model))) for trap in TRAPS)
    return tuple(
        Sprung(key=trap.key, says=trap.says, nodes=nodes) for trap, nodes in sprung if nodes
    )


def _name(item: Placed) -> str:
    node = item.node
    return node.name or next((name for name in node.output if name), node.op_type)


def _number(item: Placed, place: int) -> int | None:
    """A constant input that is one whole number."""
    if len(item.node.input) <= place:
        return None
    tensor = item.constants.get(item.node.input[place])
    if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
        return None
    value = np.asarray(numpy_helper.to_array(tensor)).reshape(-1)
    return int(value[0]) if value.size == 1 else None


def _transforms(op: str) -> Callable[[onnx.ModelProto], Iterator[str]]:
    def finds(model: onnx.ModelProto) -> Iterator[str]:
        for item in walk(model.graph):
            if item.node.op_type != op:
                continue
            points = _points(item)
            if points is not None and points & (points - 1):
                yield f"{_name(item)} ({points} points)"

    return finds


def _points(item: Placed) -> int | None:
    """Points of a transform; None where they come out of the graph."""
    if item.node.op_type == "DFT":
        return _number(item, 1)
    length = _number(item, 3)
    if length is None and len(item.node.input) > 2:
        window = item.constants.get(item.node.input[2])
        length = int(window.dims[0]) if window is not None and len(window.dims) == 1 else None
    return length


def _nodes(*ops: str) -> Callable[[onnx.ModelProto], Iterator[str]]:
    def finds(model: onnx.ModelProto) -> Iterator[str]:
        return (_name(item) for item in walk(model.graph) if item.node.op_type in ops)

    return finds


def _branches_on_rate(model: onnx.ModelProto) -> Iterator[str]:
    """If nodes whose condition compares an input that is called a rate, or holds one."""
    for item in walk(model.graph):
        if item.node.op_type != "If":
            continue
        behind = _behind(model.graph, item.node.input[0])
        rates = [
            rate
            for node in behind
            if node.op_type in ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual")
            for name in node.input
            if _is_rate(item, name)
            for rate in [name]
        ]
        if rates:
            yield _name(item)


def _is_rate(item: Placed, name: str) -> bool:
    if _RATE.match(name.split("/")[-1]):
        return True
    tensor = item.constants.get(name)
    if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
        return False
    value = np.asarray(numpy_helper.to_array(tensor)).reshape(-1)
    return value.size == 1 and value.dtype.kind in "iuf" and float(value[0]) in RATES


def _behind(graph: onnx.GraphProto, name: str) -> list[onnx.NodeProto]:
    """The nodes of the main graph that a condition hangs on, a few steps back."""
    makers = {out: node for node in graph.node for out in node.output}
    nodes: list[onnx.NodeProto] = []
    waiting = [name]
    while waiting and len(nodes) < 16:
        node = makers.get(waiting.pop())
        if node is not None and node not in nodes:
            nodes.append(node)
            waiting += node.input
    return nodes


def _dropout_in_training(model: onnx.ModelProto) -> Iterator[str]:
    for item in walk(model.graph):
        node = item.node
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
            tensor = item.constants.get(node.input[2])
            if (
                tensor is None
                or tensor.data_location == onnx.TensorProto.EXTERNAL
                or numpy_helper.to_array(tensor).any()
            ):
                yield _name(item)


TRAPS: tuple[Trap, ...] = (
    Trap(
        key="stft_points",
        says="STFT at a length that is no power of two loses digits in onnxruntime 1.31.1: 1.3e-4"
        " where float32 costs 1.6e-6, at 400 points (docs/findings.md)",
        finds=_transforms("STFT"),
    ),
    Trap(
        key="dft_points",
        says="DFT at a length that is no power of two loses digits in onnxruntime 1.31.1: 3e-4"
        " where float32 costs 8.6e-6 (docs/zoo.md, hf_fnet)",
        finds=_transforms("DFT"),
    ),
    Trap(
        key="hamming_window",
        says="HammingWindow has ONNX's coefficients, 25/46 and 21/46; torch's are 0.54 and 0.46, so"
        " that what torch's exporter writes for torch.hamming_window is off by up to 0.007",
        finds=_nodes("HammingWindow"),
    ),
    Trap(
        key="layer_norm",
        says="LayerNormalization loses digits on the CPU in onnxruntime before 1.30 where the mean"
        " of a row is large beside its spread: 3.8e-3 at a hundred times (docs/findings.md)",
        finds=_nodes("LayerNormalization"),
    ),
    Trap(
        key="branch_on_rate",
        says="an If on a sample rate holds two models: a case runs one of them, and the other is"
        " not looked at; give a case for each rate",
        finds=_branches_on_rate,
    ),
    Trap(
        key="draws",
        says="random numbers are drawn inside: no two runs agree, and no runtime draws as another",
        finds=_nodes(*RANDOM),
    ),
    Trap(
        key="dropout_trains",
        says="Dropout in training mode: a leftover of training, it drops values in every run",
        finds=_dropout_in_training,
    ),
)
"""The catalogue; tests/file_alone/test_inspect.py has a file for each, and a healthy twin."""
