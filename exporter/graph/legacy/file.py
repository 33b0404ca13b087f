"""A module -> ONNX with torch's legacy exporter; values of the file are named as the program's.

While the exporter traces, every value of the trace that the program has, too, is made an output of
the graph: it keeps its place through all that the exporter does to the graph, and gets the name
that is asked for. Then these outputs are taken back; the names stay.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from torch import Tensor, nn
from torch.onnx._internal.torchscript_exporter import utils

from exporter.core.files import temporary_folder
from exporter.core.tensors import TensorSpec
from exporter.graph.capture import quiet_exporter
from exporter.graph.legacy.trace import PythonRead, trace
from exporter.graph.legacy.translate import Translated, translate
from exporter.graph.onnx_file import read_model
from exporter.graph.program import Program

_MOST_OPSET = 20
"""The newest that the legacy exporter writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacyFile:
    """What the legacy exporter made.

    Attributes:
        model: the graph. program: the same trace as a program; its values have the names of the
            graph's. decisions: what the model's Python read while it was traced.
    """

    model: ir.Model
    program: Program
    decisions: tuple[PythonRead, ...]


def legacy_file(
    module: nn.Module,
    example: Mapping[str, Tensor],
    *,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    opset: int,
) -> LegacyFile:
    """Trace ``module`` and write the trace in ONNX.

    Raises:
        StageError: the trace has something that no program of ours holds.
        Exception: whatever the model, torch's tracer or its exporter raises.
    """
    names = [spec.name for spec in outputs]
    asked = list(names)
    tries: list[tuple[Translated, tuple[PythonRead, ...]]] = []

    def traced(model: nn.Module, args: Sequence[Any]) -> tuple[Any, Any]:
        trace_result = trace(model, args, list(example))
        translated = translate(trace_result, example, names)
        tries.append((translated, trace_result.decisions))
        extra = [name for name in translated.values if name not in translated.program.outputs]
        asked.extend(extra)
        for name in extra:
            trace_result.graph.registerOutput(translated.values[name])
        return trace_result.graph, (
            trace_result.outputs,
            *(translated.tensors[name] for name in extra),
        )

    with temporary_folder() as folder:
        path = folder / "traced.onnx"
        with torch.no_grad(), quiet_exporter(), _tracing_with(traced):
            torch.onnx.export(
                module,
                tuple(example.values()),
                path,
                dynamo=False,
                opset_version=min(opset, _MOST_OPSET),
                verbose=False,
                input_names=[spec.name for spec in inputs],
                output_names=asked,
                dynamic_axes={
                    spec.name: {
                        n: size for n, size in enumerate(spec.shape) if isinstance(size, str)
                    }
                    for spec in (*inputs, *outputs)
                },
            )
        model = ir.from_proto(read_model(path))
    translated, decisions = tries[0]
    del model.graph.outputs[len(names) :]
    RemoveUnusedNodesPass()(model)
    return LegacyFile(model=model, program=translated.program, decisions=decisions)


@contextlib.contextmanager
def _tracing_with(traced: Any) -> Iterator[None]:
    """Let the exporter trace with a function of ours."""
    saved = utils._trace_and_get_graph_from_model
    utils._trace_and_get_graph_from_model = traced
    try:
        yield
    finally:
        utils._trace_and_get_graph_from_model = saved
