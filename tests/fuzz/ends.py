"""How the inputs of a sweep ended: a line of a file each, and a table."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.corpus import ROOT


@dataclass(slots=True)
class Row:
    """How the inputs of one kind ended."""

    tried: int = 0
    codes: Counter = field(default_factory=Counter)
    slowest: float = 0.0
    most_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One of a sweep: which, and whether it is given to the command."""

    number: int
    kind: str
    seed: int
    command: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the input of a number ended ("0".."3", "uncaught", "died", "hang", "memory")."""

    number: int
    kind: str
    seed: int
    command: bool
    how: str
    said: str
    seconds: float
    bytes: int

    @property
    def found(self) -> bool:
        return self.how not in ("0", "1", "2")


class Log:
    """The ends of a sweep, a line of JSON each behind one that says which sweep it is."""

    def __init__(self, path: Path | None, **sweep: Any):
        self.path = path
        self.head = {**sweep, "state": state_of_program()}
        self.ends: list[Ended] = []
        if path is None:
            return
        if path.exists():
            head, *lines = path.read_text().splitlines()
            if json.loads(head) != self.head:
                raise SystemExit(f"{path} is of another sweep: {head}; this one is {self.head}")
            self.ends = [Ended(**json.loads(line)) for line in lines]
        else:
            path.write_text(json.dumps(self.head) + "\n")

    def add(self, end: Ended) -> None:
        self.ends.append(end)
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(asdict(end)) + "\n")


def state_of_program() -> str:
    """The commit, and a word where files differ from it."""

    if shutil.which("git") is None:
        return "a state that nobody knows"

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "--short", "HEAD") + " and changes" * bool(changed)


def rows_of(ends: Iterable[Ended], kinds: Iterable[str]) -> dict[str, Row]:
    rows = {kind: Row() for kind in kinds}
    for end in ends:
        row = rows[end.kind]
        row.tried += 1
        row.codes[end.how] += 1
        row.slowest = max(row.slowest, end.seconds)
        row.most_bytes = max(row.most_bytes, end.bytes)
    return rows


def table(rows: dict[str, Row]) -> str:
    """The rows as Markdown."""
    heads = ("0", "1", "2", "3", "uncaught", "died", "hang", "memory")
    lines = [
        "| input | tried | exit 0 | 1 | 2 | 3 | uncaught | died | over 60 s | over 4 GiB "
        "| slowest, s | most memory, MiB |",
        "|---|" + "--:|" * 11,
    ]
    total = Row()
    for row in rows.values():
        total.tried += row.tried
        total.codes += row.codes
        total.slowest = max(total.slowest, row.slowest)
        total.most_bytes = max(total.most_bytes, row.most_bytes)
    for kind, row in (*rows.items(), ("**all**", total)):
        counts = " | ".join(f"{row.codes[head]:,}" for head in heads)
        lines.append(
            f"| {kind} | {row.tried:,} | {counts} | {row.slowest:.1f} | {row.most_bytes >> 20:,} |"
        )
    return "\n".join(lines)


def write_failed(path: Path, found: Iterable[Ended]) -> None:
    path.write_text("".join(json.dumps(asdict(held)) + "\n" for held in found))
