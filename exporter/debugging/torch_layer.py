"""A layer of the captured program as a module that torch.export can save."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from exporter.core.files import replacing
from exporter.graph.capture import quiet_exporter
from exporter.graph.program import Program
from exporter.interpret.stepper import Stepper


class LayerModule(nn.Module):
    """Runs a program's ops in order; inputs and outputs in the program's order."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        self.held: dict[str, str] = {}
        for number, (name, key) in enumerate(program.weights.items()):
            # Buffer names may not hold dots.
            self.held[name] = f"weight_{number}_{key.replace('.', '_')}"
            self.register_buffer(self.held[name], program.tensors[key].clone())

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        values: dict[str, Any] = dict(zip(self.program.inputs, inputs, strict=True))
        values |= {name: getattr(self, attribute) for name, attribute in self.held.items()}
        stepper = Stepper(self.program, values)
        for op in self.program.ops:
            stepper.float32(op)
        return tuple(values[name] for name in self.program.outputs)


def save_layer(program: Program, entering: Mapping[str, Any], path: Path) -> str:
    """Save the layer with ``torch.export.save``; returns "" or why that is not possible."""
    inputs = []
    for name in program.inputs:
        value = entering[name]
        if isinstance(value, (list, tuple)):
            return f"'{name}' that enters the layer is a list of tensors"
        inputs.append(value.clone())
    try:
        with torch.no_grad(), quiet_exporter(), replacing(path) as part:
            module = LayerModule(program).eval()
            exported = torch.export.export(module, tuple(inputs), strict=False)
            torch.export.save(exported, part)
    except Exception as error:  # noqa: BLE001 - the bundle stands without this file, and says why
        return f"torch.export: {' '.join(str(error).split())[:200]}"
    return ""
