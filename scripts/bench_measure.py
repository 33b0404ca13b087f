"""Time ``measure`` against plain numpy in one process, and print nanoseconds and the ratio.

    python scripts/bench_measure.py [--elements 8388608] [--repeats 5]

Both sides compute the same: three distances (max, rms, worst index), two scales, finiteness.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from exporter.parity.compare import measure, measure_exact


def naive(truth: np.ndarray, reference: np.ndarray, actual: np.ndarray) -> list[tuple]:
    """The obvious way: whole arrays, one temporary after another."""
    figures = []
    for left, right in ((actual, truth), (reference, truth), (actual, reference)):
        difference = left.astype(np.float64) - right.astype(np.float64)
        error = np.abs(difference)
        at = int(error.argmax())
        figures.append((float(error.flat[at]), float(np.sqrt(np.mean(difference**2))), at))
    figures.append((float(np.abs(truth).max()), float(np.sqrt(np.mean(truth**2))), -1))
    finite = all(bool(np.isfinite(x).all()) for x in (truth, reference, actual))
    figures.append((finite,))
    return figures


def best_of(repeats: int, work: Callable[[], object]) -> float:
    """Return the shortest of several times, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", type=int, default=1 << 23)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    truth = random.standard_normal(options.elements)
    noise = 1e-7 * random.standard_normal(options.elements)
    print("nanoseconds per element, best of", options.repeats)
    print(f"{'dtype':10} {'measure':>10} {'a pair':>8} {'naive':>8} {'naive / measure':>16}")
    for dtype in (np.float32, np.float64):
        reference, actual = truth.astype(dtype), (truth * (1 + noise)).astype(dtype)
        ours = best_of(
            options.repeats,
            lambda r=reference, a=actual: measure("x", truth=truth, reference=r, actual=a),
        )
        plain = best_of(options.repeats, lambda r=reference, a=actual: naive(truth, r, a))
        ns = 1e9 / options.elements
        print(
            f"{np.dtype(dtype).name:10} {ours * ns:10.2f} {ours * ns / 3:8.2f}"
            f" {plain * ns:8.2f} {plain / ours:16.1f}"
        )
        copy = reference.copy()
        exact = best_of(options.repeats, lambda r=reference, c=copy: measure_exact("x", r, c))
        print(f"{'  exact':10} {exact * ns:10.2f}")


if __name__ == "__main__":
    main()
