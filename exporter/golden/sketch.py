"""A few numbers in place of a tensor, from which the distance to another tensor can be told.

**The projection** is a count sketch (Charikar, Chen, Farach-Colton 2002). Element ``i`` is added
to bucket ``h(i)`` of 32 with sign ``s(i)``; both come from PCG64's raw output, which numpy never
changes, seeded with the tap's name. It is linear, so the sketches of ``x`` and ``y`` give the one
of ``d = x - y``, and the sum of its squares has

    mean       |d|^2
    variance   <= 2/32 |d|^4         (whatever d is: the signs are random, not the data)

so ``sqrt(sum / n)`` estimates the rms of the difference. A tensor of up to 32 elements is
kept as it is, and the estimate is exact.

**The slack.** What is judged is whether the estimate exceeds the limit of the rms. In the
usual case, an error that is spread over many elements, ``32 * estimate^2 / rms^2`` follows
chi-squared with 32 degrees of freedom, which exceeds 2.5 * 32 with a probability of 2e-6. So a
tap whose error lies exactly at its limit is let through up to sqrt(2.5) = 1.58 limits, and one
well below it never raises an alarm.

**Moments and quantiles** need no slack: minimum, maximum and every quantile of two tensors differ
by at most the largest difference of their elements, mean and rms by at most the rms of the
difference. Quantiles are those of every k-th element, the same ones on both sides.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BUCKETS = 32
SLACK = math.sqrt(2.5)
LEVELS = (0.01, 0.25, 0.5, 0.75, 0.99)
STATS = ("mean", "rms", "min", "max", *(f"q{level:g}" for level in LEVELS))
DIGEST_BYTES = 8
MOST_SORTED = 65_536
"""A quantile rests on at most twice so many elements."""
_BLOCK = 1 << 18
_NOTHING = bytes(DIGEST_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """One tensor, reduced.

    Attributes:
        shape, dtype: of the tensor.
        buckets: float64 [32]; zeros for integers and booleans, which ``bits`` decides.
        stats: float64 [9], see ``STATS``; zeros where nothing is finite.
        nonfinite: how many NaN, +Inf and -Inf.
        places: digest of where the infinities are, zeros if there are none.
        bits: digest of dtype, shape and every bit.
    """

    shape: tuple[int, ...]
    dtype: str
    buckets: np.ndarray
    stats: np.ndarray
    nonfinite: tuple[int, int, int]
    places: bytes
    bits: bytes

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def floating(self) -> bool:
        """False for integers and booleans, which must be equal."""
        return is_floating(self.dtype)


def is_floating(dtype: str) -> bool:
    """True for a numpy dtype name of a floating kind, bfloat16 included."""
    return "float" in dtype


def sketch(name: str, array: np.ndarray) -> Sketch:
    """Reduce a tensor.

    Args:
        name: the tap's; it seeds the projection, so only sketches of one name compare.
        array: any dtype and strides.
    """
    dtype = array.dtype.name
    flat = np.asarray(array, order="C").reshape(-1)
    buckets, stats = np.zeros(BUCKETS), np.zeros(len(STATS))
    nonfinite, places = (0, 0, 0), _NOTHING
    if is_floating(dtype) and flat.size:
        finite, nonfinite, places = _finite(flat)
        buckets = project(name, finite)
        stats = _stats(finite, flat.size - sum(nonfinite))
    digest = hashlib.sha256(f"{dtype}{list(array.shape)}".encode())
    digest.update(flat.view(np.uint8).data)  # not tobytes(), which would copy all of it
    return Sketch(
        shape=tuple(int(size) for size in array.shape),
        dtype=dtype,
        buckets=buckets,
        stats=stats,
        nonfinite=nonfinite,
        places=places,
        bits=digest.digest()[:DIGEST_BYTES],
    )


def project(name: str, flat: np.ndarray) -> np.ndarray:
    """Count sketch of a finite 1-D array, float64 [32]."""
    if flat.size <= BUCKETS:
        return np.pad(flat.astype(np.float64), (0, BUCKETS - flat.size))
    total = np.zeros(BUCKETS)
    source = np.random.PCG64(seed_of(name))
    for block in _blocks(flat):
        raw = np.asarray(source.random_raw(-(-block.size // 8)), dtype="<u8")
        random = raw.view(np.uint8)[: block.size]
        signed = np.where(random & 128, -block, block)
        total += np.bincount(random & (BUCKETS - 1), weights=signed, minlength=BUCKETS)
    return total


def seed_of(name: str) -> int:
    """Seed of a tap's projection: the first 128 bits of sha256 of its name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")


def distance(left: np.ndarray, right: np.ndarray, elements: int) -> float:
    """Estimated rms of the difference of two tensors, from their buckets."""
    return float(np.linalg.norm(left - right)) / math.sqrt(max(1, elements))


def slack(elements: int) -> float:
    """How far an estimate may lie above the truth by chance; see the module's text."""
    return 1.0 if elements <= BUCKETS else SLACK


def _blocks(flat: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, flat.size, _BLOCK):
        yield flat[start : start + _BLOCK].astype(np.float64)


def _finite(flat: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int], bytes]:
    """The array with zeros for NaN and Inf, their numbers, and where the infinities are."""
    wide = flat if flat.dtype.kind == "f" else flat.astype(np.float32)
    good = np.isfinite(wide)
    if good.all():
        return wide, (0, 0, 0), _NOTHING
    up, down = np.isposinf(wide), np.isneginf(wide)
    counts = (int(np.isnan(wide).sum()), int(up.sum()), int(down.sum()))
    signs = np.packbits(up).tobytes() + np.packbits(down).tobytes()
    places = hashlib.sha256(signs).digest()[:DIGEST_BYTES] if up.any() or down.any() else _NOTHING
    return np.where(good, wide, 0).astype(wide.dtype), counts, places


def _stats(flat: np.ndarray, finite: int) -> np.ndarray:
    """Moments over the finite elements, quantiles over every k-th of all of them."""
    if not finite:
        return np.zeros(len(STATS))
    total, squares, low, high = 0.0, 0.0, math.inf, -math.inf
    for block in _blocks(flat):
        total += float(block.sum())
        squares += float(np.square(block).sum())
        low, high = min(low, float(block.min())), max(high, float(block.max()))
    sample = flat[:: max(1, flat.size // MOST_SORTED)].astype(np.float64)
    # "lower" returns an element, never a mean of two: no rounding, and the bound above holds.
    quantiles = np.quantile(sample, LEVELS, method="lower")
    return np.array([total / finite, math.sqrt(squares / finite), low, high, *quantiles])
