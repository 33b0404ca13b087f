"""Files, parts of files and windows of a graph as things that onnxruntime runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from exporter.core.errors import ArtifactError, OnnxStoppedError, UserInputError
from exporter.core.stopwatch import RUNNING, SESSIONS, timed
from exporter.core.tensors import Arrays
from exporter.execution.deployment import Deployment
from exporter.execution.ort_session import open_session, session_options
from exporter.execution.ort_values import ort_value, run_session
from exporter.graph.index import GraphIndex
from exporter.graph.onnx_file import read_in_place
from exporter.graph.subgraph import WindowGraph

_EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"


def _do_not_spin(options: ort.SessionOptions) -> None:
    """Let threads sleep when a run ends: torch computes next, and wants the cores.

    Not for whole files, which run as a user would run them.
    """
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")


def _opened(
    model: onnx.ModelProto | bytes | Path,
    options: ort.SessionOptions,
    deployment: Deployment,
    refused: Callable[[Exception], Exception],
) -> ort.InferenceSession:
    """As ``open_session``; ``refused`` makes the error of a model that onnxruntime refuses."""
    try:
        with timed(SESSIONS):
            return open_session(model, options, deployment)
    except UserInputError:
        raise
    except Exception as error:
        raise refused(error) from error


class FileRun:
    """A shipped file, loaded as a user would load it."""

    def __init__(self, path: Path, deployment: Deployment | None = None, *, again: bool = False):
        """Load ``path``.

        Args:
            again: the file has been read and loaded before. Its large weights are then mapped
                where they lie and not copied; graph, kernels and values are the same.

        Raises:
            ArtifactError: onnxruntime refuses the file (its message is kept).
        """
        self.deployment = deployment or Deployment()

        def refused(error: Exception) -> ArtifactError:
            return ArtifactError(
                f"onnxruntime refuses the file: {str(error)[:800]}",
                where=str(path),
                remedy="check the file with onnx.checker; debug names the node",
            )

        options = session_options(self.deployment)
        given: Path | onnx.ModelProto = path
        if again and not path.is_symlink():  # onnxruntime follows none that leads out of the folder
            options.add_session_config_entry(_EXTERNAL_FOLDER, str(path.parent.resolve()))
            given = read_in_place(path, again=True)
        self._session = _opened(given, options, self.deployment, refused)
        self.inputs = tuple(value.name for value in self._session.get_inputs())
        self.outputs = tuple(value.name for value in self._session.get_outputs())

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Outputs by name; inputs that the file does not have are left out."""
        feeds = {name: inputs[name] for name in self.inputs}
        return _copied(_run(self._session, self.outputs, feeds))


class WindowRun:
    """One window of a graph; its weights are handed over in memory.

    Args:
        shared: weights as onnxruntime is given them, by name; filled here, one for all windows.
    """

    def __init__(
        self,
        window: WindowGraph,
        graph: GraphIndex,
        deployment: Deployment,
        shared: dict[str, ort.OrtValue] | None = None,
    ):
        self.outputs = window.outputs
        self.inputs = window.inputs
        self._fed = {name: graph.array(name) for name in window.fed}
        self._session: ort.InferenceSession | None = None
        if not self.outputs:
            return  # onnxruntime refuses a graph in which nothing is left to do
        options = session_options(deployment)
        options.add_session_config_entry("session.disable_prepacking", "1")
        # Windows hold each tap as an output anyway; an arena would keep a second copy.
        options.enable_cpu_mem_arena = False
        _do_not_spin(options)
        shared = {} if shared is None else shared
        for name in window.weights:
            if name not in shared:
                shared[name] = ort_value(graph.array(name))
        self._values = [shared[name] for name in window.weights]
        options.add_external_initializers(list(window.weights), self._values)
        # Those inside of branches and constants are read by onnxruntime, where the file has them.
        options.add_session_config_entry(_EXTERNAL_FOLDER, str(graph.folder.resolve()))
        self._session = _opened(window.model, options, deployment, stopped_by)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs of the window by name."""
        if self._session is None:
            return {}
        given = {name: feeds[name] for name in self.inputs}
        return _run(self._session, self.outputs, given | self._fed)


_RELEASING = ort.RunOptions()
_RELEASING.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")


class PartRun:
    """A part of a file whose weights stay in the file: onnxruntime maps them, nobody copies them.

    Args:
        part: cut with ``in_place``.
        folder: where the file lies.
        arena: keep memory from run to run; without it a run is slower and leaves nothing behind.

    Raises:
        ArtifactError: onnxruntime refuses it.
    """

    def __init__(
        self, part: WindowGraph, folder: Path, deployment: Deployment, *, arena: bool = True
    ):
        self.inputs = part.inputs
        self.outputs = part.outputs
        options = session_options(deployment)
        options.enable_cpu_mem_arena = arena and options.enable_cpu_mem_arena
        options.add_session_config_entry(_EXTERNAL_FOLDER, str(folder.resolve()))

        def refused(error: Exception) -> ArtifactError:
            what = f"onnxruntime refuses a part of the file: {str(stopped_by(error))[:800]}"
            return ArtifactError(what, where=str(folder))

        self._session = _opened(part.model, options, deployment, refused)

    @property
    def provider(self) -> str:
        """The provider that the session has, in onnxruntime's words."""
        return self._session.get_providers()[0]

    def run(
        self, feeds: Mapping[str, np.ndarray], *, release: bool = False
    ) -> dict[str, np.ndarray]:
        """Outputs by name, as copies; with ``release`` the arena is given back afterwards."""
        given = {name: feeds[name] for name in self.inputs}
        options = _RELEASING if release else None
        return _copied(_run(self._session, self.outputs, given, options))


def _run(*given: Any) -> dict[str, np.ndarray]:
    """As ``_computed``, timed."""
    with timed(RUNNING):
        return _computed(*given)


def _computed(
    session: ort.InferenceSession,
    names: Sequence[str],
    feeds: Mapping[str, np.ndarray],
    options: ort.RunOptions | None = None,
) -> dict[str, np.ndarray]:
    given = {name: np.asarray(value, order="C") for name, value in feeds.items()}
    try:
        return dict(zip(names, run_session(session, list(names), given, options), strict=True))
    except Exception as error:
        raise stopped_by(error) from error


def _copied(results: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """An array of onnxruntime's keeps its session's whole arena in memory."""
    return {name: np.array(value) for name, value in results.items()}


def stopped_by(error: Exception) -> OnnxStoppedError:
    """What onnxruntime raised: its message without prefixes and terminal colours, and the node."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    node = re.search(r"while running (\w+) node\. Name:'([^']*)'", text)
    where = f"{node[1]} node '{node[2]}': " if node else ""
    message = where + (
        text.partition("Status Message: ")[2] or (text.splitlines() or [type(error).__name__])[0]
    )
    return OnnxStoppedError(message, node=node[2] if node else "")


class ModelRun:
    """A model that only exists in memory, without an arena: it keeps nothing between runs.

    Args:
        folder: where weights lie that the model points to.
    """

    def __init__(self, model: onnx.ModelProto, deployment: Deployment, folder: Path | None = None):
        options = session_options(deployment)
        options.enable_cpu_mem_arena = False
        if folder is not None:
            options.add_session_config_entry(_EXTERNAL_FOLDER, str(folder.resolve()))
        _do_not_spin(options)
        self._session = open_session(model, options, deployment)
        self.inputs = tuple(value.name for value in self._session.get_inputs())
        self.outputs = tuple(value.name for value in self._session.get_outputs())

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Outputs by name. Its time is its caller's: it is part of another computation."""
        feeds = {name: inputs[name] for name in self.inputs}
        return _computed(self._session, self.outputs, feeds)


def run_model(model: onnx.ModelProto, inputs: Arrays, deployment: Deployment) -> Arrays:
    """Run a small model that only exists in memory, once."""
    return ModelRun(model, deployment).run(inputs)
