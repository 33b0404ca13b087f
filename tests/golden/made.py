"""A network of five operators, written in numpy and as ONNX, and its golden: tests take
milliseconds and need no PyTorch.

    x [N, 64] -> MatMul W1 -> hidden -> Relu -> active -> MatMul W2 -> scores -> ArgMax -> ids
                 first               act                  second                 head
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporter.cases.load import load_cases
from exporter.config import Pipeline, load_pipeline
from exporter.core.tensors import Axis, PlannedTap, Tap, TensorSpec
from exporter.execution.deployment import Deployment
from exporter.golden.compare_graph import node_prints
from exporter.golden.limits import direct_limits
from exporter.golden.observe import WINDOW_BYTES, Observer, input_digests
from exporter.golden.outcome import flat_environment
from exporter.golden.sketch import sketch
from exporter.golden.values import Expected, Golden, GoldenCase, GoldenOutput
from exporter.graph.index import index_graph
from exporter.parity.compare import measure
from exporter.parity.tolerance import Policy
from exporter.report.environment import describe_environment

TEXT = """\
name: made
model: {kind: sensevoice}
outputs: [scores, ids]
cases:
  - {name: one, random: {x: {kind: normal, seed: 1, shape: [40, 64]}}}
  - {name: two, random: {x: {kind: normal, seed: 2, shape: [7, 64]}}}
default_case: one
"""
INPUTS = (TensorSpec(name="x", dtype="float32", shape=("N", 64), axes=(Axis(name="N"),)),)
ROWS = (
    ("hidden", "first", "aten.linear.default", "float32", False),
    ("active", "act", "aten.relu.default", "float32", False),
    ("scores", "second", "aten.linear.default", "float32", True),
    ("ids", "head", "aten.argmax.default", "int64", True),
)
TAPS = tuple(
    PlannedTap(
        tap=Tap(name=name, module=module, module_class="Layer", op=op, source=f"net.py:{line}"),
        onnx_name=name,
        dtype=dtype,
        fate="compared",
        output=output,
    )
    for line, (name, module, op, dtype, output) in enumerate(ROWS, 1)
)


def weights() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    first, second = draw.normal(size=(64, 96)) / 8, draw.normal(size=(96, 50)) / 10
    return first.astype(np.float32), second.astype(np.float32)


def model() -> onnx.ModelProto:
    first, second = weights()
    nodes = [
        helper.make_node("MatMul", ["x", "W1"], ["hidden"], name="n1"),
        helper.make_node("Relu", ["hidden"], ["active"], name="n2"),
        helper.make_node("MatMul", ["active", "W2"], ["scores"], name="n3"),
        helper.make_node("ArgMax", ["scores"], ["ids"], name="n4", axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 64])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 50]),
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["N"]),
        ],
        [numpy_helper.from_array(first, "W1"), numpy_helper.from_array(second, "W2")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    made.ir_version = 10
    return made


def values(x: np.ndarray, dtype: type) -> dict[str, np.ndarray]:
    """What PyTorch would give, in float32 or float64."""
    first, second = (w.astype(dtype) for w in weights())
    hidden = x.astype(dtype) @ first
    active = np.maximum(hidden, 0)
    scores = active @ second
    return {"hidden": hidden, "active": active, "scores": scores, "ids": scores.argmax(1)}


def pipeline(folder: Path, text: str = TEXT) -> Pipeline:
    path = folder / "made.yaml"
    path.write_text(text, encoding="utf-8")
    return load_pipeline(path)


def write_onnx(folder: Path, made: onnx.ModelProto | None = None, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes((made or model()).SerializeToString())
    return path


def golden(folder: Path, held: Pipeline) -> Golden:
    """The golden of ``model()``, whose values come from numpy."""
    path = write_onnx(folder, name="clean.onnx")
    graph = index_graph(model(), folder)
    observer = Observer(path, graph, TAPS, Deployment(threads=1))
    names = [case.name for case in held.cases]
    cases = load_cases(held, INPUTS, names)
    environment = flat_environment(describe_environment(1, ("cpu",)))
    return Golden(
        pipeline=held.name,
        pipeline_digest=held.digest,
        graph_digest=held.graph_digest,
        weights={"source": "made", "digest": "0" * 64, "seeded": True},
        reason="a test",
        replaces="",
        tool_version="0",
        environment=environment,
        judged={"verdict": "pass", "policy": {}},
        run={"threads": 1, "provider": "cpu", "level": "all", "window_bytes": WINDOW_BYTES},
        inputs=INPUTS,
        left_out=(),
        taps=TAPS,
        nodes=node_prints(graph, TAPS),
        cases=tuple(_case(case, observer) for case in cases),
    )


def _case(case, observer: Observer) -> GoldenCase:
    reference = values(case.inputs["x"], np.float32)
    truth = values(case.inputs["x"], np.float64)
    observed = observer.run(case.inputs, [reference[name].size for name, *_ in ROWS])
    expected, outputs = [], []
    for tap in TAPS:
        name = tap.onnx_name
        measured = measure(
            name, truth=truth[name], reference=reference[name], actual=reference[name]
        )
        largest, rms = direct_limits(measured, Policy(), tap.tap.module)
        held = Expected(
            sketch=sketch(name, reference[name]),
            limit_max=largest,
            limit_rms=rms,
            witness=observed.taps[name].bits,
            close=0,
        )
        expected.append(held)
        if tap.output:
            outputs.append(
                GoldenOutput(
                    name=name,
                    dtype=tap.dtype,
                    shape=held.sketch.shape,
                    values=reference[name],
                    limit_max=largest,
                    limit_rms=rms,
                    witness=sketch(name, observed.outputs[name]).bits,
                )
            )
    return GoldenCase(
        name=case.name,
        origin=case.origin,
        inputs=input_digests(case.inputs),
        expect_empty=(),
        outputs=tuple(outputs),
        taps=tuple(expected),
    )


def changed_environment(held: Golden, **versions: str) -> Golden:
    return replace(held, environment={**held.environment, **versions})
