"""List ways to a pass that was not earned, with what the tool says to each: docs/false_passes.md.

    python scripts/false_passes_table.py [--check] [--output docs/false_passes.md]

Every row is a test of tests/false_passes/ (``@way``), which tries it and proves the answer; this
script runs none of them. With --check nothing is written: exits 1 when the page is not what the
tests say, or when there are fewer ways than ``LEAST``.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

LEAST = 60
HEAD = """# Ways to a pass that was not earned

Each row was tried, and each is a test in `tests/false_passes/` that tries it again: the command or
call ends with exit code 1 or 2, and its answer holds the words on the right. The page is written by
`scripts/false_passes_table.py`; a test holds it against the tests.

"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One way: the file of its test without ``test_``, what is tried, words of the answer."""

    topic: str
    words: str
    says: str


def rows() -> Iterator[Row]:
    """All ways, by topic and in the order of their tests."""
    for path in sorted((ROOT / "tests" / "false_passes").glob("test_*.py")):
        if path.stem == "test_way":
            continue  # tests the decorator itself
        module = importlib.import_module(f"tests.false_passes.{path.stem}")
        for name, value in vars(module).items():
            held = getattr(value, "way", None)
            if name.startswith("test_") and held is not None:
                topic = path.stem.removeprefix("test_").replace("_", " ")
                yield Row(topic=topic, words=held.words, says=held.says)


def page(found: list[Row]) -> str:
    """The page as Markdown."""
    lines = [f"{len(found)} ways; 0 pass.", "", "| topic | what is tried | the answer says |"]
    lines.append("|---|---|---|")
    lines += [f"| {r.topic} | {_cell(r.words)} | {_cell(r.says)} |" for r in found]
    return HEAD + "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "false_passes.md")
    options = parser.parse_args()
    found = list(rows())
    text = page(found)
    if not options.check:
        options.output.write_text(text, encoding="utf-8")
        print(f"{options.output}: {len(found)} ways")
        return 0
    if len(found) < LEAST:
        print(f"{len(found)} ways, at least {LEAST} are wanted", file=sys.stderr)
        return 1
    if not options.output.is_file() or options.output.read_text(encoding="utf-8") != text:
        print(f"{options.output} is old; run scripts/false_passes_table.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
