"""The ONNX file of a target: given, or exported the first time that a contract asks for it."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn

from exporter.contracts.memo import Memo, digest_of
from exporter.contracts.result import Location
from exporter.core.errors import ArtifactError, OnnxStoppedError, StageError
from exporter.core.files import temporary_folder
from exporter.core.stopwatch import FILES, timed
from exporter.core.tensors import Arrays, Tap, TensorSpec
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import FileRun
from exporter.execution.onnx_windows import OnnxWindows
from exporter.graph.capture import capture
from exporter.graph.export import export
from exporter.graph.index import GraphIndex, index_graph
from exporter.graph.node_origin import module_of
from exporter.graph.onnx_file import open_graph
from exporter.graph.program import Program
from exporter.models.custom_translation import translations_of

_TAPS_PER_WINDOW = 96


@dataclass(kw_only=True)
class OnnxFile:
    """What is known of an ONNX file.

    Attributes:
        path: the file.
        graph: the file, indexed.
        taps: ONNX value name -> where in the model it comes from.
        program: the captured program that was translated, if it is known.
        captured: the same as torch.export made it, if it is known.
    """

    path: Path
    graph: GraphIndex
    taps: Mapping[str, Tap]
    program: Program | None = None
    captured: torch.export.ExportedProgram | None = None


class OnnxSide:
    """The exported side of a target.

    Args:
        make: makes (or opens) the file; called at most once. A ``StageError`` or
            ``ArtifactError`` that it raises becomes ``problem``.
        deployment: how onnxruntime is set up.
        load: a file that onnxruntime refuses is a ``problem``, too.
        session: the file as ``deployment`` has it, where it is loaded already.
        capture_only: captures without translating; for contracts that need the program of a
            model that cannot be translated.
        names: name that is used here -> the file's, of inputs and outputs that it calls otherwise.
    """

    def __init__(
        self,
        make: Callable[[], OnnxFile],
        *,
        deployment: Deployment | None = None,
        capture_only: Callable[[], torch.export.ExportedProgram] | None = None,
        load: bool = True,
        session: FileRun | None = None,
        names: Mapping[str, str] | None = None,
    ):
        self.names = names or {}
        self._ours = {theirs: ours for ours, theirs in self.names.items()}
        self.deployment = deployment or Deployment()
        self._make = make
        self._capture_only = capture_only
        self._load = load
        self._file: OnnxFile | None = None
        self._captured: torch.export.ExportedProgram | None = None
        self._refusal: StageError | ArtifactError | None = None
        self._runs = {} if session is None else {session.deployment: session}
        self._sessions: dict[tuple, Any] = {}
        self._memo = Memo()
        self.forwards = 0

    @property
    def problem(self) -> str | None:
        """Why there is no file; ``None`` when there is one."""
        return None if self.refusal is None else str(self.refusal)

    @property
    def refusal(self) -> StageError | ArtifactError | None:
        """The error behind ``problem``."""
        self._ensure()
        return self._refusal

    @property
    def file(self) -> OnnxFile:
        """The file; ask ``problem`` first.

        Raises:
            ValueError: there is none.
        """
        self._ensure()
        if self._file is None:
            raise ValueError(self.problem)
        return self._file

    def _ensure(self) -> None:
        if self._file is None and self._refusal is None:
            try:
                file = self._make()
                if self._load and self.deployment not in self._runs:
                    self._runs[self.deployment] = FileRun(file.path, self.deployment)
                self._file = file
            except (StageError, ArtifactError) as error:
                self._refusal = error

    def captured(self) -> torch.export.ExportedProgram | None:
        """The captured program, if there is one or it can be made.

        Raises:
            StageError: torch.export refuses the module.
        """
        if self._file is not None and self._file.captured is not None:
            return self._file.captured
        if self._captured is None and self._capture_only is not None:
            self._captured = self._capture_only()
        return self._captured

    def run(self, inputs: Arrays, deployment: Deployment | None = None) -> dict[str, np.ndarray]:
        """Outputs of the file as it is shipped.

        Raises:
            OnnxStoppedError: onnxruntime raised.
        """
        wanted = deployment or self.deployment
        if wanted not in self._runs:
            self._runs[wanted] = FileRun(self.file.path, wanted, again=bool(self._runs))
        self.forwards += 1
        outputs = self._runs[wanted].run(self._theirs(inputs))
        return {self._ours.get(name, name): value for name, value in outputs.items()}

    def _theirs(self, inputs: Arrays) -> Arrays:
        return {self.names.get(name, name): value for name, value in inputs.items()}

    def recall(
        self, inputs: Arrays, deployment: Deployment | None = None, *, keep: bool = True
    ) -> dict[str, np.ndarray]:
        """As ``run``, of an earlier run on equal inputs where there was one; not for what asks
        whether a run repeats. The arrays may be read-only.

        Args:
            keep: as of ``Target.recall``.
        """
        key = (deployment or self.deployment, digest_of(inputs))
        outputs = self._memo.get(key)
        if outputs is None:
            outputs = self.run(inputs, deployment)
            if keep:
                self._memo.put(key, outputs)
        return outputs

    def value_names(self) -> tuple[str, ...]:
        """Values of the file in order: those with a known origin, or all of them without a map."""
        graph, taps = self.file.graph, self.file.taps
        names = [name for node in graph.nodes for name in node.output if name]
        known = [name for name in names if name in taps or name in graph.outputs]
        return tuple(known if taps else names)

    def walk(
        self, runs: tuple[Arrays, ...], names: Iterable[str] | None = None
    ) -> Iterator[tuple[str, tuple[np.ndarray, ...]]]:
        """Walk the values of the file on several inputs in lock-step, a few at a time.

        Args:
            runs: inputs; each is walked on its own values.
            names: which values; all by default.

        Yields:
            (name, one array per run), in graph order; values that are no tensors are left out.

        Raises:
            OnnxStoppedError: onnxruntime stops at a piece, also where it runs the whole file.
        """
        wanted = list(self.value_names() if names is None else names)
        graph = self.file.graph
        walks = [
            OnnxWindows(
                graph,
                self._theirs(run),
                self.deployment,
                taps=frozenset(wanted),
                sessions=self._sessions,
            )
            for run in runs
        ]
        self.forwards += len(runs)
        for start in range(0, len(wanted), _TAPS_PER_WINDOW):
            chunk = wanted[start : start + _TAPS_PER_WINDOW]
            last = start + _TAPS_PER_WINDOW >= len(wanted)
            pieces = [walk.advance(chunk, last=last) for walk in walks]
            for said in (said for walk in walks for said in walk.stopped.values()):
                raise OnnxStoppedError(said)
            for name in chunk:
                values = tuple(values[name] for values in pieces)
                if all(isinstance(value, np.ndarray) for value in values):
                    yield name, values

    def place(self, name: str) -> Location:
        """Where in the model a value of the file comes from."""
        file = self.file
        tap = file.taps.get(name)
        if tap is not None:
            return Location(module=tap.module, op=tap.op, source=tap.source, value=name)
        node = file.graph.producer.get(name)
        if node is None:
            return Location(value=name)
        proto = file.graph.nodes[node]
        near = self._nearest_tap(node)
        return Location(
            module=near.module if near else module_of(proto),
            op=proto.op_type,
            node=proto.name,
            source=near.source if near else "",
            value=name,
        )

    def place_of_node(self, name: str) -> Location | None:
        """The same of a node, by its name; ``None`` where the file has none of that name."""
        proto = next((node for node in self.file.graph.nodes if name and node.name == name), None)
        return None if proto is None else self.place(proto.output[0])

    def _nearest_tap(self, node: int) -> Tap | None:
        """The nearest value behind a node whose origin is known."""
        graph, taps = self.file.graph, self.file.taps
        queue, seen = [node], {node}
        while queue:
            current = queue.pop(0)
            for name in graph.nodes[current].output:
                if name in taps:
                    return taps[name]
                for user in graph.consumers.get(name, ()):
                    if user not in seen:
                        seen.add(user)
                        queue.append(user)
        return None


def opened(
    path: Path,
    *,
    taps: Mapping[str, Tap] | None = None,
    program: Program | None = None,
    deployment: Deployment | None = None,
    graph: GraphIndex | None = None,
    session: FileRun | None = None,
    names: Mapping[str, str] | None = None,
) -> OnnxSide:
    """The file of a finished run, or anybody's file.

    Args:
        graph, session: the file as it is open already; each is made when it is not given.
        names: as of ``OnnxSide``.
    """

    def make() -> OnnxFile:
        with timed(FILES):
            opened = graph or open_graph(path)
        return OnnxFile(path=path, graph=opened, taps=taps or {}, program=program)

    return OnnxSide(make, deployment=deployment, session=session, names=names)


def exported(
    module: nn.Module,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    example: Mapping[str, Tensor],
    dynamic_shapes: Mapping[str, Any],
    *,
    opset: int = 18,
    deployment: Deployment | None = None,
    load: bool = True,
) -> OnnxSide:
    """Export on demand, into a temporary folder that lives as long as the result."""
    kept = contextlib.ExitStack()
    folder = kept.enter_context(temporary_folder())

    def only_capture() -> torch.export.ExportedProgram:
        return capture(module, example, dynamic_shapes)

    def make() -> OnnxFile:
        captured = only_capture()
        written = export(
            captured,
            inputs=inputs,
            outputs=outputs,
            opset=opset,
            translations=translations_of(module),
        )
        model = ir.to_proto(written.model)
        path = folder / "model.onnx"
        onnx.save(model, str(path))
        return OnnxFile(
            path=path,
            graph=index_graph(model, path.parent),
            taps=program_taps(written.program),
            program=written.program,
            captured=captured,
        )

    side = OnnxSide(make, deployment=deployment, capture_only=only_capture, load=load)
    weakref.finalize(side, kept.close)
    return side


def program_taps(program: Program) -> dict[str, Tap]:
    """ONNX value name -> tap, of everything that a program computes."""
    return {program.onnx_name(op.name): op.tap for op in program.ops if op.kind == "tensor"}
