"""docs/your-own-model.md does what it says: its files, its commands, its change, its outputs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HERE = (sys.executable, "-m", "exporter")
PAGE = ROOT / "docs" / "your-own-model.md"
BLOCK = re.compile(
    r"(?:<!-- (?P<what>file|change): (?P<name>\S+) -->\n)?"
    r"^```(?P<kind>\w+)(?: exit=(?P<code>\d))?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block of code with what stands above it."""

    kind: str
    text: str
    what: str
    name: str
    code: int | None


def blocks() -> list[Block]:
    return [
        Block(
            kind=found["kind"],
            text=found["text"],
            what=found["what"] or "",
            name=found["name"] or "",
            code=None if found["code"] is None else int(found["code"]),
        )
        for found in BLOCK.finditer(PAGE.read_text(encoding="utf-8"))
    ]


def patched(source: str, diff: str) -> str:
    """Apply a change whose lines begin with ' ', '+' or '-'."""
    lines = diff.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if not line.startswith("+"))
    after = "".join(line[1:] for line in lines if not line.startswith("-"))
    assert source.count(before) == 1
    return source.replace(before, after)


def command(
    line: str, folder: Path, program: Sequence[str] = HERE, path: str = str(ROOT)
) -> tuple[int, str]:
    """Do a line of the page; ``program`` stands for ``export-verify``."""
    assert line.startswith("$ export-verify ")
    arguments = line.removeprefix("$ export-verify ").split()
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "NO_COLOR": "1",
        "COLUMNS": "100",
    }
    done = subprocess.run(
        [*program, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def bare(text: str) -> str:
    """What does not depend on the machine: no spaces, frames, folders and figures."""
    text = re.sub(r"[^\w\s()\[\]{}'\":;,.+*/=<>-]", "", text)
    text = re.sub(r"\s+", "", text)
    text = re.sub(r"(?:[\w.-]+/)*little_conformer\.py", "little_conformer.py", text)
    return re.sub(r"\d+(?:\.\d+)?(?:e[+-]\d+)?", "#", text)


def check_output(pasted: str, real: str) -> None:
    """Every run of lines between two lines of '...' is in what was really printed, in order."""
    found = bare(real)
    for part in re.split(r"^\.\.\.$", pasted, flags=re.MULTILINE):
        wanted = bare(part)
        assert wanted in found, f"{part}\nis not in\n{real}"
        found = found[found.index(wanted) + len(wanted) :]


def follow_the_page(folder: Path, do: Callable[[str, Path], tuple[int, str]]) -> None:
    """Write its files, do its commands and make its change, in an empty folder."""
    folder.mkdir()
    codes = []
    for block in blocks():
        target = folder / block.name
        if block.what == "file":
            target.write_text(block.text, encoding="utf-8")
        elif block.what == "change":
            target.write_text(patched(target.read_text(encoding="utf-8"), block.text))
        elif block.kind == "console":
            line, _, pasted = block.text.partition("\n")
            code, real = do(line, folder)
            assert code == block.code, f"{line}\n{real}"
            check_output(pasted, real)
            codes.append(code)
    assert codes == [2, 1, 1, 0, 0]
    assert (folder / "runs" / "little_conformer" / "model.onnx").is_file()


def test_the_page_does_what_it_says(tmp_path: Path):
    follow_the_page(tmp_path / "own", command)


def test_an_output_that_is_not_printed_is_seen():
    real = "a: 3 pass\nb: 4 fail\n"
    check_output("a: 5 pass\n...\n", real)
    for pasted in ("a: 5 fail\n", "b: 4 fail\na: 3 pass\n", "...\nc\n"):
        try:
            check_output(pasted, real)
        except AssertionError:
            continue
        raise AssertionError(f"{pasted} was found")
