"""Run a shipped file with a VAD on recordings of any length, in bounded memory.

    from exporter.runtime import SpeechRunner

    runner = SpeechRunner("runs/sensevoice/model.onnx", threads=2)
    found = runner.run(waveform, sample_rate_hz=16000, language="en", text_norm="woitn")
    for (start, end), ids, count in zip(
        found["segments"], found["token_ids"], found["token_lengths"]
    ):
        print(start / 16000, end / 16000, ids[:count])

``model.onnx`` by itself takes all segments of a recording as one batch, each padded to the longest:
its memory grows with the recording, and it computes on padding. The runner cuts the file at
``segments``, runs the VAD once, and then batches of segments of about the same length. Names,
shapes and order of what it returns are those of the file.

Needs numpy, onnx and onnxruntime (or onnxruntime-gpu); torch is not loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from exporter.build.metadata import INPUT_CHOICES, choices_of, sample_rate_of
from exporter.core.errors import AudioError, UserInputError
from exporter.execution.deployment import Deployment
from exporter.execution.providers import check_provider
from exporter.execution.segment_run import SegmentRun
from exporter.graph.index import index_graph
from exporter.graph.onnx_file import read_in_place
from exporter.graph.segment_split import WAVEFORM

if TYPE_CHECKING:
    from exporter.monitor.monitor import Monitor

__all__ = ["SpeechRunner"]

MAX_PADDED_S = 40.0
"""Larger batches are hardly faster: what a batch costs by itself is small beside this."""
BATCH_COST_S = 2.0
"""A batch costs as much as so many seconds of audio, whatever is in it: all weights are read once.
For 234 million parameters on two cores; scripts/bench_batch_cost.py measures it. Too little costs
less than too much: short recordings are then not padded for nothing."""


class SpeechRunner:
    """A shipped file, cut at its segments.

    Args:
        path: ``model.onnx`` of a pipeline with a vad; must stay where it is while this is used.
        threads: intra-op threads; 0 lets onnxruntime choose.
        provider: "cpu" or "cuda". On "cuda" the VAD stays on the CPU, whose LSTM takes one frame
            after the other; segments go to the device in batches.
        tf32: on "cuda", compute float32 products with 10 bits of mantissa: faster, and other
            numbers than those that were verified.
        max_padded_s: most seconds of audio in a batch, padding included; a longer segment is run
            alone. This is what bounds the memory.
        monitor: watches what this runner does (``exporter.monitor``); it has one runner.

    Raises:
        ArtifactError: the file cannot be read, or has no segments to cut it at.
        UserInputError: the provider is not present, or ``max_padded_s`` is not above 0.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int = 0,
        provider: str = "cpu",
        tf32: bool = False,
        max_padded_s: float = MAX_PADDED_S,
        monitor: Monitor | None = None,
    ) -> None:
        self.path = Path(path)
        if not max_padded_s > 0:
            raise UserInputError(
                f"max_padded_s is {max_padded_s}", remedy="give seconds of audio, more than 0"
            )
        if tf32 and provider == "cpu":
            raise UserInputError("tf32 is of no use on the CPU", remedy="leave it out")
        self.deployment = Deployment(provider=check_provider(provider), threads=threads, tf32=tf32)
        model = read_in_place(self.path)
        metadata = {item.key: item.value for item in model.metadata_props}
        self.sample_rate_hz = sample_rate_of(metadata, self.path)
        self._max_padded = int(max_padded_s * self.sample_rate_hz)
        self._per_batch = int(BATCH_COST_S * self.sample_rate_hz)
        self._choices = choices_of(metadata.get(INPUT_CHOICES, ""))
        graph = index_graph(model, self.path.parent)
        self._run = SegmentRun(graph, self.path, self.deployment)
        self._dtypes = {
            value.name: helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            for value in model.graph.input
            if value.name in graph.inputs
        }
        self._monitor = monitor
        if monitor is not None:
            monitor.attach(self)

    @property
    def provider(self) -> str:
        """The provider that the sessions really have, in onnxruntime's words."""
        return self._run.provider

    def run(
        self, waveform: np.ndarray, *, sample_rate_hz: int | None = None, **inputs: object
    ) -> dict[str, np.ndarray]:
        """Recognise a recording.

        Args:
            waveform: ``[num_samples]`` float in [-1, 1], mono.
            sample_rate_hz: of the waveform, to be checked; None: you know that it is right.
            inputs: the file's other inputs by name, as numbers or by their readable names
                (``language="en"``).

        Returns:
            The file's outputs by name: ``segments`` [S, 2] in samples, and one row per segment of
            what the model returns. Behind a row's own length there is -1 in integers, 0 in floats.

        Raises:
            AudioError: the waveform has another rate, shape or type.
            UserInputError: an input is missing or unknown.
            ExportVerifyError: onnxruntime stops, or the file is not what it seemed.
        """
        self._check_audio(waveform, sample_rate_hz)
        feeds = {WAVEFORM: np.asarray(waveform, np.float32)}
        wanted = [name for name in self._dtypes if name != WAVEFORM]
        if sorted(wanted) != sorted(inputs):
            raise UserInputError(
                f"given are the inputs {', '.join(sorted(inputs)) or 'none'}",
                where=str(self.path),
                remedy=f"give {', '.join(map(self._with_choices, wanted)) or 'none'}",
            )
        feeds |= {name: self._number(name, inputs[name]) for name in wanted}
        outputs = self.run_arrays(feeds)
        if self._monitor is not None:
            self._monitor.served(feeds, outputs)
        return outputs

    def run_arrays(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name, of inputs that are the file's already; no monitor is told."""
        return self._run.run(feeds, max_padded=self._max_padded, per_batch=self._per_batch)

    def _check_audio(self, waveform: np.ndarray, sample_rate_hz: int | None) -> None:
        if sample_rate_hz not in (None, self.sample_rate_hz):
            raise AudioError(
                f"the recording has {sample_rate_hz} Hz, the model takes {self.sample_rate_hz} Hz",
                remedy="resample it before",
            )
        if waveform.ndim != 1 or not len(waveform):
            raise AudioError(
                f"the waveform has the shape {list(waveform.shape)}",
                remedy="give one channel of at least one sample, [num_samples]",
            )
        if not np.issubdtype(waveform.dtype, np.floating):
            raise AudioError(
                f"the waveform holds {waveform.dtype}",
                remedy="give floats in [-1, 1]; samples of 16 bits are divided by 32768",
            )

    def _number(self, name: str, value: object) -> np.ndarray:
        if isinstance(value, str):
            choices = self._choices.get(name, {})
            if value not in choices:
                raise UserInputError(
                    f"'{value}' is no {name}", remedy=f"give {self._with_choices(name)}"
                )
            value = choices[value]
        return np.asarray(value, self._dtypes[name])

    def _with_choices(self, name: str) -> str:
        choices = ", ".join(self._choices.get(name, {}))
        return f"{name} (one of {choices})" if choices else name
