"""Check a pipeline's golden under other versions of onnxruntime, torch or onnxsim.

    python scripts/check_versions.py pipelines/sensevoice_tiny.yaml --onnx runs/.../model.onnx \\
        --with onnxruntime==1.22.1 --with onnxruntime==1.21.1 [--markdown table.md]

Each ``--with`` (several packages joined by a comma) gets a throw-away environment of its own, in a
temporary folder. Where only onnxruntime changes, the given file is checked and nothing else is
installed than what a check needs, which does not include PyTorch. Where torch or onnxsim changes,
the whole package is installed and the pipeline is exported again there; ``--onnx`` is then left
out. Exits 1 when a golden moved under one of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from exporter.cache.environments import environment, last_line  # noqa: E402
from exporter.core.errors import UserInputError  # noqa: E402
from exporter.matrix.jobs import CHECK_NEEDS, pinned, requirements_of_all  # noqa: E402

RUNTIMES = ("onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one set of versions gave; ``outcome`` is the JSON of the check, if there is one."""

    packages: tuple[str, ...]
    outcome: dict | None
    error: str = ""

    @property
    def state(self) -> str:
        return self.outcome["state"] if self.outcome else "could not be checked"

    @property
    def numbers(self) -> str:
        return str(self.outcome["numbers"]) if self.outcome else ""

    @property
    def worst(self) -> tuple[str, str]:
        """Largest strain over all cases, and the first layer that moved."""
        cases = self.outcome["cases"] if self.outcome else []
        strains = [case["strain"] for case in cases if case["strain"] is not None]
        moved = [case["first"] for case in cases if case["first"] is not None]
        infinite = any(isinstance(strain, str) for strain in strains)
        text = "" if not strains else "inf" if infinite else f"{max(strains):.2f}"
        first = moved[0] if moved else None
        return text, f"{first['module']} ({first['op']})" if first else ""

    @property
    def bad(self) -> bool:
        return self.outcome is None or self.outcome["exit_code"] != 0


def check(packages: tuple[str, ...], options: argparse.Namespace) -> Result:
    """Make an environment, check the golden in it, and throw it away."""
    names = {package.partition("==")[0] for package in packages}
    light = names <= set(RUNTIMES)
    rest = dict(package.partition("==")[::2] for package in packages)
    wanted = (*packages, *map(pinned, CHECK_NEEDS)) if light else requirements_of_all(rest)
    with tempfile.TemporaryDirectory(prefix="versions-") as scratch, ExitStack() as stack:
        folder = Path(scratch)
        try:
            python = stack.enter_context(environment(folder / "environments", wanted))
        except UserInputError as error:
            return Result(packages=packages, outcome=None, error=error.problem)
        given = ["--onnx", str(options.onnx)] if light else []
        done = run(
            python, "-m", "exporter", "golden", "check", str(options.pipeline), *given,
            "--golden-dir", str(options.golden_dir), "--output-dir", str(folder / "run"),
            "--format", "json",
        )  # fmt: skip
        try:
            return Result(packages=packages, outcome=json.loads(done.stdout))
        except ValueError:
            return Result(packages=packages, outcome=None, error=last_line(done.stderr))


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of an environment, in the root of the repository."""
    command = [str(python), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def table(results: list[Result]) -> str:
    """A Markdown table, one row per environment."""
    lines = [
        "| versions | state | numbers | largest share of a limit | first layer that moved |",
        "|---|---|---|--:|---|",
    ]
    for result in results:
        strain, first = result.worst
        cells = (", ".join(result.packages), result.state, result.numbers or result.error)
        lines.append(f"| {' | '.join((*cells, strain, first))} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("--onnx", type=lambda p: Path(p).resolve(), help="the file to check")
    parser.add_argument("--golden-dir", type=Path, default=ROOT / "golden")
    parser.add_argument(
        "--with", dest="sets", action="append", required=True, metavar="PACKAGE==VERSION[,...]"
    )
    parser.add_argument("--markdown", type=Path, help="write the table there too")
    parser.add_argument("--json", type=Path, help="write all outcomes there")
    options = parser.parse_args()
    options.pipeline = options.pipeline.resolve()
    options.golden_dir = options.golden_dir.resolve()
    sets = [tuple(given.split(",")) for given in options.sets]
    runtimes_only = all(p.partition("==")[0] in RUNTIMES for group in sets for p in group)
    if runtimes_only and options.onnx is None:
        parser.error("give --onnx FILE: with another onnxruntime alone nothing is exported")
    results = []
    for packages in sets:
        result = check(packages, options)
        results.append(result)
        print(f"{', '.join(packages)}: {result.state} {result.error}", flush=True)
    text = table(results)
    print(text)
    if options.markdown is not None:
        options.markdown.write_text(text)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1))
    return 1 if any(result.bad for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
