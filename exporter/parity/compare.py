"""Measure, and only measure: what a pair of arrays is worth is decided in ``verdict``.

A measurement needs no limit and no model, so a saved one can be judged again with others.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Literal

import numpy as np

from exporter.parity import one_pass
from exporter.parity.distance import distances, sum_of_squares, walk
from exporter.parity.literals import without_literals
from exporter.parity.measurement import SIDES, Distance, Index, Measurement, Role

_OF_TWO = tuple("nan_expected nan_actual nan_mismatch inf_expected inf_actual inf_mismatch".split())
QUANTILES = (0.5, 0.9, 0.99, 0.999)
# numpy itself has no bfloat16 and no float8: the package that adds them gives kind "V".
_FLOAT_NAMES = ("bfloat", "float")


def measure(
    name: str,
    *,
    truth: np.ndarray | None,
    reference: np.ndarray | None,
    actual: np.ndarray | None,
    role: Role = "inner",
    exhaustive: bool = False,
    natural_scale: float | None = None,
    sides: tuple[str, str] = SIDES,
) -> Measurement:
    """Measure one tap: ONNX and float32 PyTorch, each against float64.

    Args:
        name: name of the tap.
        truth: float64 array of the reference's shape, any strides. Discrete taps need none:
            their float64 runs take them from the reference.
        reference: what float32 PyTorch computed; ``None`` when it is missing.
        actual: what ONNX computed; ``None`` when it is missing.
        role: ``"output"`` for outputs of the graph.
        exhaustive: also cosine and quantiles, at several times the cost and a float64 copy.

        natural_scale: 1.0 for probabilities, see :func:`exporter.parity.tolerance.natural_scale`.
        sides: what the reference and ``actual`` are called.

    Complex values are compared as pairs of real and imaginary part, ``[..., 2]``, which is how an
    ONNX file holds them. Nothing is broadcast and nothing is raised for bad data: what makes a
    comparison impossible is in ``problem``. Threads may call this at the same time.
    """
    head, problem = _head(name, reference, actual, role, sides)
    truth, reference, actual = _pairs(truth), _pairs(reference), _pairs(actual)
    if problem or reference is None or actual is None:
        return Measurement(**head, problem=problem)
    if _family(reference.dtype) == "discrete":
        return _measure_discrete(head, reference, actual)
    problem = _problem_of_truth(truth, reference)
    if problem or truth is None:
        return Measurement(**head, problem=problem, problem_in_truth=True)
    # Between the two only where people look at it: both distances to the truth are the verdict.
    direct = exhaustive or role == "output"
    figures = distances(truth, reference, actual, direct=direct)
    rest = without_literals(truth, reference, actual, figures.scale)
    if rest is not None:
        figures = distances(*rest, direct=direct)
    extra = {**_exhaustive(truth, actual), **_flips(truth, actual)} if exhaustive else {}
    return Measurement(
        **head,
        kind="float",
        compared=figures.compared,
        scale=figures.scale,
        rms_scale=figures.rms_scale,
        natural_scale=natural_scale,
        actual=figures.actual,
        reference=figures.reference,
        direct=figures.direct,
        bitwise_equal=same_bits(reference, actual)
        if figures.same_bits is None
        else figures.same_bits,
        **figures.counts,
        **extra,
    )


def _problem_of_truth(truth: np.ndarray | None, reference: np.ndarray) -> str | None:
    """Why nothing can be held against the float64 run; ``None`` when it can."""
    if truth is None:
        return "missing in the float64 run"
    if truth.shape != reference.shape:
        return f"float64 shape {truth.shape}, float32 shape {reference.shape}"
    if _family(truth.dtype) != "float":
        return f"the float64 run holds {truth.dtype.name}"
    return None


def measure_exact(
    name: str, reference: np.ndarray | None, actual: np.ndarray | None, role: Role = "inner"
) -> Measurement:
    """Measure a tap behind an op that only moves data: equal bits say everything.

    Equal arrays are read once and have no scale (``None``). Unequal ones get their ``direct``
    distance. NaN and Inf are counted either way.
    """
    head, problem = _head(name, reference, actual, role)
    reference, actual = _pairs(reference), _pairs(actual)
    if problem or reference is None or actual is None:
        return Measurement(**head, problem=problem)
    if _family(reference.dtype) == "discrete":
        return _measure_discrete(head, reference, actual)
    same, finite = _same_bits_and_finite(reference, actual)
    if same:
        nan, inf = (0, 0) if finite else _not_finite(reference)
        zero = 0.0 if reference.size > nan + inf else None
        return Measurement(
            **head,
            kind="exact",
            compared=reference.size - nan,
            direct=Distance(elements=reference.size - nan - inf, max_abs=zero, rms=zero),
            nan_expected=nan,
            nan_actual=nan,
            nan_mismatch=0,
            inf_expected=inf,
            inf_actual=inf,
            inf_mismatch=0,
            bitwise_equal=True,
        )
    figures = distances(reference, reference, actual)
    return Measurement(
        **head,
        kind="exact",
        compared=figures.compared,
        direct=figures.direct,
        bitwise_equal=False,
        **{name: figures.counts[name] for name in _OF_TWO},
    )


def as_pairs(array: np.ndarray) -> np.ndarray:
    """A complex array ``[...]`` as its parts ``[..., 2]``, real, imaginary; others as they are."""
    if array.dtype.kind != "c":
        return array
    part = np.dtype(f"f{array.dtype.itemsize // 2}")
    return np.ascontiguousarray(array).view(part).reshape(*array.shape, 2)


def _pairs(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else as_pairs(array)


def _head(
    name: str,
    reference: np.ndarray | None,
    actual: np.ndarray | None,
    role: Role,
    sides: tuple[str, str] = SIDES,
) -> tuple[dict, str | None]:
    pairs = reference is not None and reference.dtype.kind == "c"
    reference, actual = _pairs(reference), _pairs(actual)
    head = {
        "name": name,
        "role": role,
        "pairs": pairs,
        "dtype_expected": None if reference is None else _name(reference.dtype),
        "dtype_actual": None if actual is None else _name(actual.dtype),
        "shape_expected": None if reference is None else tuple(reference.shape),
        "shape_actual": None if actual is None else tuple(actual.shape),
        "elements": 0 if reference is None else reference.size,
        "sides": sides,
    }
    ours, theirs = sides
    if reference is None and actual is None:
        return head, "missing on both sides"
    if actual is None:
        return head, f"missing in {theirs}"
    if reference is None:
        return head, f"missing in {ours}"
    family = _family(reference.dtype)
    if family == "other":
        return head, f"dtype {reference.dtype.name} cannot be compared"
    if reference.shape != actual.shape:
        return head, f"shape change: {ours} {reference.shape}, {theirs} {actual.shape}"
    if family != _family(actual.dtype) or (
        family == "discrete" and reference.dtype != actual.dtype
    ):
        return head, f"dtype change: {ours} {reference.dtype.name}, {theirs} {actual.dtype.name}"
    return head, None


@cache
def _name(dtype: np.dtype) -> str:
    """numpy puts the name together anew each time, which takes as long as measuring a small tap."""
    return dtype.name


def _family(dtype: np.dtype) -> Literal["float", "discrete", "other"]:
    if dtype.kind in "biu":
        return "discrete"
    if dtype.kind == "f" or (dtype.kind == "V" and dtype.name.startswith(_FLOAT_NAMES)):
        return "float"
    return "other"


def _measure_discrete(head: dict, reference: np.ndarray, actual: np.ndarray) -> Measurement:
    mismatches, first = 0, -1
    for offset, (r, a) in walk((reference, actual)):
        # Compared by !=, never by subtraction: a difference of unsigned integers wraps.
        different = r != a
        count = int(np.count_nonzero(different))
        if count and not mismatches:
            first = offset + int(different.argmax())
        mismatches += count
    index: Index | None = None
    if mismatches:
        index = tuple(int(i) for i in np.unravel_index(first, reference.shape))
    return Measurement(
        **head,
        kind="discrete",
        compared=reference.size,
        mismatches=mismatches,
        first_mismatch=index,
        bitwise_equal=mismatches == 0,
    )


def same_bits(reference: np.ndarray, actual: np.ndarray) -> bool:
    """True for equal dtype, shape and bits, whatever the strides."""
    if reference.dtype != actual.dtype or reference.shape != actual.shape:
        return False
    return _same_bits_and_finite(reference, actual)[0]


def _same_bits_and_finite(reference: np.ndarray, actual: np.ndarray) -> tuple[bool, bool]:
    """Whether two arrays of one shape have one dtype and the same bits; whether all is finite.

    False for the latter where it was not found out: the arrays differ, or numpy compared them.
    """
    if reference.dtype != actual.dtype:
        return False, False
    width = reference.dtype.itemsize
    bits = np.dtype(f"u{width}") if width in (1, 2, 4, 8) else np.dtype("u1")
    finite = True
    for _, (r, a) in walk((reference, actual)):
        if reference.size >= one_pass.LEAST and one_pass.takes_pair(r, a):
            same, block_finite = one_pass.compare_pair(r, a)
        else:
            same, block_finite = bool((r.view(bits) == a.view(bits)).all()), False
        if not same:
            return False, False
        finite = finite and block_finite
    return True, finite


def _not_finite(array: np.ndarray) -> tuple[int, int]:
    """Count NaN and Inf; a block whose sum of squares is finite has neither."""
    nan = inf = 0
    native = array.dtype in (np.float32, np.float64)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for _, (block,) in walk((array,)):
            wide = block if native else block.astype(np.float64)
            if not math.isfinite(sum_of_squares(wide)):
                nan += int(np.isnan(wide).sum())
                inf += int(np.isinf(wide).sum())
    return nan, inf


def _flips(truth: np.ndarray, actual: np.ndarray) -> dict:
    """Rows whose largest value is another one, and the largest float64 margin among them."""
    if truth.ndim < 2 or truth.shape[-1] < 2 or not truth.size:
        return {}
    rows = np.asarray(truth, dtype=np.float64).reshape(-1, truth.shape[-1])
    theirs = np.asarray(actual, dtype=np.float64).reshape(rows.shape)
    if not (np.isfinite(rows).all() and np.isfinite(theirs).all()):
        return {}
    at = np.arange(len(rows))
    # By value, so that a tie is no flip.
    margins = rows.max(axis=1) - rows[at, theirs.argmax(axis=1)]
    flips = int(np.count_nonzero(margins))
    return {"rows": len(rows), "flips": flips, "flip_margin": float(margins.max())}


def _exhaustive(truth: np.ndarray, actual: np.ndarray) -> dict:
    """Cosine of actual against truth, and quantiles of the absolute error; finite values only."""
    wide_t = np.asarray(truth, dtype=np.float64).reshape(-1)
    wide_a = np.asarray(actual, dtype=np.float64).reshape(-1)
    finite = np.isfinite(wide_t) & np.isfinite(wide_a)
    if not finite.all():
        wide_t, wide_a = wide_t[finite], wide_a[finite]
    if not wide_t.size:
        return {}
    # Each side is divided by its largest magnitude first: squares then neither overflow nor vanish.
    peak_t, peak_a = float(np.abs(wide_t).max()), float(np.abs(wide_a).max())
    cosine = None
    if peak_t > 0.0 and peak_a > 0.0:
        unit_t, unit_a = wide_t / peak_t, wide_a / peak_a
        norms = math.sqrt(float(np.dot(unit_t, unit_t))) * math.sqrt(float(np.dot(unit_a, unit_a)))
        cosine = float(np.dot(unit_t, unit_a)) / norms
    with np.errstate(over="ignore"):
        error = np.abs(wide_a - wide_t)
    levels = np.quantile(error, QUANTILES)
    quantiles = {f"{q:g}": float(v) for q, v in zip(QUANTILES, levels, strict=True)}
    return {"cosine": cosine, "quantiles": quantiles}
