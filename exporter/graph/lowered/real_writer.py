"""A graph in real numbers as it is written: its nodes, constants, and what integers stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from exporter.graph.grids import INTEGER_BITS
from exporter.graph.index import GraphIndex
from exporter.graph.lowered.dequantise import Stored, along, stored_integers

CODED_MOVES = frozenset(
    "Identity Reshape Flatten Squeeze Unsqueeze Transpose Slice Gather Concat Split Expand"
    " MaxPool DepthToSpace SpaceToDepth Tile".split()
)
"""Operators that do to integers what they do to the numbers which these stand for."""
_SHOWS = frozenset({"Identity", "DequantizeLinear", "QuantizeLinear"})
_NATURAL = frozenset({"Softmax", "Sigmoid", "HardSigmoid", "QLinearSigmoid", "QLinearSoftmax"})
_CALIBRATED, _SPARED, _CLIPPED = 4.0, 2.0, 0.01  # as in interpret.format_cost


@dataclass(frozen=True, slots=True)
class Code:
    """Integers of the file: the real numbers they stand for, and by which step and zero point."""

    real: str
    step: str
    zero: str


class Writer:
    """Nodes and constants of a graph in real numbers, as it grows.

    Args:
        types: element types of the file's values. given: arrays to take for stored constants.
    """

    def __init__(
        self,
        graph: GraphIndex,
        types: Mapping[str, int],
        given: Mapping[str, np.ndarray],
        noise: int | None,
    ):
        self.graph, self.types, self.given, self.noise = graph, types, given, noise
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.kept: dict[str, TensorProto] = {}
        self.stored: dict[str, Stored] = {}
        self.keys: dict[str, str] = {}
        self.codes: dict[str, Code] = {}
        self.sums: set[str] = set()
        """Sums of products of integers: they are computed here without their steps, as there."""
        self.scales: set[str] = set()
        """Values that say nothing but how large others are: steps, and products of steps."""
        self.cut_off: set[str] = set()
        """Values of which all who read them see what lies on one side of zero."""
        self.aside: set[str] = set()
        """Sums in floats, before they are multiplied with their steps."""
        self._random = np.random.default_rng(noise)
        self._count = 0

    # -- words ------------------------------------------------------------------------------------

    def new(self, name: str) -> str:
        """A name that the file does not have."""
        self._count += 1
        return f"{name}#{self._count}"

    def add(self, op: str, *reads: str, out: str = "", **attributes: Any) -> str:
        """A node with one result."""
        name = out or self.new(next(filter(None, reads), op))
        self.nodes.append(helper.make_node(op, list(reads), [name], **attributes))
        return name

    def number(self, value: float | np.ndarray) -> str:
        """A constant of float32."""
        name = self.new("number")
        self.constants[name] = np.asarray(value, np.float32)
        return name

    def constant(self, key: str, stored: Stored, factor: np.ndarray | float = 1.0) -> str:
        """A stored constant, divided by ``factor``."""
        self.stored[key] = stored
        values = self.given.get(key, stored.values)
        if self.noise is not None:
            own = _SPARED * 2.0 * float(np.abs(values).max(initial=0.0)) / (2.0**stored.bits - 1)
            steps = stored.steps if stored.bits >= 16 else np.minimum(stored.steps, own)
            values = values + (self._random.random(values.shape) - 0.5) * steps
        name = self.new(stored.name)
        self.keys[name] = key
        scaled = values if isinstance(factor, float) and factor == 1.0 else values / factor
        self.constants[name] = np.asarray(scaled)
        return name

    def call(self, constant: str, name: str) -> None:
        """Give a stored constant the name of a value of the file."""
        self.constants[name] = self.constants.pop(constant)
        self.keys[name] = self.keys.pop(constant)

    def array(self, name: str) -> np.ndarray | None:
        """A constant of the file; None for a value."""
        return self.graph.array(name) if name in self.graph.initializers else None

    def read(self, name: str) -> str:
        """A constant or a value of the file that is in floats."""
        if name in self.graph.initializers:
            self.kept[name] = self.graph.initializers[name]
        return name

    # -- integers ---------------------------------------------------------------------------------

    def as_code(self, code: Code) -> str:
        """The integers themselves, not rounded."""
        scaled = self.add("Div", code.real, self.read(code.step))
        return self.add("Add", scaled, self.in_floats(code.zero)) if code.zero else scaled

    def in_floats(self, name: str) -> str:
        """A zero point as a float."""
        values = self.array(name)
        return name if values is None else self.number(values.astype(np.float32))

    def real(self, name: str, step: str, zero: str, axis: int = 1, block: int = 0) -> str:
        """What integers stand for, read by ``step`` and ``zero``."""
        codes, steps = self.array(name), self.array(step)
        if codes is not None and steps is not None:
            return self.constant(f"{name}/{step}", self.weight(name, steps, zero, axis, block))
        code = self.codes[name]
        if self.same(code.step, step) and self.same(code.zero, zero):
            return code.real
        shifted = self.as_code(code)
        if zero:
            shifted = self.add("Sub", shifted, self.in_floats(zero))
        return self.add("Mul", shifted, self.read(step))

    def weight(self, name: str, steps: np.ndarray, zero: str, axis: int, block: int = 0) -> Stored:
        """A constant of integers."""
        codes = self.graph.array(name)
        zeros = np.zeros(1) if not zero else self.graph.array(zero)
        return stored_integers(
            name,
            codes,
            along(steps, codes.shape, axis, block),
            along(zeros, codes.shape, axis, block),
            self.graph.initializers[name].data_type,
        )

    def same(self, one: str, other: str) -> bool:
        """Whether two steps, or two zero points, are the same numbers; "" is zero."""
        if one == other:
            return True
        left = self.array(one) if one else np.zeros(1)
        right = self.array(other) if other else np.zeros(1)
        if left is None or right is None or left.size != right.size:
            return False
        return bool((left.reshape(-1) == right.reshape(-1)).all())

    def store(self, out: str, real: str, step: str, zero: str, source: str = "") -> None:
        """``out`` holds ``real`` as integers on a constant grid."""
        self.codes[out] = Code(self._on_grid(real, step, zero, source or real), step, zero)

    # -- rounding ---------------------------------------------------------------------------------

    def move_by_share(self, name: str, roundoff: float, out: str) -> None:
        """Move a value by up to ``roundoff`` of itself."""
        if self.noise is None:
            self.add("Identity", name, out=out)
            return
        share = self.add("Mul", self._uniform(name), self.number(2.0 * roundoff))
        self.add("Add", name, self.add("Mul", self.add("Abs", name), share), out=out)

    def _uniform(self, like: str) -> str:
        return self.add(
            "RandomUniformLike",
            like,
            low=-0.5,
            high=0.5,
            seed=float(self._random.integers(1 << 20)),
        )

    def span(self, name: str) -> tuple[str, str]:
        """From the smallest to the largest number, zero included: the smallest, and how far."""
        zero = self.number(0.0)
        low = self.add("Min", self.add("ReduceMin", name, keepdims=0), zero)
        high = self.add("Max", self.add("ReduceMax", name, keepdims=0), zero)
        return low, self.add("Sub", high, low)

    def _on_grid(self, name: str, step: str, zero: str, source: str) -> str:
        steps, zeros = self.array(step), self.array(zero) if zero else np.zeros(1)
        if steps is None or zeros is None or steps.size != 1:
            return name
        kind = self.graph.initializers[zero].data_type if zero else TensorProto.UINT8
        low, high = INTEGER_BITS[kind].ends if kind in INTEGER_BITS else (0, 255)
        size, origin = float(steps.reshape(-1)[0]), float(zeros.reshape(-1)[0])
        ends = (low - origin) * size, (high - origin) * size
        if self.noise is None and self._is_constant(source):
            return name  # nobody takes a Relu away there
        if ends[0] == 0.0:
            name = self.add("Max", name, self.number(0.0))
        elif ends[1] == 0.0:
            name = self.add("Min", name, self.number(0.0))
        if self.noise is None:
            return name
        at = self.graph.producer.get(source)
        natural = at is not None and self.graph.nodes[at].op_type in _NATURAL
        return self._moved(name, size, ends, high - low, 1.0 if natural else 0.0)

    def _is_constant(self, name: str) -> bool:
        nodes, producer = self.graph.nodes, self.graph.producer
        while name in producer and nodes[producer[name]].op_type in _SHOWS:
            name = nodes[producer[name]].input[0]
        return name in self.graph.initializers

    def _moved(
        self, name: str, size: float, ends: tuple[float, float], levels: int, natural: float
    ) -> str:
        low, high = self.number(ends[0]), self.number(ends[1])
        outside = self.add("Or", self.add("Less", name, low), self.add("Greater", name, high))
        share = self.add("Cast", outside, to=TensorProto.FLOAT)
        share = self.add("ReduceMean", share, keepdims=0)
        few = self.add("Less", share, self.number(_CLIPPED))
        inside = self.add("Max", self.add("Min", name, high), low)
        gathered = self.add("Where", few, inside, name)
        _, span = self.span(name)
        needed = self.add("Max", span, self.number(natural))
        needed = self.add("Mul", needed, self.number(_CALIBRATED / levels))
        step = self.add("Min", needed, self.number(size))
        return self.add("Add", gathered, self.add("Mul", self._uniform(name), step))

    def on_its_own_grid(self, name: str) -> tuple[str, str, str]:
        """A value on a grid that is made from itself: the value, the step, the zero point."""
        low, span = self.span(name)
        step = self.add("Max", self.add("Div", span, self.number(255.0)), self.number(1e-30))
        zero = self.add("Neg", self.add("Div", low, step))
        if self.noise is not None:
            name = self.add("Add", name, self.add("Mul", self._uniform(name), step))
        return name, step, zero
