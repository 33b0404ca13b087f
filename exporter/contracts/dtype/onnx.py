"""Dtype of the ONNX side: the graph type-checks at a precision, and what float16 cannot hold.

A small model is exported once more in that precision and the file checked strictly. A large one
is not: its float32 graph is retyped (weights only as declarations, casts to float32 included) and
inferred strictly, which finds operators that the precision has no type for. Overflow is read off
the float32 graph's own values on the golden inputs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from exporter.contracts.dtype.convert import converted, input_dtype
from exporter.contracts.dtype.overflow import ADVICE, LARGEST, LIMIT
from exporter.contracts.dtype.retype import retyped
from exporter.contracts.dtype.scope import Part
from exporter.contracts.dtype.settings import Settings
from exporter.contracts.onnx_side import OnnxSide, exported
from exporter.contracts.probes import probe
from exporter.contracts.result import (
    ONNX,
    Answer,
    ContractResult,
    Location,
    not_applicable,
    not_run,
)
from exporter.contracts.target import Target
from exporter.core.children import watched_step
from exporter.core.errors import ArtifactError, OnnxStoppedError, StageError
from exporter.graph.wrap import dynamic_shapes

NAME = "dtype"
_SMALL_MODEL = 20_000_000


def check_onnx(target: Target, settings: Settings, part: Part | None) -> ContractResult:
    """Check the file at every declared precision that a file can have.

    Args:
        part: of the module; ``None`` where there is none, and ``as_built`` is all that is asked.
    """
    wanted = [p for p in settings.precisions if p in ("float16", "bfloat16")]
    built = "as_built" in settings.precisions
    if not wanted and not built:
        why = "autocast is a mode of PyTorch; its graph is exported as it runs, in float32"
        return not_applicable(NAME, ONNX, why)
    said = Answer(NAME, ONNX)
    problem = target.onnx.problem
    if built:
        if problem is not None and not wanted:
            return _refused(said, "as_built", target.onnx)
        if problem is None:
            bad = _type_problem(target.onnx.file.graph.model)
            said.details["as_built"] = bad or "type-checks"
            if bad:
                return _failed(said, "as_built", bad, _node_place(target, bad))
    for precision in wanted:
        result = None if part is None else _at(target, settings, part, precision, problem, said)
        if result is not None:
            return result
    if problem is not None and not said.details:
        return said.not_run(f"no ONNX file: {problem}")
    low = "float16" in wanted
    return said.passed(
        "type-checks" + (", nothing beyond float16" if low else ""),
        "strict type inference" + ("; 65504" if low else ""),
        ", ".join([*wanted, *(["as_built"] if built else [])]),
    )


def _at(
    target: Target,
    settings: Settings,
    part: Part,
    precision: str,
    problem: str | None,
    said: Answer,
) -> ContractResult | None:
    count = sum(parameter.numel() for parameter in target.module.parameters())
    small = part.whole and count <= _SMALL_MODEL
    again = settings.export if settings.export is not None else small or target.thorough
    if again and part.whole:
        result = _export(target, precision, problem, said)
        if result is not None:
            return result
    elif problem is not None:
        return not_run(NAME, ONNX, f"no ONNX file: {problem}")
    else:
        bad = _type_problem(retyped(target.onnx.file.graph, precision, _names(target, part)))
        said.details[f"{precision}: retyped graph"] = bad or "type-checks"
        if bad:
            return _failed(said, precision, bad, _node_place(target, bad))
    if precision == "float16" and problem is None:
        try:
            return _overflow(target, part, said)
        except OnnxStoppedError as error:
            return said.not_run(f"onnxruntime does not run the file piece by piece: {error}")
    return None


def _names(target: Target, part: Part) -> frozenset[str] | None:
    """Values of the file that belong to the scope; None for all."""
    if part.whole:
        return None
    taps = target.onnx.file.taps
    return frozenset(n for n, tap in taps.items() if f"{tap.module}.".startswith(f"{part.path}."))


def _export(
    target: Target, precision: str, problem: str | None, said: Answer
) -> ContractResult | None:
    """Export the converted module, type-check the file, run it."""
    if problem is not None:
        return said.not_run(f"no ONNX file even in float32: {problem}")
    low, outputs = (
        tuple(replace(s, dtype=precision) if s.dtype == "float32" else s for s in specs)
        for specs in (target.inputs, target.outputs)
    )
    if target.example is None:
        return said.not_run("there is no example to trace")
    example = {name: input_dtype(v, precision, "cpu") for name, v in target.example.items()}
    module = converted(target.module, precision, device="cpu")
    side = exported(module, low, outputs, example, dynamic_shapes(low), load=False)
    if side.problem is not None:
        return _refused(said, precision, side)
    bad = _type_problem(side.file.graph.model)
    said.details[f"{precision}: exported file"] = bad or "type-checks"
    if bad:
        place = side.place(_named_in(side.file.graph.model, bad) or "")
        return _failed(said, precision, bad, place)
    ran = f"{precision}: onnxruntime"
    if precision == "float16":
        inputs = {
            name: value.astype(np.float16) if value.dtype == np.float32 else value
            for name, value in probe(target).items()
        }
        try:
            side.run(inputs)
            said.details[ran] = "runs"
        except (OnnxStoppedError, ArtifactError) as error:
            said.details[ran] = f"not run ({str(error)[:200]})"
    else:
        said.details[ran] = "not run (numpy has no bfloat16)"
    return None


def _type_problem(model: onnx.ModelProto) -> str | None:
    """What strict type inference objects to; ``None`` when nothing."""
    try:
        with watched_step():
            onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        return str(error)[:600]
    return None


def _named_in(model: onnx.ModelProto, message: str) -> str | None:
    """First output of the node that a message names."""
    for node in model.graph.node:
        if node.name and (f"{node.name})" in message or f"'{node.name}'" in message):
            return node.output[0]
    return None


def _node_place(target: Target, message: str) -> Location | None:
    name = _named_in(target.onnx.file.graph.model, message)
    return target.onnx.place(name) if name else None


def _overflow(target: Target, part: Part, said: Answer) -> ContractResult | None:
    """Finite float32 values beyond float16 on the golden inputs; constants are told apart."""
    graph = target.onnx.file.graph
    inside = _names(target, part)
    large_constants: dict[str, float] = {}
    for name, tensor in graph.initializers.items():
        if tensor.data_type == onnx.TensorProto.FLOAT and graph.consumers.get(name):
            array = graph.array(name)
            peak = float(np.abs(array[np.isfinite(array)]).max(initial=0.0)) if array.size else 0.0
            if peak > LARGEST:
                large_constants[name] = peak
    if large_constants:
        first = dict(list(large_constants.items())[:10])
        said.details["constants that become infinite in float16"] = first
    masks = {abs(value) for value in large_constants.values()}
    cases = range(len(target.cases)) if target.thorough else range(1)
    names = [n for n in target.onnx.value_names() if inside is None or n in inside]
    worst = 0.0
    for case in cases:
        for name, (value,) in target.onnx.walk((probe(target, case),), names):
            if value.dtype != np.float32 or not value.size:
                continue
            finite = np.abs(value[np.isfinite(value)])
            finite = finite[~np.isin(finite, list(masks))] if masks else finite
            peak = float(finite.max(initial=0.0))
            worst = max(worst, peak)
            if peak > LARGEST:
                said.details["largest value"] = peak
                reason = f"float16 overflows at '{name}' on case {target.cases[case].name}"
                where = target.onnx.place(name)
                observed = f"a value of {peak:.6g}"
                return said.failed(observed, LIMIT, reason, where=where, advice=ADVICE)
    said.details["largest value"] = worst
    return None


def _refused(said: Answer, precision: str, side: OnnxSide) -> ContractResult:
    source = side.refusal.source if isinstance(side.refusal, StageError) else ""
    return said.failed(
        f"no file at {precision}",
        "exports at that precision",
        str(side.refusal)[:600],
        where=Location(source=source) if source else None,
        advice="cast the operands of this call to one dtype",
    )


def _failed(said: Answer, precision: str, bad: str, where: Location | None) -> ContractResult:
    advice = "insert the cast that the operator's type list asks for"
    observed = f"does not type-check at {precision}"
    return said.failed(observed, "strict type inference", bad, where=where, advice=advice)
