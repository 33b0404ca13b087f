"""What other tools make of a model's file, and faults that are planted into what they have made.

A fault goes into the tool's own file: its weight, in whatever format, is found by its content.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import numpy_helper

from exporter.cases.load import load_cases
from exporter.config import load_pipeline
from exporter.graph.capture import capture
from exporter.graph.export import export
from exporter.graph.lowered.in_real_numbers import unrounded
from exporter.graph.node_origin import module_of
from exporter.graph.onnx_file import open_graph
from exporter.graph.wrap import wrap
from exporter.joining.restored import restore
from tests.support import lowered
from tests.support import other_tools as tools
from tests.support.funasr_checkpoint import TINY_SETTINGS
from tests.support.tiny_export import TINY

Cases = Sequence[dict[str, np.ndarray]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model's file, and where faults go.

    Attributes:
        file: by which others are judged. other: the same model from another exporter, where there
            is one.
        cases: for calibration, and what is compared. weight: shape of the weight that is made
            wrong, the first of it; norm: which normalisation; comparison: which node that
            compares, from the end where it is negative. layers: of each fault.
        front: parts in front of the model, which nobody rounds to eight or sixteen bits: a search
            for speech and features. Where there are some, of the model products and convolutions
            alone get constant ranges.
    """

    file: Path
    other: Path | None
    cases: Cases
    weight: tuple[int, ...]
    norm: int
    layers: dict[str, str]
    comparison: int = 0
    front: tuple[str, ...] = ()

    @property
    def kept(self) -> list[str]:
        """Names of the nodes that stay in float32."""
        nodes = onnx.load(self.file).graph.node
        return [node.name for node in nodes if module_of(node).split(".")[0] in self.front]


RECURRENT = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, size=48):
        super().__init__()
        self.front = nn.Linear(16, size)
        self.recurrent = nn.LSTM(size, size, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(2 * size)
        self.inner = nn.Linear(2 * size, 80)
        self.norm_inner = nn.LayerNorm(80)
        self.head = nn.Linear(80, 24)

    def forward(self, x, lengths):
        mask = torch.arange(x.shape[1])[None] < lengths[:, None]
        y, _ = self.recurrent(torch.tanh(self.front(x)))
        y = self.norm(y * mask[..., None].to(y.dtype))
        y = self.norm_inner(torch.nn.functional.gelu(self.inner(y)))
        return {"logits": self.head(y)}


def build():
    torch.manual_seed(0)
    return Net().eval()
"""


def conformer(folder: Path) -> Source:
    """Two blocks of a conformer with an LSTM."""
    return _source(
        folder,
        lowered.MODULE,
        weight=(64, 128),
        norm=2,
        layers={"weight": "blocks.0.inner", "epsilon": "blocks.0.norm_forward", "mask": "net"},
    )


def recurrent(folder: Path) -> Source:
    """A bidirectional LSTM between linear layers."""
    return _source(
        folder,
        RECURRENT,
        weight=(96, 80),
        norm=1,
        layers={"weight": "inner", "epsilon": "norm_inner", "mask": "net"},
    )


def sensevoice(folder: Path) -> Source:
    """``pipelines/sensevoice_tiny.yaml`` with few tokens: a waveform in, tokens out, as exported
    here; two short segments of speech.

    There is no other file: neither of torch's exporters writes one, for the legacy one cannot
    trace its branches and the newer one fixes the state of its LSTM at the example's size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pipeline = load_pipeline(TINY)
    pipeline = pipeline.model_copy(
        update={"model": pipeline.model.model_copy(update={"settings": TINY_SETTINGS})}
    )
    wrapped = wrap(pipeline)
    captured = capture(wrapped.module, wrapped.example, wrapped.dynamic_shapes)
    exported = export(
        captured, inputs=wrapped.inputs, outputs=wrapped.outputs, opset=pipeline.export.opset
    )
    file = folder / "source.onnx"
    ir.save(exported.model, file)
    cases = [
        dict(case.inputs) for case in load_cases(pipeline, wrapped.inputs, ("english", "mandarin"))
    ]
    for case in cases:
        # Two utterances of 1.2 and 0.7 seconds: one sequence is shorter than the other.
        wave = case["waveform"]
        parts = [wave[8224:28224], np.zeros(12000), wave[30000:42000], np.zeros(6000)]
        case["waveform"] = np.concatenate(parts).astype(np.float32)
    return Source(
        file=file,
        other=None,
        cases=cases,
        weight=(1536, 560),
        norm=2,
        comparison=-2,
        layers={
            "weight": "model.encoder.encoders0.0",
            "epsilon": "model.encoder.encoders.0.norm1",
            "mask": "model.encoder",
        },
        front=("vad", "segmenter", "cut", "fbank", "lfr", "cmvn"),
    )


def _source(
    folder: Path, module: str, *, weight: tuple[int, ...], norm: int, layers: dict[str, str]
) -> Source:
    folder.mkdir(parents=True, exist_ok=True)
    return Source(
        file=tools.legacy(folder, "source", module=module),
        other=dynamo(folder, module),
        cases=lowered.calibration(),
        weight=weight,
        norm=norm,
        layers=layers,
    )


def dynamo(folder: Path, module: str) -> Path:
    """Export the net with ``torch.onnx.export(dynamo=True)``, as torch writes it."""
    net = tools.net(folder, module)
    path = folder / "dynamo.onnx"
    batch, frames = (torch.export.Dim(name, min=2, max=4096) for name in ("batch", "frames"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (torch.randn(2, 17, 16), torch.tensor([17, 9])),
            str(path),
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=["x", "lengths"],
            output_names=["logits"],
            dynamic_shapes=({0: batch, 1: frames}, {0: batch}),
        )
    return path


def _saved(source: Path, name: str, model: onnx.ModelProto) -> Path:
    path = source.with_name(f"{source.stem}_{name}.onnx")
    onnx.save(model, path)
    return path


def slimmed(source: Path) -> Path:
    import onnxslim

    return _saved(source, "slim", onnxslim.slim(onnx.load(source)))


def script_optimised(source: Path) -> Path:
    import onnxscript.optimizer

    return _saved(source, "script", onnxscript.optimizer.optimize(onnx.load(source)))


def without_metadata(source: Path) -> Path:
    model = onnx.load(source)
    del model.metadata_props[:], model.graph.value_info[:]
    model.graph.doc_string = model.producer_name = model.producer_version = ""
    for node in model.graph.node:
        node.name = node.doc_string = ""
        del node.metadata_props[:]
    return _saved(source, "bare", model)


def inlined(source: Path) -> Path:
    """The standard's functions (LayerNormalization, Gelu, Softmax) written as their nodes."""
    from onnx import inliner

    kinds = [("", kind) for kind in ("LayerNormalization", "Gelu", "Softmax")]
    model = onnx.shape_inference.infer_shapes(onnx.load(source))
    for tensor in model.graph.initializer:  # the inliner asks for their types there
        held = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.value_info.append(held)
    made = inliner.inline_selected_functions(
        model, kinds, exclude=False, inline_schema_functions=True
    )
    return _saved(source, "inlined", made)


def half(source: Source) -> Path:
    from onnxconverter_common import float16

    model = float16.convert_float_to_float16(
        onnx.load(source.file), keep_io_types=True, node_block_list=source.kept
    )
    return _saved(source.file, "float16", model)


def half_by_onnxruntime(source: Source) -> Path:
    path = source.file.with_name(f"{source.file.stem}_half.onnx")
    return lowered.to_float16(source.file, path, node_block_list=source.kept)


def quantised(source: Source) -> Path:
    return lowered.to_dynamic(
        source.file,
        source.file.with_name(f"{source.file.stem}_dynamic.onnx"),
        nodes_to_exclude=source.kept,
    )


def calibrated(source: Source) -> Path:
    return lowered.to_static(
        source.file,
        source.file.with_name(f"{source.file.stem}_qdq.onnx"),
        source.cases,
        qdq=True,
        per_channel=True,
        nodes_to_exclude=source.kept,
        op_types_to_quantize=["MatMul", "Gemm", "Conv"] if source.front else None,
    )


def bits(source: Path) -> Path:
    return lowered.to_bits(source, source.with_name(f"{source.stem}_bits.onnx"), 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool: makes a file of a source; what that file may hold."""

    make: Callable[[Source], Path | None]
    precision: str = "float32"
    turned: bool = False
    """Judged against the other exporter's file."""


def _of(make: Callable[[Path], Path]) -> Callable[[Source], Path]:
    return lambda source: make(source.file)


TOOLS: dict[str, Tool] = {
    "legacy exporter": Tool(make=lambda s: s.file if s.other else None, turned=True),
    "dynamo exporter": Tool(make=lambda s: s.other),
    "onnxsim": Tool(make=_of(tools.simplified)),
    "onnxslim": Tool(make=_of(slimmed)),
    "onnxruntime basic": Tool(make=_of(lambda p: tools.optimised(p, "BASIC"))),
    "onnxruntime extended": Tool(make=_of(lambda p: tools.optimised(p, "EXTENDED"))),
    "onnxruntime all": Tool(make=_of(lambda p: tools.optimised(p, "ALL"))),
    "version converter": Tool(make=_of(tools.converted)),
    "renamed": Tool(make=_of(tools.renamed)),
    "metadata stripped": Tool(make=_of(without_metadata)),
    "functions inlined": Tool(make=_of(inlined)),
    "onnxscript optimizer": Tool(make=_of(script_optimised)),
    "quantize_dynamic": Tool(make=quantised, precision="int8"),
    "quantize_static, QDQ": Tool(make=calibrated, precision="int8"),
    "MatMulNBits": Tool(make=_of(bits), precision="int8"),
    "float16, onnxconverter": Tool(make=half, precision="float16"),
    "float16, onnxruntime": Tool(make=half_by_onnxruntime, precision="float16"),
}
"""By name, as users call them."""

FAULTS = ("healthy", "weight", "epsilon", "mask")


def planted(source: Source, file: Path, fault: str) -> Path:
    """The file with a fault; the file itself for "healthy".

    Raises:
        LookupError: there is no place for the fault in this file.
    """
    if fault == "healthy":
        return file
    model = onnx.load(file)
    {"weight": _weight, "epsilon": _epsilon, "mask": _mask}[fault](source, file, model)
    path = file.with_name(f"{file.stem}_{fault}.onnx")
    onnx.save(model, path)
    return path


def _weight(source: Source, file: Path, model: onnx.ModelProto) -> None:
    """One element; of a weight in integers the row that it is in, of a block its first number."""
    a = open_graph(source.file)
    shapes = (source.weight, source.weight[::-1])
    meant = next(a.array(n) for n, t in a.initializers.items() if tuple(t.dims) in shapes)
    b = open_graph(file)
    for name, tensor in b.initializers.items():
        if tuple(tensor.dims) in shapes and tensor.data_type == onnx.TensorProto.FLOAT:
            array = b.array(name).copy()
            if array.shape == meant.shape and np.array_equal(array, meant):
                array[3, 5] += 0.05
            elif array.shape == meant.T.shape and np.array_equal(array, meant.T):
                array[5, 3] += 0.05
            else:
                continue
            return _store(model, name, array)
    found = restore(a, unrounded(b).stored).arrays
    for key, held in found.items():
        if held.shape in shapes and (np.array_equal(held, meant) or np.array_equal(held, meant.T)):
            name = key.partition("/")[0]
            array = b.array(name).copy()
            if array.dtype.kind == "f":
                array[3, 5] += array.dtype.type(0.05)
            else:
                eighth = array.size // 8
                array.reshape(-1)[:eighth] = np.roll(array.reshape(-1), 7)[:eighth]
            return _store(model, name, array)
    raise LookupError("the weight is in no constant of the file")


def _store(model: onnx.ModelProto, name: str, array: np.ndarray) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))
            return
    node = next(n for n in model.graph.node if n.op_type == "Constant" and n.output[0] == name)
    node.attribute[0].t.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))


def _epsilon(source: Source, file: Path, model: onnx.ModelProto) -> None:
    """Of a normalisation in one node its attribute; of one in its own nodes the constant."""
    norms = [n for n in model.graph.node if any(a.name == "epsilon" for a in n.attribute)]
    if len(norms) > source.norm:
        held = next(a for a in norms[source.norm].attribute if a.name == "epsilon")
        held.f = 1e-2
        return
    added = {name for n in model.graph.node if n.op_type in ("Add", "Cast") for name in n.input}
    found = [
        n
        for n in model.graph.node
        if n.op_type == "Constant"
        and n.output[0] in added
        and n.attribute[0].HasField("t")
        and 0 < abs(numpy_helper.to_array(n.attribute[0].t).astype(float).sum()) < 1e-4
    ]
    if len(found) <= source.norm:
        raise LookupError("the file has no such normalisation")
    _store(model, found[source.norm].output[0], np.float32(1e-2))


def _mask(source: Source, file: Path, model: onnx.ModelProto) -> None:
    other = {"Less": "LessOrEqual", "GreaterOrEqual": "Greater", "Greater": "GreaterOrEqual"}
    nodes = [node for node in model.graph.node if node.op_type in other]
    if not nodes:
        raise LookupError("the file compares nothing")
    own = [node for node in open_graph(source.file).nodes if node.op_type in other]
    # A tool may put nodes in another order, or give them other names; none here does both.
    meant = own[source.comparison].output[0]
    node = next((n for n in nodes if n.output[0] == meant), nodes[source.comparison])
    node.op_type = other[node.op_type]
