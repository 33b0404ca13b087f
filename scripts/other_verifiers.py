"""Other tools that compare values inside a graph, on a small transformer, beside this one.

Both need a model that they can hold whole and a session (or a run) per value, so the model is
small on purpose; the ratios to one forward pass are what can be compared.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import onnxruntime
import torch
from interleaved import interleaved, median
from torch import nn
from torch.onnx.verification import verify_onnx_program

from exporter.core.tensors import Arrays, Axis, Case, TensorSpec
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import FileRun
from exporter.graph.capture import capture, quiet_exporter
from exporter.graph.export import export
from exporter.graph.index import index_graph
from exporter.interpret.run_program import run_program
from exporter.judge.layers import judge_layers
from exporter.parity.tolerance import Policy

TORCH, ONNX = "one torch forward", "one onnxruntime forward"
WIDTH, BLOCKS, FRAMES, BATCH = 256, 2, 200, 4


class Block(nn.Module):
    """A pre-norm transformer block on ``[B, T, WIDTH]``."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        # Three layers, not one that is split: Polygraphy refuses ONNX sequences.
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.value, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend, then transform."""
        held = self.norm1(x)
        scores = self.query(held) @ self.key(held).transpose(1, 2) * WIDTH**-0.5
        x = x + self.out(torch.softmax(scores, dim=-1) @ self.value(held))
        return x + self.down(torch.relu(self.up(self.norm2(x))))


class Small(nn.Module):
    """Some blocks in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        """``[B, T, WIDTH]`` to the same shape."""
        return (self.blocks(x),)


def compare_verifiers(threads: int, repeats: int) -> list[dict[str, Any]]:
    """Seconds of each tool, sessions included, and its ratio to one torch and one ONNX pass."""
    # The other tools ask for a GPU that may not be there; onnxruntime would print errors.
    onnxruntime.set_default_logger_severity(4)
    torch.manual_seed(0)
    module = Small().eval().requires_grad_(False)
    x = torch.randn(BATCH, FRAMES, WIDTH)
    axes = (Axis(name="batch", minimum=1), Axis(name="frames", minimum=1))
    shape = ("batch", "frames", WIDTH)
    inputs = (TensorSpec(name="x", dtype="float32", shape=shape, axes=axes),)
    outputs = (TensorSpec(name="y", dtype="float32", shape=shape, axes=axes),)
    dims = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("frames", min=1)}
    exported = export(
        capture(module, {"x": x}, {"x": dims}), inputs=inputs, outputs=outputs, opset=18
    )
    model = ir.to_proto(exported.model)
    graph = index_graph(model, Path())
    case = Case(name="random", inputs={"x": x.numpy()}, origin="seed 0")
    deployment = Deployment(threads=threads)

    def ours() -> None:
        link = judge_layers(
            exported.program,
            graph,
            [case],
            policy=Policy(),
            deployment=deployment,
            budget=1 << 30,
        )
        if link.culprits:
            raise SystemExit("the small model does not pass")

    session = _session(model, deployment)
    works: dict[str, Callable[[], object]] = {
        TORCH: lambda: run_program(exported.program, case.inputs),
        ONNX: lambda: session.run(case.inputs),
        "export-verify, every layer in float32 and float64": ours,
        "torch.onnx.verify_onnx_program(compare_intermediates=True)": _torch_verifier(module, x),
    }
    polygraphy = _polygraphy(model, case.inputs)
    if polygraphy is not None:
        works["Polygraphy, all values of two ONNX sessions"] = polygraphy
    times = interleaved(works, repeats, prepare=lambda: torch.set_num_threads(threads))
    unit = median(times[TORCH]) + median(times[ONNX])
    rows = [
        {"tool": name, "s": round(median(taken), 4), "units": round(median(taken) / unit, 1)}
        for name, taken in times.items()
    ]
    if polygraphy is None:
        rows.append({"tool": "Polygraphy", "s": "not installed", "units": "not measured"})
    return rows


def _session(model: onnx.ModelProto, deployment: Deployment) -> FileRun:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.onnx"
        path.write_bytes(model.SerializeToString())
        return FileRun(path, deployment)


def _torch_verifier(module: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    with quiet_exporter():
        program = torch.onnx.export(module, (x,), dynamo=True, optimize=False, verbose=False)
    if program is None:
        raise SystemExit("torch.onnx.export returned nothing")

    def work() -> None:
        with quiet_exporter(), torch.no_grad():
            verify_onnx_program(program, (x,), compare_intermediates=True)

    return work


def _polygraphy(model: onnx.ModelProto, inputs: Arrays) -> Callable[[], object] | None:
    """Its comparison of every value between an optimised and a plain onnxruntime session."""
    try:
        from polygraphy import constants
        from polygraphy.backend.onnx import BytesFromOnnx, ModifyOutputs
        from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
        from polygraphy.comparator import Comparator, CompareFunc
        from polygraphy.logger import G_LOGGER
    except ImportError:
        return None
    G_LOGGER.severity = G_LOGGER.CRITICAL

    def work() -> None:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            marked = ModifyOutputs(lambda: model, outputs=constants.MARK_ALL, copy=True)
            runners = [
                OnnxrtRunner(SessionFromOnnx(BytesFromOnnx(marked)), name=name)
                for name in ("first", "second")
            ]
            results = Comparator.run(runners, data_loader=[dict(inputs)], warm_up=0)
            Comparator.compare_accuracy(results, compare_func=CompareFunc.simple())

    return work
