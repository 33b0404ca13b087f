"""A golden as files: checked to the last byte on the way in, all or nothing on the way out.

    golden/<pipeline>/manifest.json                 what, why, who judged, sha256 of every file
                      graph-<digest>.json           taps in order, nodes of the judged file
                      <case>-<digest>.safetensors   outputs and sketches of one case

Data files carry their digest in their names, so a new golden never writes over an old one's files.
Replacing the manifest is the one moment at which the new golden takes the old one's place: a
process that is killed before it leaves the old golden, after it the new one, both complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from exporter.core.errors import GoldenError
from exporter.core.files import clear_parts, replacing
from exporter.core.lock import locked
from exporter.core.reading import is_regular, reason
from exporter.core.spec_row import spec_of, spec_to_json
from exporter.core.tensors import PlannedTap, Tap
from exporter.golden.schema import (
    DOOR,
    CaseRow,
    GoldenOutputRow,
    InterfaceRow,
    Manifest,
    RecordedGraph,
    TapRow,
)
from exporter.golden.values import (
    FORMAT,
    Golden,
    GoldenCase,
    GoldenOutput,
    GraphNode,
    Interface,
    Port,
    pack_taps,
    unpack_taps,
)

MANIFEST = "manifest.json"
_AS_IT_IS = tuple(
    "pipeline pipeline_digest graph_digest weights reason replaces tool_version environment judged"
    " run".split()
)
"""Fields of a golden that stand in its manifest as they are."""
_WAIT_SECONDS = 60.0
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.@-]")


class TamperedError(GoldenError):
    """A file of a golden is not the one that was recorded."""


def exists(folder: Path) -> bool:
    """True when a golden lies in ``folder``, whole or not."""
    return is_regular(folder / MANIFEST)


def write_golden(golden: Golden, folder: Path) -> Golden:
    """Write a golden; the one that was there is replaced at a single moment, or not at all.

    Returns the golden with its digest.

    Raises:
        GoldenError: another process is writing one there, and does not end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f".{folder.name}.lock"), wait=_WAIT_SECONDS) as mine:
        if not mine:
            raise GoldenError(
                "another process is writing a golden here",
                where=str(folder),
                remedy="let it end, and record this one again",
            )
        return _write(golden, folder)


def _write(golden: Golden, folder: Path) -> Golden:
    files: dict[str, str] = {}
    rows = []
    for case in golden.cases:
        name = _write_data(folder, case.name, "safetensors", _case_bytes(case), files)
        rows.append(_case_row(case, name))
    graph = {
        "taps": [_tap_row(tap) for tap in golden.taps],
        "nodes": [list(astuple(node)) for node in golden.nodes],
    }
    graph_file = _write_data(folder, "graph", "json", json.dumps(graph, indent=0).encode(), files)
    body = {
        "format": FORMAT,
        **{name: getattr(golden, name) for name in _AS_IT_IS},
        "inputs": [spec_to_json(spec) for spec in golden.inputs],
        **({} if golden.interface is None else {"interface": _interface_row(golden.interface)}),
        "left_out": list(golden.left_out),
        "graph": graph_file,
        "cases": rows,
        "files": files,
    }
    text = _render(body)
    _write_synced(folder / MANIFEST, text.encode())
    _sync_folder(folder)
    clear_parts(folder)
    for path in folder.iterdir():
        if _is_data_name(path.name) and path.name not in files:
            path.unlink()
    return read_golden(folder)


def read_golden(folder: Path) -> Golden:
    """Read a golden and check every byte of it.

    Raises:
        GoldenError: there is none, or it has another format.
        TamperedError: a file differs from its digest, is missing, or is cut off.
    """
    manifest, digest = _read_manifest(folder)
    path = folder / MANIFEST
    data = {
        name: _read_data(folder, name, expected_digest)
        for name, expected_digest in manifest.files.items()
    }
    for name in (manifest.graph, *(row.file for row in manifest.cases)):
        if name not in data:
            raise DOOR.bad(path, f"'{name}' is named, and is none of its files")
    graph = DOOR.record_of_json(RecordedGraph, data[manifest.graph], folder / manifest.graph)
    taps = tuple(_tap_of(row) for row in graph.taps)
    try:
        cases = tuple(_case_of(row, data[row.file], taps) for row in manifest.cases)
    except (KeyError, ValueError, SafetensorError) as error:
        # Every digest is right, so whoever wrote this golden wrote it wrong.
        raise DOOR.bad(folder, reason(error)) from error
    return Golden(
        **manifest.model_dump(include=set(_AS_IT_IS)),
        inputs=tuple(spec_of(row) for row in manifest.inputs),
        interface=_interface_of(manifest.interface),
        left_out=tuple(manifest.left_out),
        taps=taps,
        nodes=tuple(GraphNode(*row) for row in graph.nodes),
        cases=cases,
        digest=digest,
    )


def golden_bytes(folder: Path) -> int:
    """Size of all files of a golden together."""
    manifest, _ = _read_manifest(folder)
    return sum((folder / name).stat().st_size for name in [MANIFEST, *manifest.files])


def golden_digest(folder: Path) -> tuple[str, str]:
    """Digest of a golden's manifest, and the graph digest of the pipeline that it is of.

    Raises:
        GoldenError: as in ``read_golden``; the data files are not looked at.
    """
    manifest, digest = _read_manifest(folder)
    return digest, manifest.graph_digest


def _read_manifest(folder: Path) -> tuple[Manifest, str]:
    path = folder / MANIFEST
    if not exists(folder):
        raise GoldenError(
            "there is no golden here",
            where=str(folder),
            remedy="make one with 'export-verify golden record PIPELINE --reason TEXT'",
        )
    raw = DOOR.bytes(path)
    try:
        body = json.loads(raw)
        digest = body.pop("sha256")
        version = body["format"]
        rendered = _render(body).encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TamperedError("no manifest, or one that was cut off", **_tampered(path)) from error
    # Rendered again and compared as bytes: white space and the order of keys count too.
    if rendered != raw:
        raise TamperedError(f"differs from its own digest {str(digest)[:12]}", **_tampered(path))
    if version != FORMAT:
        raise GoldenError(
            f"golden has format {version}, this version reads {FORMAT}",
            where=str(path),
            remedy="record it again, or use the version that recorded it",
        )
    return DOOR.record_of_json(Manifest, raw, path), str(digest)


def _read_data(folder: Path, name: str, digest: str) -> bytes:
    if not _PLAIN_NAME.fullmatch(name):
        raise DOOR.wrong(folder / MANIFEST, f"the manifest names a file '{name}'")
    path = folder / name
    if not is_regular(path):
        raise TamperedError("is in the manifest and not in the folder", **_tampered(path))
    raw = DOOR.bytes(path)
    actual_digest = hashlib.sha256(raw).hexdigest()
    if actual_digest != digest:
        message = f"sha256 is {actual_digest[:12]}, recorded was {digest[:12]}"
        raise TamperedError(message, **_tampered(path))
    return raw


def _tampered(path: Path) -> dict[str, str]:
    return {
        "where": str(path),
        "remedy": f"bring it back ('git checkout -- {path.parent}'), or record the golden again",
    }


def _render(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, indent=1, sort_keys=True, ensure_ascii=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps({**body, "sha256": digest}, indent=1, sort_keys=True) + "\n"


def _write_data(folder: Path, stem: str, suffix: str, data: bytes, files: dict[str, str]) -> str:
    digest = hashlib.sha256(data).hexdigest()
    name = f"{_UNSAFE.sub('_', stem)}-{digest[:12]}.{suffix}"
    _write_synced(folder / name, data)
    files[name] = digest
    return name


def _is_data_name(name: str) -> bool:
    return bool(re.fullmatch(r".+-[0-9a-f]{12}\.(json|safetensors)", name))


def _write_synced(path: Path, data: bytes) -> None:
    with replacing(path, synced=True) as part:
        part.write_bytes(data)


def _sync_folder(folder: Path) -> None:
    """Make the new names themselves survive a power cut, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _tap_row(planned: PlannedTap) -> list[Any]:
    tap = planned.tap
    onnx_name = "" if planned.onnx_name == tap.name else planned.onnx_name
    return [
        *(tap.name, onnx_name, tap.module, tap.module_class, tap.op, tap.source),
        *(planned.dtype, planned.fate, int(planned.output)),
    ]


def _tap_of(row: TapRow) -> PlannedTap:
    name, onnx_name, module, module_class, op, source, dtype, fate, output = row
    return PlannedTap(
        tap=Tap(name=name, module=module, module_class=module_class, op=op, source=source),
        onnx_name=onnx_name or name,
        dtype=dtype,
        fate=fate,
        output=bool(output),
    )


def _case_bytes(case: GoldenCase) -> bytes:
    arrays = pack_taps(case.taps)
    for output in case.outputs:
        if output.values is not None:
            arrays[f"output.{output.name}"] = np.ascontiguousarray(output.values)
    return save(arrays)


def _case_row(case: GoldenCase, file: str) -> dict[str, Any]:
    outputs = []
    for output in case.outputs:
        row = asdict(output) | {"witness": output.witness.hex(), "shape": list(output.shape)}
        row["values"] = output.values is not None
        outputs.append(row)
    return {
        "name": case.name,
        "origin": case.origin,
        "inputs": dict(case.inputs),
        "expect_empty": list(case.expect_empty),
        "outputs": outputs,
        "file": file,
    }


def _case_of(row: CaseRow, raw: bytes, taps: tuple[PlannedTap, ...]) -> GoldenCase:
    """One case.

    Raises:
        KeyError, ValueError, SafetensorError: its file does not hold what its row says.
    """
    arrays = load(raw)
    return GoldenCase(
        name=row.name,
        origin=row.origin,
        inputs=row.inputs,
        expect_empty=tuple(row.expect_empty),
        outputs=tuple(_output_of(output, arrays) for output in row.outputs),
        taps=unpack_taps(arrays, taps),
    )


def _output_of(row: GoldenOutputRow, arrays: Mapping[str, np.ndarray]) -> GoldenOutput:
    values, shape = None, tuple(row.shape)
    if row.values:
        values = arrays[f"output.{row.name}"]
        if values.shape == (1,) and not shape:
            values = values.reshape(())  # a scalar is stored as one element
        stored = values.dtype.name == row.dtype or (
            "float" in row.dtype and values.dtype.kind == "f"
        )
        if values.shape != shape or not stored:
            seen_shape = f"{values.dtype.name} {list(values.shape)}"
            raise ValueError(
                f"the values of '{row.name}' are {seen_shape}, not {row.dtype} {row.shape}"
            )
    return GoldenOutput(
        name=row.name,
        dtype=row.dtype,
        shape=shape,
        values=values,
        limit_max=row.limit_max,
        limit_rms=row.limit_rms,
        witness=bytes.fromhex(row.witness),
    )


def _interface_row(interface: Interface) -> dict[str, Any]:
    return dict(zip(InterfaceRow.model_fields, astuple(interface), strict=True))


def _interface_of(row: InterfaceRow | None) -> Interface | None:
    if row is None:
        return None
    inputs, outputs = (
        tuple(
            Port(name, dtype, None if dims is None else tuple(dims)) for name, dtype, dims in ports
        )
        for ports in (row.inputs, row.outputs)
    )
    return Interface(inputs=inputs, outputs=outputs, opset=row.opset)
