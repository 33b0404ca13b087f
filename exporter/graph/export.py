"""Captured program -> ONNX, with the taps recorded before anything can rename them."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch

from exporter.errors import StageError
from exporter.graph.capture import keep_recurrent_ops, quiet_exporter
from exporter.graph.decompose import decomposed_by_torch, decomposed_once
from exporter.graph.program import Program, from_exported
from exporter.graph.promotion import known_values
from exporter.graph.recurrent import TRANSLATIONS
from exporter.tensors import TensorSpec

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
# Metadata that only makes the file larger and carries absolute paths of the build machine.
_DROPPED_METADATA = (
    "pkg.torch.onnx.stack_trace",
    "pkg.torch.onnx.fx_node",
    "namespace",
)

# An input that only these read might as well hold anything: the exporter took it for another one.
_SIZE_OPS = frozenset({"Shape", "Size"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An ONNX model as the exporter wrote it, and the program that it really translated.

    ``left`` says why the program was decomposed by torch; "" when it was not.
    """

    model: ir.Model
    program: Program
    left: str = ""


def export(
    captured: torch.export.ExportedProgram,
    *,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    opset: int,
    names_of_torch: bool = False,
) -> Exported:
    """Translate a captured program with ``torch.onnx.export(dynamo=True)``, optimiser off.

    Input and output axes get the names of their ``TensorSpec``; the returned program is the one
    after the exporter's decompositions, whose value names the ONNX graph carries.

    Args:
        names_of_torch: let torch decompose the program, slowly. Its values then have the names
            that a plain ``torch.onnx.export`` gives them.

    Raises:
        StageError: the exporter fails, or the file lacks an input, an output or a dynamic axis
            that was declared.
    """
    names = tuple(spec.name for spec in outputs)
    left: list[str] = []

    def translated(way: contextlib.AbstractContextManager[None]) -> Any:
        # Without gradients: the decompositions would trace the backward pass's views.
        with torch.no_grad(), keep_recurrent_ops(), quiet_exporter(), known_values(), way:
            return torch.onnx.export(
                captured,
                dynamo=True,
                opset_version=opset,
                optimize=False,
                verbose=False,
                input_names=[spec.name for spec in inputs],
                output_names=list(names),
                custom_translation_table=TRANSLATIONS,
            )

    result = None
    if not names_of_torch:
        try:
            result = translated(decomposed_once(left.append))
        except Exception as error:  # noqa: BLE001 - raised below, unless torch's own way works
            left.append(f"what was taken apart here is not translated: {_first_cause(error)}")
    try:
        if result is None:
            result = translated(decomposed_by_torch())
    except Exception as error:
        raise StageError("export", f"torch.onnx.export failed: {str(error)[:2000]}") from error
    if result is None or result.exported_program is None:
        raise StageError("export", "torch.onnx.export returned nothing")
    model = result.model
    program = from_exported(result.exported_program, names, tuple(spec.name for spec in inputs))
    for node in model.graph.all_nodes():
        for key in _DROPPED_METADATA:
            node.metadata_props.pop(key, None)
        # "<function sym_max at 0x7f83...>": the same export must be the same bytes tomorrow.
        for key, value in list(node.metadata_props.items()):
            node.metadata_props[key] = _ADDRESS.sub("", value)
    _name_axes(model, inputs, outputs)
    check_interface(model, inputs, outputs, stage="export")
    return Exported(model=model, program=program, left="; ".join(left))


def _first_cause(error: BaseException) -> str:
    """What went wrong first, in one line; the exporter wraps it several times."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _name_axes(
    model: ir.Model, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> None:
    """Give dynamic axes their declared names; a fixed size in the file is left as it is."""
    ends = [*zip(model.graph.inputs, inputs, strict=False)]
    ends += zip(model.graph.outputs, outputs, strict=False)
    for value, spec in ends:
        if value.shape is None or len(value.shape) != len(spec.shape):
            continue
        dims = [
            declared if isinstance(declared, str) and not isinstance(found, int) else found
            for declared, found in zip(spec.shape, value.shape, strict=True)
        ]
        value.shape = ir.Shape(dims)


def check_interface(
    model: ir.Model,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    *,
    stage: str,
) -> None:
    """Check that a file has the declared inputs and outputs, used, typed and dynamic.

    All differences are collected; one error lists them.

    Raises:
        StageError: an input or output is missing or has another dtype, an input is not used (or
            only its size is), or an axis that was declared dynamic is a constant in the file.
    """
    problems: list[str] = []
    for side, specs, values in (
        ("input", inputs, list(model.graph.inputs)),
        ("output", outputs, list(model.graph.outputs)),
    ):
        by_name = {value.name: value for value in values if value.name}
        extra = sorted(set(by_name) - {spec.name for spec in specs})
        problems += [f"{side} '{name}' was not declared" for name in extra]
        for spec in specs:
            value = by_name.get(spec.name)
            if value is None:
                problems.append(f"{side} '{spec.name}' is missing from the graph")
                continue
            problems += _value_problems(side, spec, value)
            if side == "input" and not value.uses():
                problems.append(f"input '{spec.name}' is not used by any node")
            elif side == "input" and all(user.op_type in _SIZE_OPS for user, _ in value.uses()):
                problems.append(f"input '{spec.name}' is not used but for its size")
    if problems:
        raise StageError(stage, "; ".join(problems))


def _value_problems(side: str, spec: TensorSpec, value: ir.Value) -> list[str]:
    found: list[str] = []
    if value.dtype is not None and value.dtype != _onnx_dtype(spec.dtype):
        found.append(f"{side} '{spec.name}' is {value.dtype.name}, declared {spec.dtype}")
    if value.shape is None:
        return [*found, f"{side} '{spec.name}' has no shape in the file"]
    if len(value.shape) != len(spec.shape):
        rank = f"{len(value.shape)} axes, declared {len(spec.shape)}"
        return [*found, f"{side} '{spec.name}' has {rank}"]
    for axis, (declared, size) in enumerate(zip(spec.shape, value.shape, strict=True)):
        if isinstance(declared, str) and isinstance(size, int):
            found.append(
                f"{side} '{spec.name}': axis {axis} ({declared}) is declared dynamic but is the "
                f"constant {size} in the file"
            )
        if isinstance(declared, int) and isinstance(size, int) and declared != size:
            found.append(f"{side} '{spec.name}': axis {axis} is {size}, declared {declared}")
    return found


def _onnx_dtype(name: str) -> ir.DataType:
    return ir.DataType[{"float32": "FLOAT", "float64": "DOUBLE"}.get(name, name.upper())]
