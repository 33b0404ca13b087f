"""The numbers that stored integers stand for, and how far apart two neighbours of them are.

value = (code - zero) * step
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from exporter.graph.grids import INTEGER_BITS
from exporter.graph.index import GraphIndex

_MOST_FLOAT16 = (65504.0, 1e4)
"""Where converters cut what float16 has no room for."""
_LEAST_FLOAT16 = 2.5e-7
"""Converters write what is smaller as the smallest number that they keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A constant as a file holds it in a lower precision.

    Attributes:
        name: of the initialiser. values: float64, what it stands for.
        steps: distance of neighbours there, of the shape of ``values`` or broadcast to it.
        ends: where a number at the end of the format stands: 1.0 above, -1.0 below, 0.0 elsewhere;
            what was there may have been further out.
        bits: of a number.
    """

    name: str
    values: np.ndarray
    steps: np.ndarray
    ends: np.ndarray
    bits: int


def stored_integers(
    name: str,
    codes: np.ndarray,
    steps: np.ndarray,
    zero: np.ndarray,
    kind: int,
) -> Stored:
    """A constant of integers; ``steps`` and ``zero`` broadcast to it. ``kind``: onnx's type."""
    wide = codes.astype(np.float64)
    known = INTEGER_BITS.get(kind)
    low, high = known.ends if known else (-(2**31), 2**31 - 1)
    # Symmetric quantisers leave the lowest number unused.
    low_used = max(low, -high) if float(np.max(np.abs(zero), initial=0.0)) == 0.0 else low
    ends = np.where(wide >= high, 1.0, np.where(wide <= low_used, -1.0, 0.0))
    return Stored(
        name=name,
        values=(wide - zero) * steps,
        steps=np.broadcast_to(np.abs(np.asarray(steps, np.float64)), codes.shape),
        ends=ends if known else np.zeros(codes.shape),
        bits=known.bits if known else 32,
    )


def stored_float(name: str, array: np.ndarray) -> Stored:
    """A constant of float16 or bfloat16."""
    values = array.astype(np.float64)
    exponents = np.floor(np.log2(np.maximum(np.abs(values), 2.0**-126)))
    digits, least = (10, _LEAST_FLOAT16) if array.dtype == np.float16 else (7, 0.0)
    steps = np.maximum(2.0 ** (exponents - digits), least)
    cut = np.isin(np.abs(values), _MOST_FLOAT16) | np.isinf(values)
    ends = np.where(cut, np.sign(values), 0.0) if array.dtype == np.float16 else values * 0.0
    return Stored(name=name, values=values, steps=steps, ends=ends, bits=16)


def along(array: np.ndarray, shape: tuple[int, ...], axis: int, block: int = 0) -> np.ndarray:
    """Scales or zero points of a tensor in a form that broadcasts to it.

    Args:
        axis: along which they lie, where they are one per channel. block: elements per scale.
    """
    wide = array.astype(np.float64)
    if wide.size == 1:
        return wide.reshape(())
    axis %= len(shape)
    if block:
        repeated = np.repeat(wide, block, axis=axis)
        return repeated.take(range(shape[axis]), axis=axis)
    return wide.reshape([-1 if at == axis else 1 for at in range(len(shape))])


def blocks_of_bits(graph: GraphIndex, node: onnx.NodeProto) -> Stored:
    """The weight of a MatMulNBits as a matrix [K, N]."""
    attributes = {item.name: item.i for item in node.attribute}
    columns, rows = attributes["K"], attributes["N"]
    bits, size = attributes.get("bits", 4), attributes["block_size"]
    name, blocks = node.input[1], -(-columns // size)
    codes = _unpacked(graph.array(name).reshape(rows, -1), bits)[:, : blocks * size]
    steps = graph.array(node.input[2]).astype(np.float64).reshape(rows, blocks)
    given = node.input[3] if len(node.input) > 3 else ""
    if not given:
        zero = np.full((rows, blocks), float(1 << (bits - 1)))
    elif graph.array(given).dtype == np.uint8:
        zero = _unpacked(graph.array(given).reshape(rows, -1), bits)[:, :blocks].astype(np.float64)
    else:
        zero = graph.array(given).astype(np.float64).reshape(rows, blocks)
    whole = [np.repeat(attributes, size, axis=1)[:, :columns].T for attributes in (steps, zero)]
    codes = np.ascontiguousarray(codes[:, :columns].T)
    ends = np.where(codes >= (1 << bits) - 1, 1.0, np.where(codes <= 0, -1.0, 0.0))
    return Stored(
        name=name,
        values=(codes - whole[1]) * whole[0],
        steps=np.abs(whole[0]),
        ends=ends * np.sign(whole[0]),
        bits=bits,
    )


def _unpacked(packed: np.ndarray, bits: int) -> np.ndarray:
    """Numbers of 1, 2, 4 or 8 bits, the lowest bits of a byte first."""
    if bits == 8:
        return packed
    parts = [(packed >> shift) & ((1 << bits) - 1) for shift in range(0, 8, bits)]
    return np.stack(parts, axis=-1).reshape(packed.shape[0], -1)
