"""A file with a VAD, run segment by segment in batches of bounded size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from exporter.core.errors import ArtifactError
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import PartRun
from exporter.execution.segment_batches import in_order, plan_batches
from exporter.graph.index import GraphIndex
from exporter.graph.segment_split import SEGMENTS, split_at_segments

_MANY_BATCHES = 8
"""After more of them memory is given back, for which the VAD of the next long recording is glad.
Taking it anew costs a few per cent of what a short recording takes."""


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
        # The VAD's memory grows with the recording; it must not stay while batches are run. Nor
        # must a thread of its: a second one gains it nothing, a step of its LSTM is too short, and
        # would spin on the core that the first batch wants. Nor a device: each step of the LSTM
        # would wait for a launch and the copies around it.
        alone = replace(deployment.on_cpu(), threads=1)
        self._front = PartRun(split.front, path.parent, alone, arena=False)
        self._back = PartRun(split.back, path.parent, deployment)

    @property
    def provider(self) -> str:
        """The provider that segments are run on, in onnxruntime's words."""
        return self._back.provider

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
        outputs = self._front.run(inputs)
        counts = {name: outputs.pop(name) for name in self._counts}
        segments = outputs[SEGMENTS]
        for name, value in counts.items():
            if value[0] != len(segments):
                raise self._refusal(f"'{name}' is not the number of segments")
        # Without speech the file runs once as well: it knows what its empty outputs look like.
        batches = plan_batches(segments[:, 1] - segments[:, 0], max_padded, per_batch)
        batches = batches or [np.arange(0)]
        parts = []
        for number, rows in enumerate(batches, 1):
            release = number == len(batches) > _MANY_BATCHES
            feeds = {**inputs, **_counted(counts, len(rows)), SEGMENTS: segments[rows]}
            parts.append(self._back.run(feeds, release=release))
        try:
            for name in self._back.outputs:
                values = [part[name] for part in parts]
                outputs[name] = in_order(values, batches, len(segments), where=name)
        except ValueError as error:
            raise self._refusal(str(error)) from error
        return {name: outputs[name] for name in self._order}

    def _refusal(self, problem: str) -> ArtifactError:
        return ArtifactError(
            problem, where=str(self._path), remedy="run the file as a whole instead"
        )


def _counted(counts: Mapping[str, np.ndarray], num_rows: int) -> dict[str, np.ndarray]:
    """Counts with the number of a batch's rows instead of all segments'."""
    return {name: np.concatenate([[num_rows], value[1:]]) for name, value in counts.items()}
