"""What a fault is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx
from torch import nn

from exporter.graph.program import Program
from tests.faults.editor import Editor


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One mistake, made on purpose.

    Attributes:
        change: makes it; its name is the fault's name, its docstring says what it is.
        layers: module paths of which the tool may name any: where the changed op or weight is,
            and, where the two sides of an edge cannot be told apart, the module behind it.
        finding: kinds of ``difference_kinds.Difference`` of which one must be found at that place.
        detail: text that must occur in that difference's name, expected or actual value.
    """

    change: Callable[[Editor], None]
    layers: tuple[str, ...]
    finding: tuple[str, ...]
    detail: str = ""

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.change.__name__

    @property
    def what(self) -> str:
        """One sentence."""
        return " ".join((self.change.__doc__ or "").split()).rstrip(".")

    @property
    def stages(self) -> frozenset[str]:
        """First part of the module paths: vad, segmenter, cut, fbank, lfr, cmvn, model."""
        return frozenset(layer.split(".")[0] for layer in self.layers)

    def apply(self, model: onnx.ModelProto, program: Program) -> onnx.ModelProto:
        """A tampered copy of ``model``."""
        editor = Editor(model, program)
        self.change(editor)
        return editor.model


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleFault:
    """One mistake in the module.

    Attributes:
        change: makes it, in place.
        layers: as in ``Fault``.
        refused: it must not even export; the refusal names one of ``layers``.
    """

    change: Callable[[nn.Module], None]
    layers: tuple[str, ...]
    refused: bool = False

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.change.__name__

    @property
    def what(self) -> str:
        """One sentence."""
        return " ".join((self.change.__doc__ or "").split()).rstrip(".")
