"""Look at an ONNX file: what goes in and out, and whether its certificate still holds.

Needs onnx, neither PyTorch nor onnxruntime.
"""

from __future__ import annotations

import json
from pathlib import Path

import onnx

from exporter.build.metadata import INPUT_CHOICES
from exporter.core.errors import ArtifactError, UserInputError
from exporter.graph.certificate import PREFIX, Checked, check_certificate
from exporter.report.digest import report_digest
from exporter.report.inspection import CHANGED, INTACT, NONE, Inspection, Value
from exporter.report.schema import read_report

_MOST_JSON = 1 << 20


def inspect(path: Path) -> Inspection:
    """Read a file and hold it against its certificate.

    Raises:
        ArtifactError: the file cannot be read.
    """
    checked = check_certificate(path)
    contents = checked.contents
    graph, metadata = contents.model.graph, contents.metadata
    choices = _choices(metadata.get(INPUT_CHOICES, ""))
    external = sum((path.parent / name).stat().st_size for name in contents.external)
    state = NONE if checked.certificate is None else INTACT if checked.intact else CHANGED
    return Inspection(
        path=str(path),
        state=state,
        changes=checked.changes,
        certificate=checked.certificate,
        weights_intact=checked.weights_intact,
        report=_report(path, checked),
        inputs=tuple(_value(held, choices) for held in graph.input),
        outputs=tuple(_value(held, {}) for held in graph.output),
        opsets={item.domain or "ai.onnx": item.version for item in contents.model.opset_import},
        ir_version=contents.model.ir_version,
        nodes=len(graph.node),
        initializers=contents.initializers,
        weights_sha256=contents.weights,
        bytes=contents.size + external,
        weight_bytes=contents.weight_bytes,
        external=contents.external,
        metadata={k: v for k, v in metadata.items() if not k.startswith(PREFIX)},
    )


def _value(held: onnx.ValueInfoProto, choices: dict[str, dict[str, int]]) -> Value:
    kind = held.type.WhichOneof("value")
    if kind != "tensor_type":
        return Value(name=held.name, dtype=kind or "unknown", shape=(), choices={})
    tensor = held.type.tensor_type
    shape = tuple(
        d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim
    )
    try:
        dtype = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    except ValueError:
        dtype = f"unknown type {tensor.elem_type}"
    dtype = {"float": "float32", "double": "float64"}.get(dtype, dtype)
    return Value(name=held.name, dtype=dtype, shape=shape, choices=choices.get(held.name, {}))


def _choices(text: str) -> dict[str, dict[str, int]]:
    """Readable values per input; what is damaged names none."""
    try:
        held = json.loads(text) if text and len(text) < _MOST_JSON else {}
    except (ValueError, RecursionError):
        return {}
    if not isinstance(held, dict):
        return {}
    return {
        name: {k: v for k, v in values.items() if isinstance(v, int)}
        for name, values in held.items()
        if isinstance(values, dict)
    }


def _report(path: Path, checked: Checked) -> str:
    beside = path.parent / "report.json"
    if checked.certificate is None or not beside.is_file():
        return ""
    try:
        same = report_digest(read_report(beside)) == checked.certificate.get("report_digest")
    except (ArtifactError, UserInputError) as error:
        return f"report.json beside it cannot be read: {error.problem}"
    return "report.json beside it is that one" if same else "report.json beside it is another one"
