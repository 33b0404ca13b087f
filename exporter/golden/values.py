"""What a golden holds, as values; ``store`` turns them into files and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from exporter.core.tensors import PlannedTap, TensorSpec
from exporter.golden.sketch import BUCKETS, DIGEST_BYTES, STATS, Sketch

FORMAT = 1
VOUCHED_BY, FILE_ITSELF = "vouched_by", "the file itself"
"""Entry of ``judged`` in a golden that no PyTorch has vouched for."""
NOT_VOUCHED = "not vouched for by PyTorch"
"""How such a golden is marked wherever it is shown."""


Dim = int | str | None
"""A fixed size, the name of an axis, or nothing: an axis of any size without a name."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output: numpy's name of its dtype ("" when it is no tensor), and its axes.

    ``dims`` is ``None`` where the file does not say how many axes there are.
    """

    name: str
    dtype: str
    dims: tuple[Dim, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """Inputs that must be given, outputs, and the opset of ONNX's own operators."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    opset: int


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A node of the file that was judged at recording, known by what it computes.

    ``form`` is a digest of operator, inputs and attributes, ``constants`` of the initialisers
    that it reads. ``tap`` is the position of the nearest tap at or behind it, -1 for none.
    """

    name: str
    op: str
    form: str
    constants: str
    tap: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What is known of one tap on one case.

    ``limit_max`` and ``limit_rms`` bound the difference to float32 PyTorch; ``witness`` is the
    digest of the bits that the file had at recording, empty when it did not hold the tap.
    ``close`` counts decisions whose float64 margin was below the rounding noise.
    """

    sketch: Sketch
    limit_max: float
    limit_rms: float
    witness: bytes
    close: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenOutput:
    """One output of one case.

    ``values`` are exact (integers) or lossless float32, ``None`` above the size that is
    stored; ``limit_max`` bounds the difference to them; ``witness`` as in ``Expected``, of the
    file as it is deployed.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    values: np.ndarray | None
    limit_max: float
    limit_rms: float
    witness: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenCase:
    """One case: where its inputs come from, its outputs, and all taps in order."""

    name: str
    origin: str
    inputs: Mapping[str, str]
    expect_empty: tuple[str, ...]
    outputs: tuple[GoldenOutput, ...]
    taps: tuple[Expected, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """A whole golden.

    Attributes:
        pipeline, pipeline_digest, graph_digest: which pipeline, in which state.
        weights: source, digest, seeded. reason: why it was recorded.
        replaces: digest of the golden that it replaced, "" for the first.
        environment: flat, name -> text.
        judged: who was judged against what at recording, with which verdict.
        run: threads, provider, level, window_bytes; a check repeats them.
        inputs: of the graph.
        interface: of the file that was judged; None in goldens that were recorded before it was.
        left_out: cases of the pipeline that were not recorded on purpose.
    """

    pipeline: str
    pipeline_digest: str
    graph_digest: str
    weights: Mapping[str, Any]
    reason: str
    replaces: str
    tool_version: str
    environment: Mapping[str, str]
    judged: Mapping[str, Any]
    run: Mapping[str, Any]
    inputs: tuple[TensorSpec, ...]
    left_out: tuple[str, ...]
    taps: tuple[PlannedTap, ...]
    nodes: tuple[GraphNode, ...]
    cases: tuple[GoldenCase, ...]
    interface: Interface | None = None
    digest: str = field(default="")

    @property
    def vouched(self) -> bool:
        """True where PyTorch gave the values; False for what a file gave of itself."""
        return self.judged.get(VOUCHED_BY) != FILE_ITSELF

    def case(self, name: str) -> GoldenCase | None:
        """A case by name."""
        return next((case for case in self.cases if case.name == name), None)


def pack_taps(taps: tuple[Expected, ...]) -> dict[str, np.ndarray]:
    """Columns of a case file; shapes are padded with -1."""
    rank = max((len(tap.sketch.shape) for tap in taps), default=0)
    shapes = np.full((len(taps), max(rank, 1)), -1, np.int32)
    for row, tap in enumerate(taps):
        shapes[row, : len(tap.sketch.shape)] = tap.sketch.shape
    sketches = [tap.sketch for tap in taps]
    return {
        "taps.shape": shapes,
        "taps.buckets": _rows([s.buckets for s in sketches], (BUCKETS,), np.float32),
        "taps.stats": _rows([s.stats for s in sketches], (len(STATS),), np.float32),
        "taps.nonfinite": _rows([s.nonfinite for s in sketches], (3,), np.int32),
        "taps.limits": _rows([(t.limit_max, t.limit_rms) for t in taps], (2,), np.float64),
        "taps.close": _rows([t.close for t in taps], (), np.int32),
        "taps.places": _digests([s.places for s in sketches]),
        "taps.bits": _digests([s.bits for s in sketches]),
        "taps.witness": _digests([t.witness for t in taps]),
    }


_COLUMNS = {
    "shape": (np.int32, 0),  # as many axes as the tap with the most of them has
    "buckets": (np.float32, BUCKETS),
    "stats": (np.float32, len(STATS)),
    "nonfinite": (np.int32, 3),
    "limits": (np.float64, 2),
    "close": (np.int32, None),
    "places": (np.uint8, DIGEST_BYTES),
    "bits": (np.uint8, DIGEST_BYTES),
    "witness": (np.uint8, DIGEST_BYTES),
}
"""dtype and width of every column; 0 for any width, None for one value a row."""


def unpack_taps(
    columns: Mapping[str, np.ndarray], taps: tuple[PlannedTap, ...]
) -> tuple[Expected, ...]:
    """The reverse of :func:`pack_taps`.

    Raises:
        KeyError, ValueError: the columns are not those of so many taps.
    """
    for name, (dtype, width) in _COLUMNS.items():
        column = columns[f"taps.{name}"]
        rows = (len(taps), *(() if width is None else (width or column.shape[-1],)))
        if column.dtype != dtype or column.shape != rows:
            raise ValueError(f"taps.{name} is not the column of {len(taps)} taps")
    limits = columns["taps.limits"]
    if not np.isfinite(limits).all() or (limits < 0).any():
        raise ValueError("a limit of a tap is none")
    unpacked = []
    for row, tap in enumerate(taps):
        shape = tuple(int(size) for size in columns["taps.shape"][row] if size >= 0)
        limits = columns["taps.limits"][row]
        nonfinite = columns["taps.nonfinite"][row]
        witness = columns["taps.witness"][row].tobytes()
        unpacked.append(
            Expected(
                sketch=Sketch(
                    shape=shape,
                    dtype=tap.dtype,
                    buckets=columns["taps.buckets"][row].astype(np.float64),
                    stats=columns["taps.stats"][row].astype(np.float64),
                    nonfinite=(int(nonfinite[0]), int(nonfinite[1]), int(nonfinite[2])),
                    places=columns["taps.places"][row].tobytes(),
                    bits=columns["taps.bits"][row].tobytes(),
                ),
                limit_max=float(limits[0]),
                limit_rms=float(limits[1]),
                witness=witness if any(witness) else b"",
                close=int(columns["taps.close"][row]),
            )
        )
    return tuple(unpacked)


def _rows(rows: list[Any], shape: tuple[int, ...], dtype: type) -> np.ndarray:
    return np.array(rows, dtype=dtype).reshape(len(rows), *shape)


def _digests(digests: list[bytes]) -> np.ndarray:
    joined = b"".join(digest or bytes(DIGEST_BYTES) for digest in digests)
    return np.frombuffer(joined, np.uint8).reshape(len(digests), DIGEST_BYTES)
