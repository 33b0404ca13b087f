"""Write and read a ``Program``: ``ops.json`` and ``weights.safetensors`` in one folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from exporter.core.errors import ArtifactError
from exporter.core.files import replacing, write_text
from exporter.graph.guards import Guard
from exporter.graph.program import Op, Program, Ref

FORMAT = 1
OPS_FILE = "ops.json"
WEIGHTS_FILE = "weights.safetensors"


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
            "guards": [dataclasses.asdict(guard) for guard in program.guards],
            "ops": [_op_to_json(op) for op in program.ops],
        }
    )
    write_text(ops_path, text)


def load_program(folder: Path) -> Program:
    """Read a program that ``save_program`` wrote.

    Raises:
        ArtifactError: a file is missing, cut off or of another format version.
    """
    try:
        data = json.loads((folder / OPS_FILE).read_text())
        if data["format"] != FORMAT:
            raise ArtifactError(
                f"captured program has format {data['format']}, this version reads {FORMAT}",
                where=str(folder),
                remedy="run the pipeline again",
            )
        return Program(
            inputs=tuple(data["inputs"]),
            weights=data["weights"],
            ops=tuple(_op_from_json(item) for item in data["ops"]),
            outputs=tuple(data["outputs"]),
            output_names=tuple(data["output_names"]),
            tensors=load_file(folder / WEIGHTS_FILE),
            limits={name: (low, high) for name, (low, high) in data.get("limits", {}).items()},
            notes=tuple(data.get("notes", ())),
            guards=tuple(_guard_from_json(item) for item in data.get("guards", ())),
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ArtifactError(
            f"the captured program cannot be read ({type(error).__name__}: {error})",
            where=str(folder),
            remedy="run the pipeline again; the folder is written by 'export-verify run'",
        ) from error


def program_digest(program: Program) -> str:
    """sha256 of the op list (not of the weights, which have a digest of their own)."""
    text = json.dumps([_op_to_json(op) for op in program.ops], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


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
    }


def _op_from_json(item: dict[str, Any]) -> Op:
    return Op(
        name=item["name"],
        target=item["target"],
        args=tuple(_from_json(arg) for arg in item["args"]),
        kwargs={key: _from_json(arg) for key, arg in item["kwargs"].items()},
        kind=item["kind"],
        dtype=item["dtype"],
        module=item["module"],
        module_class=item["module_class"],
        source=item["source"],
    )


def _guard_from_json(item: dict[str, Any]) -> Guard:
    return Guard(
        condition=_tuples(item["condition"]), source=item["source"], by_model=item["by_model"]
    )


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
    if kind == "ref":
        return Ref(text)
    if kind == "float":
        return float(text)
    if kind == "device":
        return torch.device(text)
    found = getattr(torch, text, None)
    if kind not in _TORCH_KINDS or not isinstance(found, _TORCH_KINDS[kind]):
        raise ValueError(f"unknown {kind} '{text}'")
    return found
