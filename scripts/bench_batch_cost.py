"""What a batch of segments costs whatever is in it, in seconds of audio (``BATCH_COST_S``).

    python scripts/bench_batch_cost.py runs/sensevoice/model.onnx [--threads 2] [--repeats 5]

Runs the golden minute with all segments in one batch and with a batch per segment, in turn. Two
times and two amounts of padded audio give the cost of a second and the cost of a batch.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from interleaved import interleaved, median  # noqa: E402

from exporter.cases.audio import read_waveform  # noqa: E402
from exporter.execution.deployment import Deployment  # noqa: E402
from exporter.execution.segment_run import SegmentRun  # noqa: E402
from exporter.graph.index import index_graph  # noqa: E402
from exporter.graph.onnx_file import read_in_place  # noqa: E402

RATE = 16000
MANY = 1 << 40


def batch_cost(one_s: float, each_s: float, padded_s: float, sum_s: float, rows: int) -> float:
    """Solve ``one = cost + k * padded`` and ``each = rows * cost + k * sum`` for ``cost / k``."""
    per_second = (rows * one_s - each_s) / (rows * padded_s - sum_s)
    return (one_s - per_second * padded_s) / per_second


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    path: Path = options.model
    graph = index_graph(read_in_place(path), path.parent)
    run = SegmentRun(graph, path, Deployment(threads=options.threads))
    waveform = read_waveform(ROOT / "golden" / "audio" / "long.wav", RATE)
    # Which prompt is given has no say in the time.
    prompts = {name: np.array(0) for name in graph.inputs if name != "waveform"}
    inputs = {"waveform": waveform, **prompts}
    times = interleaved(
        {
            "one": lambda: run.run(inputs, max_padded=MANY, per_batch=MANY),
            "each": lambda: run.run(inputs, max_padded=1, per_batch=0),
        },
        options.repeats,
    )
    segments = run.run(inputs, max_padded=1, per_batch=0)["segments"]
    lengths = (segments[:, 1] - segments[:, 0]) / RATE
    one, each = median(times["one"]), median(times["each"])
    cost = batch_cost(
        one, each, float(lengths.max() * len(lengths)), float(lengths.sum()), len(lengths)
    )
    print(f"one batch {one:.3f} s, {len(lengths)} batches {each:.3f} s")
    print(f"a batch costs as much as {cost:.2f} s of audio")
    return 0


if __name__ == "__main__":
    sys.exit(main())
