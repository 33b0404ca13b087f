"""A wrapped pipeline as the target of contracts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from exporter.contracts.onnx_side import OnnxSide, exported, opened
from exporter.contracts.target import Target
from exporter.core.tensors import Case, Tap
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import FileRun
from exporter.graph.index import GraphIndex
from exporter.graph.program import Program
from exporter.graph.wrap import Wrapped


def target_from_wrapped(
    wrapped: Wrapped,
    cases: Sequence[Case],
    *,
    name: str,
    file: Path | None = None,
    taps: Mapping[str, Tap] | None = None,
    program: Program | None = None,
    deployment: Deployment | None = None,
    sweep: Mapping[str, tuple[int, ...]] | None = None,
    thorough: bool = False,
    opset: int = 18,
    graph: GraphIndex | None = None,
    session: FileRun | None = None,
) -> Target:
    """A pipeline's graph under contract.

    Args:
        wrapped: module and specs.
        cases: golden inputs; the first is what probes are cut from.
        file: the ONNX file of a finished run; exported on demand without one.
        taps, program: what is known of that file. graph, session: the file, open already.
        sweep: sizes per axis or input, as ``lengths`` in the YAML.
    """
    side: OnnxSide
    if file is not None:
        side = opened(
            file, taps=taps, program=program, deployment=deployment, graph=graph, session=session
        )
    else:
        side = exported(
            wrapped.module,
            wrapped.inputs,
            wrapped.outputs,
            wrapped.example,
            wrapped.dynamic_shapes,
            opset=opset,
            deployment=deployment,
        )
    return Target(
        name=name,
        module=wrapped.module,
        inputs=wrapped.inputs,
        outputs=wrapped.outputs,
        cases=tuple(cases),
        onnx=side,
        example=wrapped.example,
        sweep=sweep or {},
        thorough=thorough,
    )
