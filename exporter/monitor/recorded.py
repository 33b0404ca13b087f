"""What a monitor keeps beside a golden, so that a service needs neither YAML nor recordings.

    golden/<pipeline>/monitor/replay.safetensors   inputs of one to three golden cases
                              manifest.json        which golden, what its pipeline asks, and the
                                                   reference: signals of one row per recording

The inputs are those whose digests the golden holds; others are refused. The reference carries a
digest of its own, as a service believes it for as long as it lives.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load, save

from exporter.core.errors import GoldenError
from exporter.core.files import replacing, write_text
from exporter.core.reading import Door, reason
from exporter.core.spec_row import Row
from exporter.core.tensors import Arrays, Case
from exporter.golden.judge_file import Asked
from exporter.golden.observe import input_digests
from exporter.golden.store import read_golden
from exporter.golden.values import Golden, GoldenCase

FOLDER, MANIFEST, INPUTS = "monitor", "manifest.json", "replay.safetensors"
MOST_CASES = 3
DOOR = Door(
    error=GoldenError,
    says="not what 'monitor record' writes",
    remedy="write it again with 'export-verify monitor record PIPELINE'",
)


class AskedRow(Row):
    """What the pipeline asks of a check, see ``Asked``."""

    graph_digest: str
    opset: int
    min_coverage: float | None
    max_ambiguous: int
    names: dict[str, str]


class ManifestRow(Row):
    """``manifest.json``; ``sha256`` is of the reference."""

    format: Annotated[int, Field(ge=1, le=1)]
    golden: str
    asked: AskedRow
    cases: Annotated[list[str], Field(min_length=1, max_length=MOST_CASES)]
    reference: dict[str, list[float]]
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A golden as a service keeps it.

    Attributes:
        golden: whole. asked: what its pipeline asks.
        cases: recorded cases that are replayed, with their inputs.
        reference: signal -> its value in every recording of the reference; {} without one.
    """

    folder: Path
    golden: Golden
    asked: Asked
    cases: tuple[tuple[GoldenCase, Case], ...]
    reference: Mapping[str, np.ndarray]


def write_recorded(
    folder: Path,
    golden: Golden,
    asked: Asked,
    cases: Sequence[Case],
    reference: Mapping[str, Sequence[float]],
) -> None:
    """Keep beside the golden in ``folder`` what a monitor needs.

    Raises:
        GoldenError: a case has other inputs than were recorded.
    """
    for case in cases:
        _recorded_case(golden, case.name, case.inputs, folder)
    arrays = {
        f"{number}.{name}": np.atleast_1d(np.ascontiguousarray(value))
        for number, case in enumerate(cases)
        for name, value in case.inputs.items()
    }
    place = folder / FOLDER
    place.mkdir(exist_ok=True)
    with replacing(place / INPUTS, synced=True) as part:
        part.write_bytes(save(arrays))
    columns = {name: [float(value) for value in values] for name, values in reference.items()}
    body = {
        "format": 1,
        "golden": golden.digest,
        "asked": {name: getattr(asked, name) for name in AskedRow.model_fields},
        "cases": [case.name for case in cases],
        "reference": columns,
        "sha256": _digest(columns),
    }
    body["asked"]["names"] = dict(asked.names)
    write_text(place / MANIFEST, json.dumps(body, indent=1) + "\n")


def read_recorded(folder: str | Path) -> Recorded:
    """Read a golden with what was kept beside it.

    Raises:
        GoldenError: there is none, it is damaged, or it was kept for another golden.
    """
    folder = Path(folder)
    golden = read_golden(folder)
    path = folder / FOLDER / MANIFEST
    row = DOOR.record_of_json(ManifestRow, DOOR.bytes(path), path)
    if row.golden != golden.digest:
        raise DOOR.wrong(path, "this was kept for another golden than the one that lies here")
    if row.sha256 != _digest(row.reference):
        raise DOOR.wrong(path, "the reference is not the one that was recorded")
    if len({len(values) for values in row.reference.values()}) > 1:
        raise DOOR.wrong(path, "the signals of the reference are not of the same recordings")
    asked = Asked(**row.asked.model_dump())
    return Recorded(
        folder=folder,
        golden=golden,
        asked=asked,
        cases=_read_cases(folder, golden, row.cases),
        reference={name: np.array(values) for name, values in row.reference.items()},
    )


def _read_cases(
    folder: Path, golden: Golden, names: Sequence[str]
) -> tuple[tuple[GoldenCase, Case], ...]:
    path = folder / FOLDER / INPUTS
    try:
        arrays = load(DOOR.bytes(path))
    except SafetensorError as error:
        raise DOOR.bad(path, reason(error)) from error
    ranks = {spec.name: len(spec.shape) for spec in golden.inputs}
    cases = []
    for number, name in enumerate(names):
        head = f"{number}."
        values_of_case = {
            key[len(head) :]: value for key, value in arrays.items() if key.startswith(head)
        }
        # A scalar is stored as one element.
        inputs = {
            key: value.reshape(()) if ranks.get(key) == 0 and value.shape == (1,) else value
            for key, value in values_of_case.items()
        }
        expected = _recorded_case(golden, name, inputs, path)
        cases.append((expected, Case(name=name, inputs=inputs, origin=expected.origin)))
    return tuple(cases)


def _recorded_case(golden: Golden, name: str, inputs: Arrays, where: Path) -> GoldenCase:
    expected = golden.case(name)
    if expected is None:
        raise DOOR.wrong(where, f"the golden has no case '{name}'")
    if input_digests(inputs) != dict(expected.inputs):
        raise DOOR.wrong(where, f"the inputs of case '{name}' are not those that were recorded")
    return expected


def _digest(reference: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(reference, sort_keys=True).encode()).hexdigest()
