"""Look at an ONNX file, whoever made it: what goes in and out, what it is made of, known traps,
and whether its certificate still holds.

Needs onnx, neither PyTorch nor onnxruntime; without the latter it is not known which kernels there
are.
"""

from __future__ import annotations

from pathlib import Path

import onnx

from exporter.build.metadata import INPUT_CHOICES, choices_of
from exporter.core.children import watched_step
from exporter.core.errors import ArtifactError, UserInputError
from exporter.execution.kernels import PROVIDERS, kernels_of, support_of
from exporter.graph.anatomy import anatomy_of
from exporter.graph.certificate import PREFIX, Checked, check_certificate
from exporter.graph.onnx_file import open_graph
from exporter.graph.traps import traps_of
from exporter.report.digest import report_digest
from exporter.report.inspection import CHANGED, INTACT, NONE, Inspection, Value
from exporter.report.schema import read_report


def inspect(path: Path, *, kernels: bool | None = None) -> Inspection:
    """Read a file and hold it against its certificate.

    Args:
        kernels: ask onnxruntime which kernels it has; by default of a file without certificate,
            which nobody has run yet.

    Raises:
        ArtifactError: the file cannot be read.
    """
    checked = check_certificate(path)
    contents = checked.contents
    graph, metadata = contents.model.graph, contents.metadata
    choices = choices_of(metadata.get(INPUT_CHOICES, ""))
    typed = _with_types(path)
    anatomy = anatomy_of(typed)
    external = sum((path.parent / name).stat().st_size for name in contents.external)
    state = NONE if checked.certificate is None else INTACT if checked.intact else CHANGED
    return Inspection(
        path=str(path),
        state=state,
        changes=checked.changes,
        certificate=checked.certificate,
        weights_intact=checked.weights_intact,
        report=_report(path, checked),
        inputs=tuple(_value(value, choices) for value in graph.input),
        outputs=tuple(_value(value, {}) for value in graph.output),
        opsets={item.domain or "ai.onnx": item.version for item in contents.model.opset_import},
        ir_version=contents.model.ir_version,
        nodes=len(graph.node),
        initializers=contents.initializers,
        weights_sha256=contents.weights,
        bytes=contents.size + external,
        weight_bytes=contents.weight_bytes,
        external=contents.external,
        producer=_producer(contents.model),
        anatomy=anatomy,
        traps=traps_of(typed),
        support=tuple(support_of(typed, kernels_of(name), name) for name in PROVIDERS)
        if kernels or (kernels is None and checked.certificate is None)
        else (),
        metadata={k: v for k, v in metadata.items() if not k.startswith(PREFIX)},
    )


def _with_types(path: Path) -> onnx.ModelProto:
    """The model with the types of its values, as far as they can be inferred."""
    model = open_graph(path).model
    try:
        # Functions within functions may take for ever.
        with watched_step():
            return onnx.shape_inference.infer_shapes(model)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return model


def _producer(model: onnx.ModelProto) -> str:
    words = [model.producer_name, model.producer_version]
    named = " ".join(word for word in words if word)
    described = [model.domain, f"model version {model.model_version}" * bool(model.model_version)]
    return "; ".join(word for word in (named, *described) if word)


def _value(value: onnx.ValueInfoProto, choices: dict[str, dict[str, int]]) -> Value:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return Value(name=value.name, dtype=kind or "unknown", shape=(), choices={})
    tensor = value.type.tensor_type
    shape = tuple(
        d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim
    )
    try:
        dtype = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    except ValueError:
        dtype = f"unknown type {tensor.elem_type}"
    dtype = {"float": "float32", "double": "float64"}.get(dtype, dtype)
    return Value(name=value.name, dtype=dtype, shape=shape, choices=choices.get(value.name, {}))


def _report(path: Path, checked: Checked) -> str:
    beside = path.parent / "report.json"
    if checked.certificate is None or not beside.is_file():
        return ""
    try:
        same = report_digest(read_report(beside)) == checked.certificate.get("report_digest")
    except (ArtifactError, UserInputError) as error:
        return f"report.json beside it cannot be read: {error.problem}"
    return "report.json beside it is that one" if same else "report.json beside it is another one"
