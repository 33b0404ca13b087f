"""What lowering a layer is worth: seconds by onnxruntime's profile of this machine, or bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from exporter.execution.node_times import NodeTimes
from exporter.lowering.layers import Layer

_FAMILIES: Mapping[str, frozenset[str]] = {
    "products": frozenset(
        "MatMul Gemm FusedMatMul FusedGemm MatMulInteger MatMulIntegerToFloat MatMulNBits"
        " DynamicQuantizeMatMul QLinearMatMul QGemm MatMulBnb4".split()
    ),
    "convolutions": frozenset(
        "Conv FusedConv NhwcFusedConv ConvInteger QLinearConv ConvTranspose".split()
    ),
    "recurrent": frozenset("LSTM DynamicQuantizeLSTM GRU RNN".split()),
}
BITS: Mapping[str, int] = {"int8": 8, "int8_static": 8, "int4": 4, "mixed": 4, "float16": 16}


def family_of(kind: str) -> str:
    """Operators that do the same in several precisions; "" for all that only goes along."""
    return next((name for name, kinds in _FAMILIES.items() if kind in kinds), "")


def float32_seconds(layers: Sequence[Layer], plain: NodeTimes) -> np.ndarray:
    """[L]: what each layer takes in float32.

    onnxruntime gives nodes that it fuses other names: what a family takes beyond the nodes that
    are known is shared out by the layers' weights.
    """
    known = np.array([sum(plain.by_node.get(node, 0.0) for node in la.nodes) for la in layers])
    families = [next((f for kind in la.kinds if (f := family_of(kind))), "") for la in layers]
    for family in set(families):
        here = [n for n, name in enumerate(families) if name == family and not known[n]]
        spent = sum(known[n] for n, name in enumerate(families) if name == family)
        left = max(0.0, _of_family(plain, family) - spent) if family else 0.0
        weights = sum(layers[n].weights for n in here)
        for n in here:
            known[n] = left * layers[n].weights / weights if weights else 0.0
    return known


def seconds_gained(layers: Sequence[Layer], plain: NodeTimes, lowered: NodeTimes) -> np.ndarray:
    """[L]: seconds that a run is shorter when a layer is lowered; less than 0 where it is longer.

    Args:
        plain: of the float32 file. lowered: of the file with every layer lowered.

    A layer takes the share of its family's time that it takes in float32; what goes along with it
    (casts, scales, ranges) is shared out evenly.
    """
    before = float32_seconds(layers, plain)
    families = [next((f for kind in la.kinds if (f := family_of(kind))), "") for la in layers]
    after = np.zeros(len(layers))
    for family in set(families):
        here = np.array([name == family for name in families])
        spent = float(before[here].sum())
        rest = max(0.0, _of_family(plain, family) - spent)
        now = max(0.0, _of_family(lowered, family) - rest)
        after[here] = before[here] * (now / spent) if spent else 0.0
    beside = _of_family(lowered, "") - _of_family(plain, "")
    return before - after - max(0.0, beside) / max(1, len(layers))


def _of_family(times: NodeTimes, family: str) -> float:
    return sum(s for kind, s in times.by_kind.items() if family_of(kind) == family)


def bytes_saved(layers: Sequence[Layer], to: str) -> np.ndarray:
    """[L]: bytes that the file is smaller when a layer is lowered."""
    return np.array([layer.weights * (4.0 - BITS[to] / 8.0) for layer in layers])
