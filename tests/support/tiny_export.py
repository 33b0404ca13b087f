"""The tiny SenseVoice as a file, for tests that need one to compare with or to tamper with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
from torch import nn

from exporter.cases.load import load_cases
from exporter.config import load_pipeline
from exporter.core.tensors import Case
from exporter.graph.capture import capture
from exporter.graph.export import export
from exporter.graph.onnx_file import read_model
from exporter.graph.program import Program
from exporter.graph.program_file import load_program
from exporter.graph.wrap import wrap
from tests.support.files import simplified

TINY = Path(__file__).parents[2] / "pipelines" / "sensevoice_tiny.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What an export leaves: the reference, the simplified file, and cases to run both on."""

    program: Program
    model: onnx.ModelProto
    cases: tuple[Case, ...]


def export_tiny(
    change: Callable[[nn.Module], None] | None = None, *, cases: tuple[str, ...] = ("english",)
) -> Export:
    """Export and simplify ``pipelines/sensevoice_tiny.yaml``; takes about 20 seconds.

    Args:
        change: applied to the module before it is captured.
        cases: names of the pipeline's cases.
    """
    pipeline = load_pipeline(TINY)
    wrapped = wrap(pipeline)
    if change is not None:
        change(wrapped.module)
    captured = capture(wrapped.module, wrapped.example, wrapped.dynamic_shapes)
    exported = export(
        captured, inputs=wrapped.inputs, outputs=wrapped.outputs, opset=pipeline.export.opset
    )
    return Export(
        program=exported.program,
        model=simplified(exported.model),
        cases=load_cases(pipeline, wrapped.inputs, cases),
    )


def read_export(folder: Path, *, cases: tuple[str, ...] = ("english",)) -> Export:
    """The same from the output folder of a finished run."""
    pipeline = load_pipeline(TINY)
    return Export(
        program=load_program(folder / "program"),
        model=read_model(folder / "model.onnx"),
        cases=load_cases(pipeline, wrap(pipeline).inputs, cases),
    )
