"""Run an ONNX file for a golden: its outputs as deployed, a sketch of every layer. No PyTorch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from exporter.core.errors import first_line
from exporter.core.tensors import Arrays, PlannedTap
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import FileRun, WindowRun
from exporter.execution.onnx_windows import OnnxWindows
from exporter.golden.judge_case import Observed
from exporter.golden.sketch import Sketch, sketch
from exporter.graph.index import GraphIndex

WINDOW_BYTES = 256 << 20
"""Taps that one window holds. A constant: other windows are other sessions, and other bits."""
_ELEMENT_BYTES = 4


class Observer:
    """One file, opened once, run on any number of cases.

    Args:
        path: the file, run untouched for its outputs.
        graph: the same file, walked in windows on its own values for its taps.
        taps: of the golden, in the program's order; those that the file lacks are left out.
        window_bytes: what the taps of one window may hold together.
        outputs_of: gives the outputs in place of a session of the file as a whole.
    """

    def __init__(
        self,
        path: Path,
        graph: GraphIndex,
        taps: Sequence[PlannedTap],
        deployment: Deployment,
        window_bytes: int = WINDOW_BYTES,
        *,
        outputs_of: Callable[[Arrays], Mapping[str, np.ndarray]] | None = None,
    ):
        self._outputs_of = outputs_of or FileRun(path, deployment).run
        self._graph = graph
        self._deployment = deployment
        self._taps = taps
        self._window_bytes = window_bytes
        self._sessions: dict[tuple, WindowRun] = {}
        self._stored = {
            tap.onnx_name: sketch(tap.tap.name, graph.array(tap.onnx_name))
            for tap in taps
            if tap.onnx_name in graph.initializers
        }

    def run(self, inputs: Arrays, elements: Sequence[int]) -> Observed:
        """Run the file on one case.

        Args:
            elements: how many elements each tap has; decides where windows are cut.
        """
        windows = list(self._cut(elements))
        sketches, stopped, _ = self._walk(inputs, windows)
        if stopped:
            # Once more, a tap at a time, to learn which one cannot be computed.
            sketches, stopped, at = self._walk(
                inputs, [[tap] for window in windows for tap in window]
            )
            return Observed(outputs={}, taps=sketches, stopped=stopped, stopped_at=at)
        try:
            outputs = self._outputs_of(inputs)
        except Exception as error:  # noqa: BLE001 - what it says is the finding
            return Observed(outputs={}, taps=sketches, stopped=first_line(error, 1000))
        return Observed(outputs=outputs, taps=sketches)

    def _cut(self, elements: Sequence[int]) -> Iterator[list[PlannedTap]]:
        window: list[PlannedTap] = []
        bytes_in_window = 0
        for tap, count in zip(self._taps, elements, strict=True):
            if tap.onnx_name not in self._graph.producer:
                continue
            window.append(tap)
            bytes_in_window += count * _ELEMENT_BYTES
            if bytes_in_window > self._window_bytes:
                yield window
                window, bytes_in_window = [], 0
        if window:
            yield window

    def _walk(
        self, inputs: Arrays, windows: Sequence[Sequence[PlannedTap]]
    ) -> tuple[dict[str, Sketch], str, str]:
        """Sketches by name; what stopped it, and where."""
        sketches = dict(self._stored)
        walk = OnnxWindows(
            self._graph,
            inputs,
            self._deployment,
            taps=frozenset(tap.onnx_name for window in windows for tap in window),
            sessions=self._sessions,
        )
        for number, window in enumerate(windows):
            names = [tap.onnx_name for tap in window]
            values = walk.advance(names, last=number == len(windows) - 1)
            if "" in walk.stopped:
                return sketches, walk.stopped[""], names[0]
            for tap in window:
                sketches[tap.onnx_name] = sketch(tap.tap.name, values[tap.onnx_name])
        return sketches, "", ""


def input_digests(inputs: Arrays) -> dict[str, str]:
    """sha256 of dtype, shape and bits of every input."""
    return {name: _digest(np.asarray(array)) for name, array in sorted(inputs.items())}


def _digest(array: np.ndarray) -> str:
    head = f"{array.dtype.name}{list(array.shape)}".encode()
    return hashlib.sha256(head + np.asarray(array, order="C").tobytes()).hexdigest()
