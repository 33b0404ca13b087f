"""Time products with a weight matrix: proved by torch and computed by onnxruntime, or torch alone.

    python scripts/bench_products.py [--threads N] [--repeats N] [--rows N ...]

The shapes are those of SenseVoice's encoder and output layer. ``proved`` is what
``exporter.execution.products`` takes, its proof included; ``torch`` is
``torch.nn.functional.linear``. Interleaved in one process, medians. Prints Markdown.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from exporter.core.threads import let_waiting_threads_sleep

let_waiting_threads_sleep()

import torch  # noqa: E402
from interleaved import interleaved, machine, median  # noqa: E402

from exporter.execution.products import Products  # noqa: E402

SHAPES = ((512, 1536), (512, 512), (512, 2048), (2048, 512), (512, 25055))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--rows", type=int, nargs="+", default=[90, 1100])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| rows | from, to | dtype | torch, ms | proved, ms | torch / proved |")
    print("|---:|---|---|---:|---:|---:|")
    for rows in options.rows:
        for inside, outside in SHAPES:
            for dtype in (torch.float64, torch.float32):
                print(row(rows, inside, outside, dtype, options.repeats), flush=True)
    print(f"\n{machine(options.threads)}")
    return 0


def row(rows: int, inside: int, outside: int, dtype: torch.dtype, repeats: int) -> str:
    """One line of the table."""
    x, weight = torch.randn(rows, inside, dtype=dtype), torch.randn(outside, inside, dtype=dtype)
    products = Products()
    times = interleaved(
        {
            "torch": lambda: torch.nn.functional.linear(x, weight),
            "proved": lambda: products.multiply(x, weight),
        },
        repeats,
    )
    if products.counts["refused"]:
        raise SystemExit("a product was refused")
    torch_ms, proved_ms = (median(times[name]) * 1e3 for name in ("torch", "proved"))
    small = " (torch: too small)" if products.counts["small"] else ""
    return (
        f"| {rows} | {inside}, {outside} | {str(dtype).removeprefix('torch.')} "
        f"| {torch_ms:.2f} | {proved_ms:.2f}{small} | {torch_ms / proved_ms:.2f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
