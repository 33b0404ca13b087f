"""What a cell, or the making of its file, came to: one JSON file each, whole or absent."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from exporter.core.files import read_text, write_text
from exporter.parity.status import DIFFERING, Status

VERDICT, CELL, REPORT_FOLDER = "verdict.json", "cell.json", "report"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class FirstLayer(_Record):
    """The first layer that is not as PyTorch has it: where, and how far off."""

    module: str
    op: str
    source: str = ""
    reason: str = ""

    def __str__(self) -> str:
        at = f" at {self.source}" if self.source else ""
        return f"'{self.module}' ({self.op}{at})"


class CaseVerdict(_Record):
    """One case of a cell; ``strain`` is the largest error over its limit, of the tap ``at``."""

    name: str
    state: str
    strain: float | None = None
    at: str = ""
    first: FirstLayer | None = None
    reason: str = ""


class CellVerdict(_Record):
    """What a cell came to.

    Attributes:
        status: one of the words of every report. state: of a golden that was checked: the same
            bits, within rounding, moved ...
        reason: one sentence; of what was not run, why.
        first: the first layer that moved.
        strain: largest error over its limit.
        packages: versions of the environment. machine: processor and system it ran on.
        seconds: of the verification itself. total_seconds: of the whole cell.
        folder: where its files lie, page: its own report, "" without one; both from the matrix's
            folder. known: from an earlier run.
    """

    status: Status
    state: str = ""
    reason: str = ""
    first: FirstLayer | None = None
    strain: float | None = None
    cases: tuple[CaseVerdict, ...] = ()
    packages: dict[str, str] = {}
    machine: str = ""
    seconds: float = 0.0
    total_seconds: float = 0.0
    folder: str = ""
    page: str = ""
    known: bool = False

    @property
    def bad(self) -> bool:
        """Something was compared and is beyond its limit."""
        return self.status in DIFFERING


class MadeVariant(_Record):
    """The file of a variant and what PyTorch gives on its cases.

    Attributes:
        status: of the run that made it; only a pass has files.
        yaml, onnx, golden: paths. content: digests of the files, by name.
    """

    digest: str
    status: Status
    reason: str = ""
    first: FirstLayer | None = None
    yaml: str = ""
    onnx: str = ""
    golden: str = ""
    content: dict[str, str] = {}
    seconds: float = 0.0
    folder: str = ""


def not_run(reason: str, **fields: object) -> CellVerdict:
    """What is never green: a cell that could not be judged, and why."""
    return CellVerdict.model_validate({"status": Status.NOT_RUN, "reason": reason, **fields})


def written(record: CellVerdict | MadeVariant, path: Path) -> None:
    """Write a record, whole or not at all."""
    write_text(path, record.model_dump_json(indent=1))


def read_verdict(path: Path) -> CellVerdict | None:
    """The verdict that lies there; None where there is none, or a part of one."""
    try:
        return CellVerdict.model_validate_json(read_text(path))
    except (OSError, ValidationError, ValueError):
        return None


def read_made(path: Path) -> MadeVariant | None:
    """As ``read_verdict``."""
    try:
        return MadeVariant.model_validate_json(read_text(path))
    except (OSError, ValidationError, ValueError):
        return None
