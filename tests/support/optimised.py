"""A small model with what optimisers like, its finished run, and what tools make of its file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxsim
from onnx import helper, numpy_helper, version_converter

from exporter import cli
from exporter.config import load_pipeline
from exporter.flows.verify import verify
from exporter.report.schema import Report
from tests.support.stages import Silent
from tests.support.toy_project import project

MODULE = """\
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(16, 16, 3, padding=1)
        self.bn = nn.BatchNorm1d(16)
        self.norm = nn.LayerNorm(16)
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x, keep):
        x = x + torch.relu(self.bn(self.conv(x.mT))).mT
        h = self.norm(x)
        scores = self.q(h) @ self.k(h).mT / 4
        scores = scores.masked_fill(~keep[:, None], float("-inf"))
        x = x + torch.softmax(scores, -1) @ self.v(h)
        return x + self.down(nn.functional.gelu(self.up(x)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(16, 8)

    def forward(self, x, lengths):
        keep = torch.arange(x.shape[1], device=x.device)[None] < lengths[:, None]
        for block in self.blocks:
            x = block(x, keep)
        return {"y": self.head(x)}


def build():
    torch.manual_seed(0)
    net = Net().eval()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm1d):
            m.running_mean.normal_()
            m.running_var.uniform_(0.3, 3.0)
            nn.init.normal_(m.weight, 1.0, 0.3)
            nn.init.normal_(m.bias)
    return net
"""
YAML = """\
name: toy
model: {factory: "toy_model:build"}
axes: {frames: {minimum: 2, example: 17}}
inputs:
  x: {dtype: float32, shape: [batch, frames, 16]}
  lengths: {dtype: int64, shape: [batch], draw: {kind: integers, low: 2, high: 40}}
outputs: [y]
cases:
  - name: noise
    random: {x: {kind: normal, seed: 1, sizes: {batch: 2, frames: 40}}}
    inputs: {lengths: [40, 23]}
default_case: noise
"""

Tool = Callable[[Path, Path], None]
"""Reads a file and writes what it makes of it."""


class Run:
    """A finished run of the model, and files that are held against it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.yaml = project(folder / "toy", module=MODULE, yaml=YAML)
        self.out = folder / "out"
        command = ["run", str(self.yaml), "--output-dir", str(self.out), "--trust", "--quiet"]
        assert cli.main([*command, "--threads", "1"]) == 0
        self.model = self.out / "model.onnx"

    def changed(self, change: Callable[[onnx.ModelProto], object], name: str = "changed") -> Path:
        """The shipped file after ``change``, its metadata kept."""
        model = onnx.load(self.model)
        change(model)
        path = self.folder / f"{name}.onnx"
        onnx.save(model, path)
        return path

    def through(self, tool: Tool, path: Path | None = None) -> Path:
        """What a tool makes of the shipped file, or of another one."""
        made = self.folder / f"through_{tool.__name__}_{(path or self.model).stem}.onnx"
        tool(path or self.model, made)
        return made

    def verify(self, path: Path, *, on_purpose: bool = True) -> Report:
        """Judge a file against the pipeline."""
        return verify(
            load_pipeline(self.yaml, trust=True),
            onnx=path,
            output_dir=self.out,
            progress=Silent(),
            threads=1,
            trust=True,
            changed_on_purpose=on_purpose,
        )


def fates(report: Report) -> dict[str, str]:
    """Tap -> what became of it."""
    return {
        tap.name: tap.fate for link in report.links for layer in link.layers for tap in layer.taps
    }


def set_weight(name: str, index: tuple[int, ...], factor: float) -> Callable[..., None]:
    """Multiply one element of an initialiser."""

    def change(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == name)
        values = numpy_helper.to_array(tensor).copy()
        values[index] *= factor
        tensor.CopyFrom(numpy_helper.from_array(values, name))

    return change


def set_epsilon(value: float) -> Callable[..., None]:
    """Epsilon of the second block's LayerNorm."""

    def change(model: onnx.ModelProto) -> None:
        nodes = [n for n in model.graph.node if n.op_type == "LayerNormalization"]
        held = next(a for a in nodes[1].attribute if a.name == "epsilon")
        held.f = value

    return change


def drop_mask(model: onnx.ModelProto) -> None:
    """The second block's attention sees padded frames."""
    node = [n for n in model.graph.node if n.op_type == "Where"][1]
    node.CopyFrom(helper.make_node("Identity", [node.input[2]], list(node.output), name=node.name))


def simplified(source: Path, made: Path) -> None:
    """onnxsim with all of its passes: folds BatchNorm under the convolution's name."""
    onnx.save(onnxsim.simplify(onnx.load(source), check_n=0)[0], made)


def folded(source: Path, made: Path) -> None:
    """BatchNorm folded by hand, the result under the convolution's name."""
    model = onnx.load(source)
    graph = model.graph
    arrays = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for norm in [n for n in graph.node if n.op_type == "BatchNormalization"]:
        conv = next(n for n in graph.node if n.output[0] == norm.input[0])
        scale, shift, mean, variance = (arrays[name] for name in norm.input[1:5])
        factor = scale / np.sqrt(variance + np.float32(1e-5))
        stored = {
            conv.input[1]: arrays[conv.input[1]] * factor[:, None, None],
            conv.input[2]: (arrays[conv.input[2]] - mean) * factor + shift,
        }
        for tensor in graph.initializer:
            if tensor.name in stored:
                values = stored[tensor.name].astype(np.float32)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        for node in graph.node:
            node.input[:] = [conv.output[0] if n == norm.output[0] else n for n in node.input]
        graph.node.remove(norm)
    onnx.save(model, made)


def _offline(level: str) -> Tool:
    def optimise(source: Path, made: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.optimized_model_filepath = os.fspath(made)
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        onnxruntime.InferenceSession(os.fspath(source), options, providers=["CPUExecutionProvider"])

    optimise.__name__ = level.lower()
    return optimise


basic, extended, everything = (
    _offline(f"ORT_ENABLE_{level}") for level in ("BASIC", "EXTENDED", "ALL")
)


def fused(source: Path, made: Path) -> None:
    """onnxruntime's fusions for transformers: LayerNorm takes in the sum in front of it."""
    from onnxruntime.transformers import optimizer

    found = optimizer.optimize_model(
        os.fspath(source), model_type="bert", num_heads=0, hidden_size=0, opt_level=0
    )
    onnx.save(found.model, made)


def converted(source: Path, made: Path) -> None:
    """A later opset."""
    onnx.save(version_converter.convert_version(onnx.load(source), 21), made)


def renamed(source: Path, made: Path) -> None:
    """Every value inside has another name."""
    model = onnx.load(source)
    ends = {value.name for value in [*model.graph.input, *model.graph.output]}
    names: dict[str, str] = {}
    for node in model.graph.node:
        for name in node.output:
            if name and name not in ends:
                names[name] = f"t{len(names)}"
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    del model.graph.value_info[:]
    onnx.save(model, made)


def stripped(source: Path, made: Path) -> None:
    """No metadata, neither of the file nor of its nodes."""
    model = onnx.load(source)
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.name, node.doc_string = "", ""
    onnx.save(model, made)


KEEP_NAMES: tuple[Tool, ...] = (
    simplified,
    folded,
    basic,
    extended,
    everything,
    fused,
    converted,
)
"""Tools after which most of the values are still there under some name."""
