"""Write and read a ``Program``: ``ops.json`` and ``weights.safetensors`` in one folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, Strict, StrictInt, StringConstraints
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from exporter.core.errors import ArtifactError, UserInputError
from exporter.core.files import name_of_open, open_regular, replacing, write_text
from exporter.core.reading import Door, reason
from exporter.core.spec_row import SpecRow, spec_of, spec_to_json
from exporter.graph.guards import Guard, check_tree
from exporter.graph.program import Block, Op, Program, Ref

FORMAT = 2
DOOR = Door(
    error=ArtifactError,
    says="the captured program cannot be read",
    remedy="run the pipeline again; 'export-verify run' writes this folder",
)
OPS_FILE = "ops.json"
WEIGHTS_FILE = "weights.safetensors"


class OpRow(BaseModel):
    """One op; ``_from_json`` reads its arguments."""

    model_config = ConfigDict(strict=True, frozen=True)

    name: str
    target: str
    args: list[Any]
    kwargs: dict[str, Any]
    kind: Literal["tensor", "tensors", "size"]
    dtype: Annotated[str, StringConstraints(pattern=r"^\w*$")]
    module: str
    module_class: str
    source: str
    empty: bool = False


class BlockRow(BaseModel):
    """Ops that another op runs."""

    model_config = ConfigDict(strict=True, frozen=True)

    inputs: list[str]
    ops: list[OpRow]
    outputs: list[Any]


class GuardRow(BaseModel):
    """One condition on sizes, as lists instead of tuples."""

    model_config = ConfigDict(strict=True, frozen=True)

    condition: Any
    source: str
    by_model: bool


_Ends = Annotated[tuple[StrictInt, StrictInt | None], Strict(False)]
_EndsAndStep = Annotated[
    tuple[StrictInt, StrictInt | None, Annotated[StrictInt, Field(ge=1)]], Strict(False)
]


class ProgramRow(BaseModel):
    """``ops.json``; limits, notes and guards are absent in what older versions wrote."""

    model_config = ConfigDict(strict=True, frozen=True)

    inputs: list[str]
    weights: dict[str, str]
    outputs: list[str]
    output_names: list[str]
    # Lowest, highest, and since some version what all sizes are multiples of.
    limits: dict[str, _Ends | _EndsAndStep] = {}
    notes: list[str] = []
    guards: list[GuardRow] = []
    specs: list[SpecRow] = []
    fallback: str = ""
    ops: list[OpRow]


def save_program(program: Program, folder: Path) -> None:
    """Write ``program`` to ``folder``; the op list is written last, so a half save is no program.

    Weights that share memory are written once each (safetensors refuses aliases).
    """
    folder.mkdir(parents=True, exist_ok=True)
    ops_path = folder / OPS_FILE
    ops_path.unlink(missing_ok=True)
    tensors = {key: tensor.contiguous() for key, tensor in program.tensors.items()}
    owners: dict[int, str] = {}
    for key, tensor in tensors.items():
        pointer = tensor.untyped_storage().data_ptr()
        if tensor.numel() and owners.setdefault(pointer, key) != key:
            tensors[key] = tensor.clone()
    with replacing(folder / WEIGHTS_FILE) as part:
        save_file(tensors, part)
    text = json.dumps(
        {
            "format": FORMAT,
            "inputs": program.inputs,
            "weights": dict(program.weights),
            "outputs": program.outputs,
            "output_names": program.output_names,
            "limits": dict(program.limits),
            "notes": program.notes,
            "specs": [spec_to_json(spec) for spec in program.specs],
            **({"fallback": program.fallback} if program.fallback else {}),
            "guards": [dataclasses.asdict(guard) for guard in program.guards],
            "ops": [_op_to_json(op) for op in program.ops],
        }
    )
    write_text(ops_path, text)


def load_program(folder: Path) -> Program:
    """Read a program that ``save_program`` wrote.

    Raises:
        ArtifactError: a file is missing, cut off, of another format version, or is no program.
    """
    path, weights = folder / OPS_FILE, folder / WEIGHTS_FILE
    data = DOOR.json(path)
    version = data.get("format") if isinstance(data, dict) else None
    if version != FORMAT:
        raise DOOR.wrong(path, f"it has format {version!r:.40}, this version reads {FORMAT}")
    rows = DOOR.record(ProgramRow, data, path)
    try:
        ops = tuple(_op_of(row) for row in rows.ops)
        guards = tuple(_guard_of(row) for row in rows.guards)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DOOR.bad(path, reason(error)) from error
    try:
        with open_regular(weights) as stream:  # safetensors would wait for a pipe
            tensors = load_file(name_of_open(stream, weights))
    except (OSError, ValueError, UserInputError, SafetensorError) as error:
        raise DOOR.bad(weights, reason(error)) from error
    program = Program(
        inputs=tuple(rows.inputs),
        weights=rows.weights,
        ops=ops,
        outputs=tuple(rows.outputs),
        output_names=tuple(rows.output_names),
        tensors=tensors,
        limits={name: _limits(limit) for name, limit in rows.limits.items()},
        notes=tuple(rows.notes),
        guards=guards,
        specs=tuple(spec_of(row) for row in rows.specs),
        fallback=rows.fallback,
    )
    problem = next(_problems(program), None)
    if problem is not None:
        raise DOOR.bad(path, problem)
    return program


def _limits(limits: _Ends | _EndsAndStep) -> tuple[int, int | None, int]:
    return limits[0], limits[1], limits[2] if len(limits) == 3 else 1


def _problems(program: Program) -> Iterator[str]:
    """What a program that was captured never has: names that lead nowhere, or that stand twice."""
    if len(program.outputs) != len(program.output_names):
        yield f"{len(program.outputs)} outputs have {len(program.output_names)} names"
    for name, key in program.weights.items():
        if key not in program.tensors:
            yield f"'{name}' is a weight '{key}', which is not stored"
    known = {*program.inputs, *program.weights}
    for op in program.ops:
        for name in op.refs():
            if name not in known:
                yield f"'{op.name}' reads '{name}' before it is made"
        if op.name in known:
            yield f"'{op.name}' stands there twice"
        known.add(op.name)
    made = {op.name for op in program.ops}
    for name in program.outputs:
        if name not in made:
            yield f"the output '{name}' is computed by no op"
    for guard in program.guards:
        for name in {name for name, _ in guard.inputs()} - set(program.inputs):
            yield f"a guard speaks of '{name}', which is no input"


def _op_to_json(op: Op) -> dict[str, Any]:
    return {
        "name": op.name,
        "target": op.target,
        "args": [_to_json(arg) for arg in op.args],
        "kwargs": {key: _to_json(arg) for key, arg in op.kwargs.items()},
        "kind": op.kind,
        "dtype": op.dtype,
        "module": op.module,
        "module_class": op.module_class,
        "source": op.source,
        **({"empty": True} if op.empty else {}),
    }


def _op_of(row: OpRow) -> Op:
    return Op(
        name=row.name,
        target=row.target,
        args=tuple(_from_json(arg) for arg in row.args),
        kwargs={key: _from_json(arg) for key, arg in row.kwargs.items()},
        kind=row.kind,
        dtype=row.dtype,
        module=row.module,
        module_class=row.module_class,
        source=row.source,
        empty=row.empty,
    )


def _guard_of(row: GuardRow) -> Guard:
    condition = _tuples(row.condition)
    check_tree(condition)
    return Guard(condition=condition, source=row.source, by_model=row.by_model)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


_TORCH_KINDS: dict[str, type] = {
    "dtype": torch.dtype,
    "layout": torch.layout,
    "memory_format": torch.memory_format,
}


def _to_json(value: Any) -> Any:
    if isinstance(value, Ref):
        return {"ref": value.name}
    if isinstance(value, Block):
        ops = [_op_to_json(op) for op in value.ops]
        outputs = [_to_json(item) for item in value.outputs]
        return {"block": {"inputs": value.inputs, "ops": ops, "outputs": outputs}}
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, float):
        # JSON has no inf or nan; repr keeps every bit.
        return {"float": repr(value)}
    for kind, cls in _TORCH_KINDS.items():
        if isinstance(value, cls):
            return {kind: str(value).removeprefix("torch.")}
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_from_json(item) for item in value)
    if not isinstance(value, dict):
        return value
    ((kind, text),) = value.items()
    if kind == "block":
        block = BlockRow.model_validate(text)
        return Block(
            inputs=tuple(block.inputs),
            ops=tuple(_op_of(row) for row in block.ops),
            outputs=tuple(_from_json(item) for item in block.outputs),
        )
    if not isinstance(text, str):
        raise ValueError(f"a {kind} is no {type(text).__name__}")
    if kind == "ref":
        return Ref(text)
    if kind == "float":
        return float(text)
    if kind == "device":
        return torch.device(text)
    torch_value = getattr(torch, text, None)
    if kind not in _TORCH_KINDS or not isinstance(torch_value, _TORCH_KINDS[kind]):
        raise ValueError(f"unknown {kind} '{text}'")
    return torch_value
