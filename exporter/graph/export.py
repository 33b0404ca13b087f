"""Captured program -> ONNX, with the taps recorded before anything can rename them."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import onnx_ir as ir
import torch

from exporter.core.errors import StageError, first_line
from exporter.core.tensors import TensorSpec
from exporter.graph.arc_tangent import TRANSLATIONS as OF_ANGLES
from exporter.graph.capture import keep_recurrent_ops, quiet_exporter
from exporter.graph.decompose import decomposed_by_torch, decomposed_once
from exporter.graph.program import Program, from_exported, renamed_ops, source_of
from exporter.graph.promotion import known_values
from exporter.graph.recurrent import TRANSLATIONS as RECURRENT
from exporter.graph.repairs.fourier_ops import TRANSLATIONS as OF_FOURIER
from exporter.graph.repairs.grouped_products import TRANSLATIONS as OF_GROUPS
from exporter.graph.repairs.sequence_ops import NAMESPACE
from exporter.graph.repairs.sequence_translations import TRANSLATIONS as OF_LENGTHS
from exporter.graph.size_rounding import translations_for
from exporter.graph.torch_refusal import freezes_an_axis, line_in, untranslated_op
from exporter.graph.windows import TRANSLATIONS as OF_WINDOWS
from exporter.models.custom_translation import Translations

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
    translations: Translations | None = None,
) -> Exported:
    """Translate a captured program with ``torch.onnx.export(dynamo=True)``, optimiser off.

    Input and output axes get the names of their ``TensorSpec``; the returned program is the one
    after the exporter's decompositions, whose value names the ONNX graph carries.

    Args:
        names_of_torch: let torch decompose the program, slowly. Its values then have the names
            that a plain ``torch.onnx.export`` gives them.
        translations: of ops that the exporter does not know, by op.

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
                custom_translation_table={
                    **RECURRENT,
                    **OF_LENGTHS,
                    **OF_GROUPS,
                    **OF_FOURIER,
                    **OF_WINDOWS,
                    **OF_ANGLES,
                    **translations_for(captured),
                    **(translations or {}),
                },
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
        message = str(error)
        unknown = _unknown_op(captured, translations or {}, message)
        if unknown is not None:
            raise unknown from error
        message = message[:2000]
        raise StageError(
            "export",
            f"torch.onnx.export failed: {message}",
            frozen=freezes_an_axis(message),
            source=line_in(message),
        ) from error
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
    program = checked_interface(model, program, inputs, outputs)
    return Exported(model=model, program=program, left="; ".join(left))


def checked_interface(
    model: ir.Model,
    program: Program,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
) -> Program:
    """Name the axes of a file that was just made, and check it; returns its program, values inside
    that are called like an output renamed in both.

    Raises:
        StageError: as of ``check_interface``, or a weight is called like an output.
    """
    program = _apart_from_outputs(program, model)
    _name_axes(model, inputs, outputs)
    check_interface(model, inputs, outputs, stage="export")
    return program


def _unknown_op(
    captured: torch.export.ExportedProgram, known: Translations, message: str
) -> StageError | None:
    """What to say of the first op that nobody translates.

    Args:
        message: torch's, which names the op of its own that it stopped at.
    """
    stopped_at = untranslated_op(message)
    for node in captured.graph.nodes:
        op = node.target
        if not isinstance(op, torch._ops.OpOverload) or op in known:
            continue
        own = op.namespace not in ("aten", "prims", "higher_order", NAMESPACE)
        if own or str(op) == stopped_at:
            overload = op._schema.overload_name
            name = f"{op._schema.name}.{overload}" if overload else op._schema.name
            return StageError(
                "export",
                f"the exporter does not know the op '{name}' ({source_of(node)})",
                remedy="write it in ONNX, as a function of onnxscript's operators, and name it:"
                f" export: {{custom_translation: {{'{name}': MODULE:FUNCTION}}}}",
            )
    return None


def _apart_from_outputs(program: Program, model: ir.Model) -> Program:
    """Rename inner values that are called like an output ("where", "mean"), here and in the file.

    Raises:
        StageError: a weight is called like an output.
    """
    weights = sorted(set(program.weights.values()) & set(program.output_names))
    if weights:
        raise StageError(
            "export",
            f"output '{weights[0]}' has the name of a weight",
            remedy="give the output another name in the pipeline",
        )
    taken = {op.name for op in program.ops} | {*program.output_names, *program.inputs}
    renamed: dict[str, str] = {}
    for name in (op.name for op in program.ops if op.name not in program.outputs):
        if name in program.output_names:
            others = (f"{name}_inner{number or ''}" for number in itertools.count())
            renamed[name] = next(other for other in others if other not in taken)
    if not renamed:
        return program
    returned = {id(value) for value in model.graph.outputs}
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if value.name in renamed and id(value) not in returned:
                value.name = renamed[value.name]
    return renamed_ops(program, renamed)


def _first_cause(error: BaseException) -> str:
    """What went wrong first, in one line; the exporter wraps it several times."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


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
            declared if isinstance(declared, str) and not isinstance(size, int) else size
            for declared, size in zip(spec.shape, value.shape, strict=True)
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
    differences = interface_differences(model, inputs, outputs)
    if differences:
        frozen = any(difference.kind is InterfaceKind.FROZEN for difference in differences)
        raise StageError(
            stage, "; ".join(difference.text for difference in differences), frozen=frozen
        )


class InterfaceKind(StrEnum):
    """In what an input or output of a file is not the declared one."""

    EXTRA = "extra"
    MISSING = "missing"
    UNUSED = "unused"
    DTYPE = "dtype"
    RANK = "rank"
    FROZEN = "frozen"
    SIZE = "size"


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceDifference:
    """One difference: its kind, "input" or "output", the name, and the same in words."""

    kind: InterfaceKind
    side: str
    name: str
    text: str


def interface_differences(
    model: ir.Model, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> tuple[InterfaceDifference, ...]:
    """All differences of a file's inputs and outputs to the declared ones."""
    differences: list[InterfaceDifference] = []
    for side, specs, values in (
        ("input", inputs, list(model.graph.inputs)),
        ("output", outputs, list(model.graph.outputs)),
    ):
        by_name = {value.name: value for value in values if value.name}
        extra = sorted(set(by_name) - {spec.name for spec in specs})
        differences += [
            _differs(InterfaceKind.EXTRA, side, name, "was not declared") for name in extra
        ]
        for spec in specs:
            value = by_name.get(spec.name)
            if value is None:
                text = "is missing from the graph"
                differences.append(_differs(InterfaceKind.MISSING, side, spec.name, text))
                continue
            differences += _value_differences(side, spec, value)
            if side == "input" and spec.idle:
                continue
            if side == "input" and not value.uses():
                text = "is not used by any node"
                differences.append(_differs(InterfaceKind.UNUSED, side, spec.name, text))
            elif side == "input" and all(user.op_type in _SIZE_OPS for user, _ in value.uses()):
                text = "is not used but for its size"
                differences.append(_differs(InterfaceKind.UNUSED, side, spec.name, text))
    return tuple(differences)


def _differs(kind: InterfaceKind, side: str, name: str, text: str) -> InterfaceDifference:
    return InterfaceDifference(kind=kind, side=side, name=name, text=f"{side} '{name}' {text}")


def _value_differences(
    side: str, spec: TensorSpec, value: ir.Value
) -> Iterator[InterfaceDifference]:
    if value.dtype is not None and value.dtype != _onnx_dtype(spec.dtype):
        text = f"is {_numpy_name(value.dtype)}, declared {spec.dtype}"
        yield _differs(InterfaceKind.DTYPE, side, spec.name, text)
    if value.shape is None:
        yield _differs(InterfaceKind.RANK, side, spec.name, "has no shape in the file")
        return
    if len(value.shape) != len(spec.shape):
        text = f"has {len(value.shape)} axes, declared {len(spec.shape)}"
        yield _differs(InterfaceKind.RANK, side, spec.name, text)
        return
    for axis, (declared, size) in enumerate(zip(spec.shape, value.shape, strict=True)):
        if isinstance(declared, str) and isinstance(size, int):
            text = f"axis {axis} ({declared}) is declared dynamic but is the constant {size}"
            yield InterfaceDifference(
                kind=InterfaceKind.FROZEN,
                side=side,
                name=spec.name,
                text=f"{side} '{spec.name}': {text} in the file",
            )
        if isinstance(declared, int) and isinstance(size, int) and declared != size:
            text = f"{side} '{spec.name}': axis {axis} is {size}, declared {declared}"
            yield InterfaceDifference(kind=InterfaceKind.SIZE, side=side, name=spec.name, text=text)


def _numpy_name(dtype: ir.DataType) -> str:
    return {"FLOAT": "float32", "DOUBLE": "float64"}.get(dtype.name, dtype.name.lower())


def _onnx_dtype(name: str) -> ir.DataType:
    return ir.DataType[{"float32": "FLOAT", "float64": "DOUBLE"}.get(name, name.upper())]
