"""The target that a pipeline's graph is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from exporter.contracts.onnx_side import OnnxSide, exported
from exporter.contracts.target import Target
from exporter.core.tensors import Case
from exporter.execution.deployment import Deployment
from exporter.graph.wrap import Wrapped


def target_from_wrapped(
    wrapped: Wrapped,
    cases: Sequence[Case],
    *,
    name: str,
    file: OnnxSide | None = None,
    deployment: Deployment | None = None,
    opset: int = 18,
    **options: Any,
) -> Target:
    """A pipeline's graph under contract.

    Args:
        wrapped: module and specs.
        cases: golden inputs; the first is what probes are cut from.
        file: of a finished run; without one it is exported on demand, for ``deployment``.
        options: further attributes of ``Target``.
    """
    specs, example = (wrapped.inputs, wrapped.outputs), wrapped.example
    made = {"opset": opset, "deployment": deployment}
    side = file or exported(wrapped.module, *specs, example, wrapped.dynamic_shapes, **made)
    options = {"states": wrapped.states, **options}
    parts = {"module": wrapped.module, "inputs": specs[0], "outputs": specs[1], "example": example}
    return Target(name=name, cases=tuple(cases), onnx=side, **parts, **options)
