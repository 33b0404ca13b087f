"""A file with a VAD, run segment by segment in batches of bounded size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from exporter.errors import ArtifactError
from exporter.execution.onnxruntime import Deployment, PartRun
from exporter.execution.segment_batches import in_order, plan_batches
from exporter.graph.index import GraphIndex
from exporter.graph.segment_split import SEGMENTS, split_at_segments


class SegmentRun:
    """Two sessions on one file: its VAD runs once per recording, the rest once per batch.

    Args:
        graph: of ``path``, with its weights left in place.
        path: the file.

    Raises:
        ArtifactError: the file cannot be cut at its segments, or onnxruntime refuses a part.
    """

    def __init__(self, graph: GraphIndex, path: Path, deployment: Deployment) -> None:
        split = split_at_segments(graph, str(path))
        self._path = path
        self._counts = split.counts
        self._order = graph.outputs
        self._front = PartRun(split.front, path.parent, deployment)
        self._back = PartRun(split.back, path.parent, deployment)

    def run(
        self, inputs: Mapping[str, np.ndarray], *, max_padded: int, per_batch: int
    ) -> dict[str, np.ndarray]:
        """Outputs by name, as the whole file gives them.

        Args:
            inputs: the file's, by name.
            max_padded, per_batch: in samples, see ``plan_batches``.

        Raises:
            OnnxStoppedError: onnxruntime stops.
            ArtifactError: an output has not one row per segment.
        """
        found = self._front.run(inputs)
        counts = {name: found.pop(name) for name in self._counts}
        segments = found[SEGMENTS]
        for name, value in counts.items():
            if value[0] != len(segments):
                raise self._refusal(f"'{name}' is not the number of segments")
        # Without speech the file runs once as well: it knows what its empty outputs look like.
        batches = plan_batches(segments[:, 1] - segments[:, 0], max_padded, per_batch)
        batches = batches or [np.arange(0)]
        parts = [self._batch(inputs, segments[rows], counts) for rows in batches]
        try:
            for name in self._back.outputs:
                values = [part[name] for part in parts]
                found[name] = in_order(values, batches, len(segments), where=name)
        except ValueError as error:
            raise self._refusal(str(error)) from error
        return {name: found[name] for name in self._order}

    def _batch(
        self,
        inputs: Mapping[str, np.ndarray],
        segments: np.ndarray,
        counts: Mapping[str, np.ndarray],
    ) -> dict[str, np.ndarray]:
        here = {n: np.concatenate([[len(segments)], v[1:]]) for n, v in counts.items()}
        return self._back.run({**inputs, **here, SEGMENTS: segments})

    def _refusal(self, problem: str) -> ArtifactError:
        return ArtifactError(
            problem, where=str(self._path), remedy="run the file as a whole instead"
        )
