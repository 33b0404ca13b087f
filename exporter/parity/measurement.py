"""What was measured at one tap: plain numbers that survive JSON without loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

Index = tuple[int, ...]
Role = Literal["inner", "output"]
Kind = Literal["float", "discrete", "exact"]
COUNTED = tuple(
    "nan_truth nan_expected nan_actual inf_truth inf_expected inf_actual "
    "inf_mismatch inf_mismatch_expected inf_mismatch_actual nan_mismatch".split()
)
"""What is counted of NaN and Inf, by names of :class:`Measurement`."""
SIDES = ("PyTorch", "ONNX")
"""What the reference and what is measured are called, unless both are files."""

_WORDS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """How far one array is from another, over the positions where every side is finite.

    Attributes:
        elements: positions that entered the figures.
        max_abs: largest absolute difference; ``None`` when ``elements`` is 0.
        rms: root of the mean squared difference; ``None`` when ``elements`` is 0.
        worst_index: first position in C order of the largest difference; ``None`` when all
            differences are 0.
        worst_expected: the value there on the side that is measured against.
        worst_actual: the value there on the side that is measured.
    """

    elements: int
    max_abs: float | None = None
    rms: float | None = None
    worst_index: Index | None = None
    worst_expected: float | None = None
    worst_actual: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One tap on one case. ``None`` means "not measured", never "zero".

    ``expected`` is float32 PyTorch (the reference), ``actual`` is ONNX, ``truth`` is float64
    PyTorch.

    Attributes:
        name: name of the tap.
        role: ``output`` of the graph, or ``inner``.
        kind: ``float`` has distances to float64; ``discrete`` (bool, integer) has mismatches;
            ``exact`` is a float tap behind an op that only moves data.
        elements: size of the reference; ``compared``: positions that really were compared, that
            is finite on every side or infinite with one sign on every side.
        scale, rms_scale: largest magnitude and root mean square of the finite truth.
        natural_scale: range of an op whose kernels are accurate in absolute terms (1.0 for a
            probability); ``None`` for every other.
        actual, reference: distances of ONNX and of float32 PyTorch to float64; ``direct``:
            distance of ONNX to float32 PyTorch.
        nan_mismatch: positions where some sides hold NaN and others do not.
        inf_mismatch: positions where not all sides hold the same infinity;
            ``inf_mismatch_expected`` and ``inf_mismatch_actual``: the same for the reference
            alone and for ONNX alone against the truth.
        mismatches, first_mismatch: unequal positions of a discrete tap.
        bitwise_equal: reference and actual have the same bits.
        cosine: of actual against truth; ``quantiles``: of ``|actual - truth|``, by level.
        shape_stored: the shape that the file holds, where it was reshaped (never reordered) to
            the expected one to be compared.
        problem: why nothing was measured (missing, shape change, dtype of another kind).
        problem_in_truth: it is the float64 run that ``problem`` is of.
        held: formats coarser than the reference's own that the file holds in what computed the
            value: "float16", "int8", "int4" ...; ``None`` when nobody has looked, ``()`` when
            there are none.
        cost: distance to float64 that these formats cost here, the largest of several draws.
        alone: an output in front of which no value was compared.
        rows, flips: rows of the last axis, and how many have their largest value elsewhere in
            ONNX; ``flip_margin``: the largest float64 margin among these.
        pairs: the value is complex; dtype, shape and figures are those of its real and imaginary
            parts, ``[..., 2]``.
        sides: what ``expected`` and ``actual`` are called.
    """

    name: str
    role: Role = "inner"
    kind: Kind = "float"
    dtype_expected: str | None = None
    dtype_actual: str | None = None
    shape_expected: Index | None = None
    shape_actual: Index | None = None
    shape_stored: Index | None = None
    elements: int = 0
    compared: int = 0
    scale: float | None = None
    rms_scale: float | None = None
    natural_scale: float | None = None
    actual: Distance | None = None
    reference: Distance | None = None
    direct: Distance | None = None
    nan_truth: int | None = None
    nan_expected: int | None = None
    nan_actual: int | None = None
    nan_mismatch: int | None = None
    inf_truth: int | None = None
    inf_expected: int | None = None
    inf_actual: int | None = None
    inf_mismatch: int | None = None
    inf_mismatch_expected: int | None = None
    inf_mismatch_actual: int | None = None
    mismatches: int | None = None
    first_mismatch: Index | None = None
    bitwise_equal: bool | None = None
    cosine: float | None = None
    quantiles: Mapping[str, float] | None = None
    problem: str | None = None
    problem_in_truth: bool = False
    held: tuple[str, ...] | None = None
    cost: Distance | None = None
    alone: bool = False
    rows: int | None = None
    flips: int | None = None
    flip_margin: float | None = None
    pairs: bool = False
    sides: tuple[str, str] = SIDES

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary that strict JSON can hold; NaN and Inf become words."""
        saved = {f.name: _plain(getattr(self, f.name)) for f in fields(self)}
        if self.sides == SIDES:
            del saved["sides"]
        return saved

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Measurement:
        """Rebuild what :meth:`to_json` saved, bit for bit.

        Raises:
            TypeError: the name is missing, or a key is unknown.
        """
        values = dict(saved)
        for key in ("actual", "reference", "direct", "cost"):
            distance = values.get(key)
            values[key] = None if distance is None else Distance(**_restored(distance))
        return cls(**_restored(values))


def _plain(value: Any) -> Any:
    if isinstance(value, Distance):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


_NUMBERS = frozenset({"scale", "rms_scale", "natural_scale", "cosine", "flip_margin"}) | frozenset(
    {"max_abs", "rms", "worst_expected", "worst_actual"}
)


def _restored(saved: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(saved)
    for key, item in values.items():
        if key in _NUMBERS and isinstance(item, str):
            values[key] = _WORDS[item]
        elif key == "quantiles" and item is not None:
            values[key] = {level: _WORDS.get(q, q) for level, q in item.items()}
        elif isinstance(item, list):
            values[key] = tuple(item)
    return values
