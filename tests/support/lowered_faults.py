"""Faults in files that were lowered, each in one layer of the conformer of ``lowered``.

A fault changes a model in place; ``weight`` is the name that the float32 file has for the weight
of ``blocks.0.inner``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx

from tests.support import lowered

INNER = "model.blocks.0.inner"
NORM = "model.blocks.0.norm_forward"
OUT = "model.blocks.1.attention.out"
RECURRENT = "model.recurrent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault in files of one form.

    Attributes:
        form: name of the file that it is planted in. plant: ``(model, weight)``.
        layers: that may be blamed, and no other.
    """

    form: str
    plant: Callable[[onnx.ModelProto, str], None]
    layers: frozenset[str] = frozenset({INNER})

    @property
    def name(self) -> str:
        """In words."""
        return self.plant.__name__.replace("_", " ")


def half_again(model: onnx.ModelProto, weight: str) -> None:
    """A scale that is half as large again."""
    name = f"{weight}_scale"
    lowered.store(model, name, lowered.values(model, name) * np.float32(1.5))


def one_beside(model: onnx.ModelProto, weight: str) -> None:
    """A zero point beside its own."""
    name = f"{weight}_zero_point"
    held = lowered.values(model, name)
    lowered.store(model, name, (held + 1).astype(held.dtype))


def other_layers(model: onnx.ModelProto, weight: str) -> None:
    """The integers of the other block's layer."""
    name, other = f"{weight}_quantized", f"{_other(model)}_quantized"
    lowered.store(model, name, lowered.values(model, other))


def next_channels_scale(model: onnx.ModelProto, weight: str) -> None:
    """Each channel has the scale of the one before it."""
    name = f"{weight}_scale"
    lowered.store(model, name, np.roll(lowered.values(model, name), 1))


def along_the_other_axis(model: onnx.ModelProto, weight: str) -> None:
    """The channels' scales of a square weight lie along its rows."""
    del weight
    shapes = {t.name: tuple(t.dims) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and shapes.get(node.input[0]) == (64, 64):
            axis = next(item for item in node.attribute if item.name == "axis")
            axis.i = 1 - axis.i
            return
    raise LookupError("no square weight has scales by channel")


def clipped_in_front(model: onnx.ModelProto, weight: str) -> None:
    """The scale of what the layer reads is half as large: it is cut off."""
    del weight
    name = "layer_norm_2_scale"
    lowered.store(model, name, lowered.values(model, name) * np.float32(0.5))


def a_twentieth_more(model: onnx.ModelProto, weight: str) -> None:
    """The scale of the LSTM's recurrent weight."""
    del weight
    node = next(n for n in model.graph.node if n.op_type == "DynamicQuantizeLSTM")
    name = node.input[10]
    lowered.store(model, name, lowered.values(model, name) * np.float32(1.05))


def one_block(model: onnx.ModelProto, weight: str) -> None:
    """One block's scale is three times as large."""
    name = _in_blocks(model, weight).input[2]
    held = lowered.values(model, name).copy()
    held.reshape(-1)[7] *= 3
    lowered.store(model, name, held)


def other_layers_blocks(model: onnx.ModelProto, weight: str) -> None:
    """The blocks of the other block's layer."""
    nodes = [n for n in model.graph.node if n.op_type == "MatMulNBits"]
    mine = _in_blocks(model, weight)
    shape = lowered.values(model, mine.input[1]).shape
    for node in nodes:
        other = lowered.values(model, node.input[1])
        if node.input[1] != mine.input[1] and other.shape == shape:
            lowered.store(model, mine.input[1], other)
            return
    raise LookupError("no other layer has as many blocks")


def one_weight(model: onnx.ModelProto, weight: str) -> None:
    """One element."""
    held = lowered.values(model, weight).copy()
    held[3, 5] += held.dtype.type(0.05)
    lowered.store(model, weight, held)


def two_rows_exchanged(model: onnx.ModelProto, weight: str) -> None:
    """Two rows have each other's place."""
    held = lowered.values(model, weight).copy()
    held[[3, 4]] = held[[4, 3]]
    lowered.store(model, weight, held)


def _other(model: onnx.ModelProto) -> str:
    """The quantised weight of as many elements in the other block."""
    names = [t.name for t in model.graph.initializer if t.name.endswith("_quantized")]
    shapes = {name: lowered.values(model, name).shape for name in names}
    same = [name for name in names if shapes[name] == (64, 128)]
    return same[1].removesuffix("_quantized")


def _in_blocks(model: onnx.ModelProto, weight: str) -> onnx.NodeProto:
    nodes = [n for n in model.graph.node if n.op_type == "MatMulNBits"]
    return next(n for n in nodes if n.input[1].startswith(weight))


FAULTS = (
    Fault(form="dynamic", plant=half_again),
    Fault(form="dynamic", plant=one_beside),
    Fault(form="dynamic", plant=other_layers),
    Fault(form="dynamic", plant=a_twentieth_more, layers=frozenset({RECURRENT})),
    Fault(form="channels", plant=half_again),
    Fault(form="channels", plant=one_beside),
    Fault(form="channels", plant=next_channels_scale),
    Fault(form="channels", plant=other_layers),
    Fault(form="qdq", plant=half_again),
    Fault(form="qdq", plant=one_beside),
    Fault(form="qdq", plant=other_layers),
    Fault(form="qdq", plant=clipped_in_front, layers=frozenset({INNER, NORM})),
    Fault(form="qdq_channels", plant=next_channels_scale),
    Fault(form="qdq_channels", plant=along_the_other_axis, layers=frozenset({OUT})),
    Fault(form="qdq_channels", plant=other_layers),
    Fault(form="operators", plant=half_again),
    Fault(form="operators", plant=one_beside),
    Fault(form="operators", plant=other_layers),
    Fault(form="eight", plant=one_block),
    Fault(form="eight", plant=other_layers_blocks),
    Fault(form="four", plant=one_block),
    Fault(form="four", plant=other_layers_blocks),
    Fault(form="float16", plant=one_weight),
    Fault(form="float16", plant=two_rows_exchanged),
    Fault(form="converter", plant=one_weight),
)
