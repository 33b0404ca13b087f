"""An ONNX file as a user makes one: plain ``torch.onnx.export`` of the pipeline's module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from exporter.config import load_pipeline
from exporter.graph.capture import quiet_exporter
from exporter.graph.wrap import wrap


def plain_export(
    yaml: Path,
    path: Path,
    *,
    change: Callable[[nn.Module], None] = lambda module: None,
    optimize: bool = True,
    trust: bool = False,
) -> Path:
    """Export the module of ``yaml`` without this package's exporter.

    Args:
        change: applied to the module before.
    """
    wrapped = wrap(load_pipeline(yaml, trust=trust))
    change(wrapped.module)
    with quiet_exporter():
        program = torch.onnx.export(
            wrapped.module,
            tuple(wrapped.example.values()),
            dynamo=True,
            dynamic_shapes=tuple(wrapped.dynamic_shapes[name] for name in wrapped.example),
            input_names=[spec.name for spec in wrapped.inputs],
            output_names=[spec.name for spec in wrapped.outputs],
            opset_version=18,
            optimize=optimize,
            verbose=False,
        )
    assert program is not None
    program.save(path)
    return path
