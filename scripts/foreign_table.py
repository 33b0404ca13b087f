"""Compare what other tools make of a model with the model's own file, healthy and with faults.

    python scripts/foreign_table.py [--models conformer ...] [--tools onnxsim ...]
                                    [--keep FOLDER] [--write]

Each tool writes a file of each model; into three copies of that file a fault is planted. A row is
one tool on one model: the share of floating values that ``compare`` joins, and of each of the four
files whether the verdict is right and, for a fault, whether the first layer named is its own.
With --keep a run that was stopped goes on where it was: rows of the same commit are not judged
again. Exits 1 where a faulty file passed, or a healthy one failed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from unittest.mock import patch

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from scripts.marked_page import between, replaced  # noqa: E402

os.environ.setdefault("EXPORT_VERIFY_CACHE", "off")

from exporter.core.errors import ArtifactError  # noqa: E402
from exporter.flows.compare import CompareOptions, compare  # noqa: E402
from tests.support import foreign_tools as foreign  # noqa: E402

PAGE = ROOT / "docs" / "foreign.md"
MARK = "<!-- foreign -->", "<!-- /foreign -->"
MODELS = {
    "conformer": foreign.conformer,
    "LSTM": foreign.recurrent,
    "sensevoice_tiny": foreign.sensevoice,
}
HEAD = "| model | tool | joined | " + " | ".join(foreign.FAULTS) + " | CPU s |\n"
HEAD += "|---|---|--:|" + ":-:|" * len(foreign.FAULTS) + "--:|"


@dataclass
class Row:
    """A tool on a model: share of values joined, and an answer per file."""

    model: str
    tool: str
    joined: float | None = None
    answers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def read(cls, line: str) -> Row:
        """A row of the page."""
        model, tool, share, *answers, seconds = (cell.strip() for cell in line.split("|")[1:-1])
        joined = None if share == "-" else float(share.split()[0]) / 100
        held = {f: said for f, said in zip(foreign.FAULTS, answers, strict=True) if said != "-"}
        return cls(model, tool, joined, held, float(seconds))

    def line(self) -> str:
        share = "-" if self.joined is None else f"{100 * self.joined:.0f} %"
        answers = [self.answers.get(fault, "-") for fault in foreign.FAULTS]
        return (
            f"| {self.model} | {self.tool} | {share} | {' | '.join(answers)} | {self.seconds:.0f} |"
        )


def judged(name: str, tool_name: str, source: foreign.Source) -> Row | None:
    """One row; None where the tool does not make such a file."""
    tool, row = foreign.TOOLS[tool_name], Row(name, tool_name)
    began = time.process_time()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            file = tool.make(source)
    except Exception as error:  # noqa: BLE001 - it is the tool that fails
        row.answers["healthy"] = f"the tool stops: {type(error).__name__}"
        return row
    if file is None:
        return None
    truth = source.other if tool.turned and source.other is not None else source.file
    case = source.file.with_name("case.npz")
    np.savez(case, **source.cases[-1])
    for fault in foreign.FAULTS:
        try:
            faulty = foreign.planted(source, file, fault)
        except LookupError:
            row.answers[fault] = "no place"
            continue
        # The files are known to run: none is tried in a process of its own first.
        options = CompareOptions(case=case, precision=tool.precision)
        try:
            with patch("exporter.flows.compare_inputs.try_file"):
                report = compare(truth, faulty, options)
        except ArtifactError:
            row.answers[fault] = "onnxruntime refuses it"
            break
        if fault == "healthy":
            lost = len(report.ambiguous) + len(report.alone)
            row.joined = 1 - lost / report.candidates
            said = report.verdict if report.verdict == "ambiguous" else f"FAILS: {report.headline}"
            row.answers[fault] = "passes" if report.exit_code == 0 else said
        elif report.exit_code == 0:
            row.answers[fault] = "PASSES"
        else:
            layer = report.first.layer if report.first is not None else "(none)"
            right = source.layers[fault] in layer
            row.answers[fault] = "found" if right else f"elsewhere: {layer}"
    row.seconds = time.process_time() - began
    return row


def summary(rows: list[Row]) -> str:
    """The figures of all rows."""
    answers = [(fault, said) for row in rows for fault, said in row.answers.items()]
    planted = [said for fault, said in answers if fault != "healthy" and said != "no place"]
    healthy = [said for fault, said in answers if fault == "healthy"]
    shares = [row.joined for row in rows if row.joined is not None]
    return (
        f"{healthy.count('passes')} of {len(healthy)} healthy files pass;"
        f" {len(planted) - planted.count('PASSES')} of {len(planted)} planted faults fail,"
        f" {planted.count('found')} in their own layer; at least"
        f" {100 * min(shares, default=0):.0f} % of the values are joined"
    )


def write(rows: list[Row]) -> None:
    """Put the rows into the page, in place of those of the same model and tool."""
    text = PAGE.read_text(encoding="utf-8")
    known = {}
    for line in between(text, MARK).splitlines():
        if any(line.startswith(f"| {model} |") for model in MODELS):
            row = Row.read(line)
            known[row.model, row.tool] = row
    known |= {(row.model, row.tool): row for row in rows}
    order = [known[m, t] for m in MODELS for t in foreign.TOOLS if (m, t) in known]
    table = "\n".join([HEAD, *(row.line() for row in order), "", summary(order)])
    PAGE.write_text(replaced(text, MARK, table), encoding="utf-8")


class Kept:
    """Rows of this commit that an earlier run has left in a folder; none without a folder."""

    def __init__(self, folder: Path | None):
        self._file = None if folder is None else folder / "rows.jsonl"
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40"]
        self._commit = subprocess.check_output(command, text=True).strip()
        self.rows: dict[tuple[str, str], Row | None] = {}
        if self._file is not None and self._file.is_file():
            for line in self._file.read_text(encoding="utf-8").splitlines():
                held = json.loads(line)
                if held["commit"] == self._commit:
                    row = held["row"]
                    self.rows[held["model"], held["tool"]] = Row(**row) if row else None

    def put(self, model: str, tool: str, row: Row | None) -> None:
        """Note a row; None where the tool makes no such file."""
        self.rows[model, tool] = row
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        held = {"commit": self._commit, "model": model, "tool": tool}
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**held, "row": asdict(row) if row else None}) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=MODELS)
    parser.add_argument("--tools", nargs="*", default=list(foreign.TOOLS), choices=foreign.TOOLS)
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.relative_to(ROOT)}")
    parser.add_argument("--keep", type=Path, help="folder for rows, to go on from")
    options = parser.parse_args()
    wanted = [(model, tool) for model in options.models for tool in options.tools]
    kept = Kept(options.keep)
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        sources: dict[str, foreign.Source] = {}
        for number, (model, tool) in enumerate(wanted, 1):
            if (model, tool) not in kept.rows:
                if model not in sources:
                    with contextlib.redirect_stdout(io.StringIO()):
                        sources = {model: MODELS[model](Path(folder) / model)}
                kept.put(model, tool, judged(model, tool, sources[model]))
            row = kept.rows[model, tool]
            if row is not None:
                print(f"{row.line()}  {number}/{len(wanted)}", flush=True)
    rows = [row for key in wanted if (row := kept.rows[key]) is not None]
    print(f"\n{summary(rows)}")
    if options.write:
        write(rows)
    said = [said for row in rows for said in row.answers.values()]
    return int(any(text == "PASSES" or text.startswith("FAILS") for text in said))


if __name__ == "__main__":
    sys.exit(main())
