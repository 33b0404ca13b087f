"""Little modules with a pattern, wrapped as a pipeline wraps a user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from torch.export import ExportedProgram

from exporter.config import load_pipeline
from exporter.graph.export import export
from exporter.graph.repairs.module_run import ModuleRun
from exporter.graph.strategies import Captured, capture_openly
from exporter.graph.wrap import Wrapped, wrap
from tests.models.test_factory import project

YAML = """\
name: mine
model: {{factory: "{module}:Model"}}
axes:
  frames: {{minimum: 1, example: 12}}
inputs:
  x: {{dtype: float32, shape: [batch, frames, 4]}}
  x_lengths: {{dtype: int64, shape: [batch]}}
outputs: [y]
cases:
  - {{name: one, random: {{x: {{kind: normal, seed: 1}}}}}}
default_case: one
"""


def unrun(module: torch.nn.Module) -> ModuleRun:
    """A module for repairs that do not ask what it runs."""
    return ModuleRun(module=module, functions=frozenset())


def model(
    folder: Path, forward: str, init: str = "", *, head: str = "", yaml: str = "", name: str
) -> Wrapped:
    """A module of ``forward(x [B, T, 4], x_lengths [B])`` from the lines of its methods.

    Args:
        head: lines in front of the class. yaml: instead of the usual one. name: of the file.
    """
    made, body = (
        "".join(f"        {line}\n" for line in lines.splitlines()) for lines in (init, forward)
    )
    text = (
        f"import math\nimport torch\nfrom torch import nn\n{head}\n\nclass Model(nn.Module):\n"
        f"    def __init__(self):\n        super().__init__()\n{made}\n"
        f"    def forward(self, x, x_lengths):\n{body}"
    )
    given = project(folder, module=text, yaml=yaml or YAML.format(module="my_model"))
    if name != "my_model":
        (folder / "my_model.py").rename(folder / f"{name}.py")
        given.write_text(given.read_text().replace("my_model:", f"{name}:"))
    return wrap(load_pipeline(given, trust=True))


def left_alone(
    found: Captured, change: Callable[[ExportedProgram], ExportedProgram]
) -> list[object]:
    """The targets of a program, in which a change has changed nothing."""
    before = [(node.target, node.args) for node in found.program.graph.nodes]
    after = change(found.program).graph.nodes
    assert [(node.target, node.args) for node in after] == before
    return [target for target, _ in before]


def file_of(wrapped: Wrapped, found: Captured, folder: Path) -> onnxruntime.InferenceSession:
    """The captured program as an ONNX file that is ready to run."""
    made = export(found.program, inputs=wrapped.inputs, outputs=wrapped.outputs, opset=18)
    path = folder / "model.onnx"
    ir.save(made.model, path)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def holds(
    wrapped: Wrapped, folder: Path, cases: Sequence[Sequence[int]], *, without: Sequence[str] = ()
) -> Captured:
    """Capture and export, and hold the file against PyTorch at other sizes and lengths.

    Args:
        cases: lengths of the rows of each case; the longest decides how many frames there are.
    """
    found = capture_openly(wrapped, without=without)
    session = file_of(wrapped, found, folder)
    for lengths in cases:
        values = given(lengths)
        with torch.no_grad():
            (expected,) = wrapped.module(*(torch.from_numpy(v) for v in values.values()))
        known = {held.name for held in session.get_inputs()}
        (y,) = session.run(None, {name: v for name, v in values.items() if name in known})
        np.testing.assert_allclose(y, expected.numpy(), atol=1e-5, err_msg=str(lengths))
    return found


def given(lengths: Sequence[int]) -> Mapping[str, np.ndarray]:
    """Random features of so many rows."""
    shape = (len(lengths), max(lengths), 4)
    draw = np.random.default_rng(sum(lengths))
    return {"x": draw.normal(size=shape).astype(np.float32), "x_lengths": np.array(lengths)}
