"""A small conformer with an LSTM as the legacy exporter writes it, and what tools make of that."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxsim
import torch
from onnx import numpy_helper, version_converter
from torch import nn

from tests.support.lowered import MODULE


class _Net(nn.Module):
    """Outputs as a tensor, which the legacy exporter wants."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x, lengths):
        return self.net(x, lengths)["logits"]


def net(folder: Path, module: str = MODULE, build: str = "build") -> nn.Module:
    """The net of a module's source, with a tensor for its output."""
    source = folder / "net_module.py"
    source.write_text(module, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("net_module", source)
    assert spec is not None and spec.loader is not None
    held = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(held)
    return _Net(getattr(held, build)()).eval()


def legacy(
    folder: Path,
    name: str = "legacy",
    opset: int = 17,
    build: str = "build",
    module: str = MODULE,
) -> Path:
    """Export the net with ``torch.onnx.export(dynamo=False)``."""
    made = net(folder, module, build)
    path = folder / f"{name}.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            made,
            (torch.randn(2, 17, 16), torch.tensor([17, 9])),
            str(path),
            dynamo=False,
            input_names=["x", "lengths"],
            output_names=["logits"],
            opset_version=opset,
            dynamic_axes={
                "x": {0: "batch", 1: "frames"},
                "lengths": {0: "batch"},
                "logits": {0: "batch", 1: "frames"},
            },
        )
    return path


def simplified(source: Path) -> Path:
    path = source.with_name(f"{source.stem}_sim.onnx")
    onnx.save(onnxsim.simplify(onnx.load(source))[0], path)
    return path


def optimised(source: Path, level: str = "EXTENDED") -> Path:
    path = source.with_name(f"{source.stem}_ort_{level.lower()}.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}"
    )
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return path


def converted(source: Path, opset: int = 20) -> Path:
    path = source.with_name(f"{source.stem}_opset{opset}.onnx")
    onnx.save(version_converter.convert_version(onnx.load(source), opset), path)
    return path


def renamed(source: Path) -> Path:
    """Every value, node and weight has a name that says nothing; no metadata."""
    path = source.with_name(f"{source.stem}_renamed.onnx")
    model = onnx.load(source)
    ends = {value.name for value in [*model.graph.input, *model.graph.output]}
    called: dict[str, str] = {}

    def name_of(name: str) -> str:
        return name if not name or name in ends else called.setdefault(name, f"t{len(called)}")

    for tensor in model.graph.initializer:
        tensor.name = name_of(tensor.name)
    for node in model.graph.node:
        node.name = ""
        node.doc_string = ""
        del node.metadata_props[:]
        node.input[:] = [name_of(name) for name in node.input]
        node.output[:] = [name_of(name) for name in node.output]
    del model.graph.value_info[:]
    del model.metadata_props[:]
    onnx.save(model, path)
    return path


Fault = Callable[[onnx.ModelProto], None]


def faulty(source: Path, fault: Fault) -> Path:
    path = source.with_name(f"{source.stem}_faulty.onnx")
    model = onnx.load(source)
    fault(model)
    onnx.save(model, path)
    return path


def one_weight(model: onnx.ModelProto, *, by: float = 0.05) -> None:
    """One element of blocks.0.inner's weight."""
    tensor = next(t for t in model.graph.initializer if tuple(t.dims) in ((64, 128), (128, 64)))
    weight = numpy_helper.to_array(tensor).copy()
    weight[3, 5] = np.nextafter(weight[3, 5], np.float32(9)) if by == 0 else weight[3, 5] + by
    tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))


def one_rounding(model: onnx.ModelProto) -> None:
    one_weight(model, by=0)


def epsilon(model: onnx.ModelProto) -> None:
    """The epsilon of blocks.0.norm_forward."""
    norms = [n for n in model.graph.node if n.op_type == "LayerNormalization"]
    held = next(a for a in norms[2].attribute if a.name == "epsilon")
    held.f = 1e-3


def mask(model: onnx.ModelProto) -> None:
    """The mask lets one frame more through."""
    node = next(n for n in model.graph.node if n.op_type in ("Less", "GreaterOrEqual"))
    node.op_type = {"Less": "LessOrEqual", "GreaterOrEqual": "Greater"}[node.op_type]
