"""Run one layer alone with onnxruntime and compare it with what it should give.

Usage: python repro.py [disable | basic | extended | all]

Exits 1 while the layer is wrong, 0 when it is right. Needs numpy, onnx, onnxruntime and
safetensors; the files beside it are layer.onnx, inputs.safetensors and expected.safetensors.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import safetensors.numpy

# What to run and what is allowed. Per output: the dtype, and the largest absolute and rms
# distance to expected.safetensors (None: every element must be equal). Per node: what it was
# when it was exported.
PLAN: dict[str, Any] = {}


def signature(node: onnx.NodeProto, graph: onnx.GraphProto, opset: int) -> dict[str, str]:
    """Operator, attributes (defaults filled in) and inputs of a node; weights as a digest."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    told = {"operator": node.op_type}
    if not node.domain and onnx.defs.has(node.op_type, opset, ""):
        schema = onnx.defs.get_schema(node.op_type, opset, "")
        for name, formal in schema.attributes.items():
            if formal.default_value.type:
                told[f"attribute {name}"] = _text(formal.default_value)
    for attribute in node.attribute:
        told[f"attribute {attribute.name}"] = _text(attribute)
    for slot, name in enumerate(node.input):
        if name:
            told[f"input {slot}"] = _stored(weights[name]) if name in weights else name
    return told


def _text(attribute: onnx.AttributeProto) -> str:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return _stored(value)
    if isinstance(value, float):
        return f"{value:.9g}"
    if hasattr(value, "__len__") and not isinstance(value, bytes):
        return str(list(value))
    return str(value)


def _stored(tensor: onnx.TensorProto) -> str:
    array = onnx.numpy_helper.to_array(tensor)
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
    values = f" {array.tolist()}" if array.size <= 8 else ""
    return f"{array.dtype.name} {list(array.shape)} sha256:{digest}{values}"


def compare_nodes(model: onnx.ModelProto) -> int:
    """Print nodes that are not what they were when they were exported; return their number."""
    opset = next((e.version for e in model.opset_import if e.domain in ("", "ai.onnx")), 0)
    own = "::own"
    made = {
        name.removesuffix(own): node for node in model.graph.node for name in node.output if name
    }
    wrong = 0
    for value, wanted in PLAN["nodes"].items():
        node = made.get(value)
        attributes = signature(node, model.graph, opset) if node is not None else {}
        for key in sorted({*wanted, *attributes}):
            left, right = wanted.get(key, "absent"), attributes.get(key, "absent")
            if left != right:
                wrong += 1
                print(f"WRONG  node of '{value}', {key}: {right}; exported as {left}")
    return wrong


def compare_output(name: str, actual: np.ndarray, expected: np.ndarray) -> bool:
    """Print one line about an output; return whether it is right."""
    plan = PLAN["outputs"][name]
    if actual.dtype.name != plan["dtype"] or actual.shape != expected.shape:
        print(
            f"WRONG  {name}: {actual.dtype.name} {actual.shape},"
            f" expected {plan['dtype']} {expected.shape}"
        )
        return False
    if plan["max"] is None:
        same = np.array_equal(actual, expected, equal_nan=actual.dtype.kind == "f")
        count = int(np.sum(actual != expected))
        print(f"{'right' if same else 'WRONG'}  {name}: {count} of {actual.size} elements differ")
        return same
    wide, truth = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(wide) & np.isfinite(truth)
    odd = int(np.sum(~finite & (wide != truth)))
    error = np.abs(wide[finite] - truth[finite])
    largest = float(error.max(initial=0.0))
    rms = float(np.sqrt(np.mean(error**2))) if error.size else 0.0
    right = odd == 0 and largest <= plan["max"] and rms <= plan["rms"]
    print(
        f"{'right' if right else 'WRONG'}  {name}: largest difference {largest:.6g} (limit"
        f" {plan['max']:.6g}), rms {rms:.6g} (limit {plan['rms']:.6g})"
        + (f", {odd} NaN or infinities out of place" if odd else "")
    )
    return right


def main(arguments: list[str]) -> int:
    """Compare structure and numbers; return the exit code."""
    folder = Path(__file__).resolve().parent
    model = onnx.load(str(folder / "layer.onnx"))
    wrong = compare_nodes(model)
    levels = {
        "disable": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
        "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    }
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = levels[arguments[0] if arguments else PLAN["level"]]
    options.intra_op_num_threads = PLAN["threads"]
    options.log_severity_level = 3
    expected = safetensors.numpy.load_file(folder / "expected.safetensors")
    inputs = safetensors.numpy.load_file(folder / "inputs.safetensors")
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=[PLAN["provider"]]
        )
        names = [value.name for value in session.get_outputs()]
        results = session.run(names, {v.name: inputs[v.name] for v in session.get_inputs()})
    except Exception as error:  # noqa: BLE001 - whatever it is, the layer does not run
        print(f"WRONG  onnxruntime {onnxruntime.__version__} stops: {error}")
        return 1
    outputs = {name: np.asarray(value) for name, value in zip(names, results, strict=True)}
    for name in PLAN["outputs"]:
        if name not in outputs:
            print(f"WRONG  {name}: missing")
            wrong += 1
        elif not compare_output(name, outputs[name], expected[name]):
            wrong += 1
    print(f"onnxruntime {onnxruntime.__version__}: {wrong or 'no'} difference(s)")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
