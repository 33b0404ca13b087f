"""What a build leaves in a folder: written once, and read in one way by whoever comes later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from exporter.build.cached_export import PROGRAM, SHIPPED, TAPS
from exporter.core.tensors import Tap, TensorSpec
from exporter.graph.index import GraphIndex
from exporter.graph.onnx_file import open_graph
from exporter.graph.program import Program
from exporter.graph.program_file import OPS_FILE, load_program
from exporter.graph.taps import read_taps


@dataclass(frozen=True, kw_only=True)
class Artifacts:
    """The folder of a build; what is in it is read when it is asked for, and held.

    Attributes:
        folder: holds ``model.onnx``, ``program/`` and ``taps.json``.
        made: the program, where whoever made it has it still.

    Raises:
        ArtifactError: from the properties, a file is missing or damaged.
    """

    folder: Path
    made: Program | None = None

    @property
    def shipped(self) -> Path:
        """The file that users get."""
        return self.folder / SHIPPED

    @property
    def complete(self) -> bool:
        """True when there is a file, and the program that it came from."""
        return self.shipped.is_file() and (self.folder / PROGRAM / OPS_FILE).is_file()

    @cached_property
    def program(self) -> Program:
        """The captured program, the reference of all layers."""
        return self.made or load_program(self.folder / PROGRAM)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Specifications of the inputs, sizes of their axes and initial states included."""
        return self.program.specs

    @cached_property
    def graph(self) -> GraphIndex:
        """The shipped file, indexed."""
        return open_graph(self.shipped)

    @cached_property
    def metadata(self) -> Mapping[str, str]:
        """What the shipped file says of itself."""
        return {item.key: item.value for item in self.graph.model.metadata_props}

    @cached_property
    def taps(self) -> Mapping[str, Tap]:
        """Points where program and file hold the same values; {} where none were written."""
        path = self.folder / TAPS
        return read_taps(path) if path.is_file() else {}
