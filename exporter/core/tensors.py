"""Values that every floor shares: tensor specifications, taps and cases.

Arrays at this floor are ``numpy.ndarray``; dtypes are numpy names (``"float32"``, ``"int64"``,
``"bool"``) and ``"bfloat16"``, which numpy does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from exporter.core.windows import Streamed

Arrays = Mapping[str, np.ndarray]
BATCH_NAMES = ("batch", "B", "rows", "num_rows", "batch_size", "N")
"""What a symbolic axis of independent rows is called."""
EMPTY: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One symbolic axis: its name, and the sizes it may take (both ends included)."""

    name: str
    minimum: int = 1
    maximum: int | None = None
    multiple_of: int = 1

    def takes(self, size: int) -> bool:
        """Whether the axis may have this size."""
        return (
            size >= self.minimum
            and (self.maximum is None or size <= self.maximum)
            and size % self.multiple_of == 0
        )

    def near(self, size: int) -> int:
        """The largest of its multiples that is at most ``size``, or its least where none is."""
        least = -(-self.minimum // self.multiple_of) * self.multiple_of
        return max(least, size - size % self.multiple_of)

    def words(self) -> str:
        """Its sizes for people: ``8 to 64, multiples of 8``."""
        ends = (
            f"{self.minimum} or more"
            if self.maximum is None
            else (f"{self.minimum} to {self.maximum}")
        )
        return ends if self.multiple_of == 1 else f"{ends}, multiples of {self.multiple_of}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One named input or output of a graph.

    Attributes:
        name: name in the ONNX graph and in every report.
        dtype: numpy dtype name.
        shape: one entry per axis, an ``int`` for a fixed size or the name of a symbolic axis.
        axes: the symbolic axes that ``shape`` names.
        choices: for an integer input, the readable names of its valid values.
        discrete: True when two runs must agree exactly (token ids, segments, lengths).
        unit: what one step of the values means, for people ("samples at 16 kHz").
        idle: an input that the model takes and never reads.
        below: an integer input looks something up: its values are 0 up to this, excluded. Held
            against the values of cases; not part of what is saved of a specification.
        initial: for an input that carries state, the value that it is filled with before the
            first call; symbolic axes then have their minimum. ``None`` for other inputs.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    axes: tuple[Axis, ...] = ()
    choices: Mapping[str, int] = field(default_factory=lambda: EMPTY)
    discrete: bool = False
    unit: str = ""
    initial: float | None = None
    idle: bool = False
    below: int | None = None

    @classmethod
    def of(cls, name: str, dtype: str, *sizes: int | Axis, **more: Any) -> TensorSpec:
        """A spec whose shape is given axis by axis: a size, or the symbolic axis itself.

        Args:
            more: further attributes of ``TensorSpec``.
        """
        shape = tuple(size.name if isinstance(size, Axis) else size for size in sizes)
        axes = tuple(size for size in sizes if isinstance(size, Axis))
        return cls(name=name, dtype=dtype, shape=shape, axes=axes, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tap:
    """A point where PyTorch and ONNX are known to hold the same value.

    Attributes:
        name: exact name of the value, in the captured program and in the ONNX graph.
        module: module path, e.g. ``model.encoder.encoders.3.self_attn``; "" for the root.
        module_class: class of that module.
        op: operator that computes the value, e.g. ``aten.linear.default``.
        source: ``file:line`` of the statement, relative to its package; "" when unknown.
        empty: it holds no elements, whatever the inputs are: one of its sizes is always 0.
    """

    name: str
    module: str
    module_class: str
    op: str
    source: str
    empty: bool = False


COMPARED = "compared"
FUSED = "fused"
MISSING = "missing"
MOVED = "moved"
"""Fates of a tap in one file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTap:
    """A tap and its fate in one ONNX file.

    Attributes:
        tap: the point in the captured program.
        onnx_name: the value's name in the file.
        fate: "compared", "fused" (the value is gone, something that depends on it is compared),
            "moved" (its name is there and holds another value; something that depends on it is
            compared) or "missing" (nothing that depends on it is left).
        into: for a fused or moved tap, the nearest compared tap behind it.
        renamed: the file's name for the value is another tap's, which numbers have shown.
        constant: the file holds the value as an initialiser.
        output: the value is an output of the graph.
        dtype: of the value in the program.
    """

    tap: Tap
    onnx_name: str
    fate: str
    into: str | None = None
    constant: bool = False
    output: bool = False
    renamed: bool = False
    dtype: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One set of inputs on which both sides are run.

    Attributes:
        name: unique within a pipeline.
        inputs: one array per graph input.
        origin: how the arrays came to be (file and digest, or generator and seed).
        expect_empty: outputs that are declared to be empty on this case.
        later: inputs of the calls after this one, for a case in several calls; what carries state
            holds what it holds before the first.
        whole: inputs of all calls together, before they were cut; ``None`` for a case in one.
        call: which call of a case in several this is, from 0.
        sized: the inputs of another case, at a size of the sweep.
        stream: how its calls were cut, for a case in windows.
    """

    name: str
    inputs: Arrays
    origin: str
    expect_empty: frozenset[str] = frozenset()
    later: tuple[Arrays, ...] = ()
    whole: Arrays | None = None
    call: int = 0
    sized: bool = False
    stream: Streamed | None = None

    @property
    def entire(self) -> Arrays:
        """The inputs of a case as if it were one call."""
        return self.inputs if self.whole is None else self.whole
