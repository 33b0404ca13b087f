"""Judge lowered files: healthy ones of other tools, and the same with faults planted.

    python scripts/lowered_table.py [--keep FOLDER] [--write]

One small conformer with an LSTM is exported, and written in lower precisions by other tools.
``verify`` judges each file with its precision declared. Exits 1 where a healthy file fails, a
faulty one passes, or a fault is found in another layer. Files in FOLDER are not made again;
``--write`` puts the tables into docs/lower.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import onnx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from scripts.marked_page import write_between  # noqa: E402

os.environ.setdefault("EXPORT_VERIFY_CACHE", "off")

from tests.support import lowered  # noqa: E402
from tests.support.lowered_by_others import FORMS  # noqa: E402
from tests.support.lowered_faults import FAULTS, Fault  # noqa: E402

PAGE = ROOT / "docs" / "lower.md"
MARK = "<!-- lowered -->", "<!-- /lowered -->"


@dataclass(frozen=True)
class Judged:
    """What ``verify`` says of a file: a cell of a table, and whether it is right."""

    tool: str
    fault: str
    said: str
    right: bool
    verdict: str
    compared: int = 0


def healthy(folder: Path, name: str) -> Judged:
    """A file as its tool has made it."""
    form = FORMS[name]
    try:
        path = made(folder, name)
    except Exception as error:  # noqa: BLE001 - it is the tool that stops
        return Judged(form.tool, "", f"the tool stops: {type(error).__name__}", True, "")
    report = lowered.judged(folder, path, form.precision)
    compared = max((link.compared or 0 for link in report.links if link.layers), default=0)
    blamed = ", ".join(culprit.layer for culprit in report.culprits)
    said = "passes" if report.exit_code == 0 else f"{report.verdict}: {blamed or report.headline}"
    return Judged(form.tool, "", said, report.exit_code == 0, report.verdict, compared)


def faulty(folder: Path, weight: str, fault: Fault) -> Judged:
    """The same with a fault."""
    model = onnx.load(made(folder, fault.form))
    fault.plant(model, weight)
    path = folder / "faulty.onnx"
    onnx.save(model, path)
    form = FORMS[fault.form]
    report = lowered.judged(folder, path, form.precision)
    blamed = {culprit.layer for culprit in report.culprits}
    right = report.exit_code == 1 and bool(blamed) and blamed <= fault.layers
    said = "its layer" if right else f"{report.verdict}: {', '.join(sorted(blamed)) or 'no layer'}"
    return Judged(form.tool, fault.name, said, right, report.verdict)


def made(folder: Path, name: str) -> Path:
    """The file of a tool; made once."""
    path = folder / f"{name}.onnx"
    if not path.is_file():
        FORMS[name].make(folder / "out" / "model.onnx", path)
    return path


def tables(files: list[Judged], faults: list[Judged]) -> str:
    """Markdown."""
    ran = [row for row in files if row.compared]
    found = sum(row.right for row in faults)
    failed = sum(row.verdict == "fail" for row in faults)
    lines = [
        f"{sum(row.right for row in ran)} of {len(ran)} healthy files pass;"
        f" {failed} of {len(faults)} planted faults fail, {found} of them"
        f" in their own layer and no other ({100 * found / max(1, len(faults)):.0f} %).",
        "",
        "| healthy file of | verdict | values compared inside |",
        "|---|---|--:|",
        *(f"| {row.tool} | {row.said} | {row.compared} |" for row in files),
        "",
        "| file of | planted | blamed |",
        "|---|---|---|",
        *(f"| {row.tool} | {row.fault} | {row.said} |" for row in faults),
    ]
    return "\n".join(lines)


def main() -> int:
    """Judge, and show or write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--keep", type=Path, help="folder for the files")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/lower.md")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        if not (folder / "out" / "model.onnx").is_file():
            lowered.made(folder)
        files, faults = [], []
        for name in FORMS:
            began = time.perf_counter()
            files.append(healthy(folder, name))
            print(f"{files[-1]} {time.perf_counter() - began:.1f} s", flush=True)
        weight = lowered.weight_of(onnx.load(folder / "out" / "model.onnx"), 0)
        for fault in FAULTS:
            began = time.perf_counter()
            faults.append(faulty(folder, weight, fault))
            print(f"{faults[-1]} {time.perf_counter() - began:.1f} s", flush=True)
    print(tables(files, faults))
    if given.write:
        write_between(PAGE, MARK, tables(files, faults))
    return 0 if all(row.right for row in (*files, *faults)) else 1


if __name__ == "__main__":
    sys.exit(main())
