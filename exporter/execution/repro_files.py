"""Run the two sub-graphs in which two ONNX files part, and say how far apart they are.

Usage: python repro.py

Exits 1 while they differ beyond what float32 costs, 0 when they agree. Needs numpy and
onnxruntime; the files beside it are a.onnx, b.onnx, inputs_a.npz and inputs_b.npz.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

# Per side: the name of the value, and the names of its inputs in the order of the .npz; and how far
# apart the two may be.
PLAN: dict[str, Any] = {}


def run(folder: Path, side: str) -> np.ndarray:
    """The value as one of the files computes it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(folder / f"{side}.onnx"), options, providers=["CPUExecutionProvider"]
    )
    with np.load(folder / f"inputs_{side}.npz") as arrays:
        names = PLAN[side]["inputs"]
        feeds = {name: arrays[f"arr_{at}"] for at, name in enumerate(names)}
    return np.asarray(session.run([PLAN[side]["output"]], feeds)[0])


def main() -> int:
    """Run both; return the exit code."""
    folder = Path(__file__).resolve().parent
    a, b = run(folder, "a"), run(folder, "b")
    if a.shape != b.shape:
        print(f"DIFFER  {list(a.shape)} in A and {list(b.shape)} in B")
        return 1
    gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
    differ = not float(gap.max(initial=0.0)) <= PLAN["limit"]
    word = "DIFFER" if differ else "agree"
    print(f"{word}  largest difference {gap.max(initial=0.0):.6g}, limit {PLAN['limit']:.6g}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
