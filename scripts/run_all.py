"""Run every pipeline, one after the other, and write the tables in docs/systems.md.

Usage: python scripts/run_all.py [--tiny] [--reuse] [--runs DIR] [--docs FILE] [NAME ...]

    --tiny    the pipelines that tests export: NAME_tiny where there is one, else NAME itself
    --reuse   run nothing; tables are made of the reports that lie in DIR
    NAME      only these are run; the other rows come from reports in DIR, or say "not run"

A pipeline whose upstream package is missing has a row that says so. Exits 1 unless every row of
the table says pass.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from exporter.core.errors import ArtifactError  # noqa: E402
from exporter.report.comparison import LinkRecord  # noqa: E402
from exporter.report.schema import Report, read_report  # noqa: E402
from scripts.marked_page import replaced  # noqa: E402

TINY = "_tiny"
EXPORTING = ("wrap", "capture", "export", "simplify", "ship")
COLUMNS = (
    "pipeline",
    "weights",
    "export",
    "run",
    "model.onnx",
    "outputs: error / limit",
    "layers: error / limit",
    "ONNX / PyTorch",
    "values",
    "links",
    "contracts",
    "verdict",
)
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_LAST = "last_run.json"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One pipeline: what its report says, or why there is none."""

    name: str
    report: Report | None = None
    weights: int | None = None
    why: str = ""

    @property
    def good(self) -> bool:
        return self.report is not None and self.report.exit_code == 0

    def cells(self) -> list[str]:
        if self.report is None:
            return [f"`{self.name}`", *[""] * (len(COLUMNS) - 2), f"**not run**: {self.why}"]
        report = self.report
        seconds = [report.timings[name] for name in EXPORTING if name in report.timings]
        shipped = next((a for a in report.artifacts if a.name == "model.onnx"), None)
        deployed = [link for link in report.links if "/" in link.actual]
        walked = [link for link in report.links if link.layers]
        contracts = Counter(record.verdict for record in report.contracts)
        verdict = report.verdict if self.good else f"**{report.verdict}**: {report.headline}"
        return [
            f"`{self.name}`",
            "" if self.weights is None else f"{self.weights / 1e6:,.2f} M",
            _time(sum(seconds)) if seconds else "from the cache",
            _time(report.timings.get("total")),
            _size(shipped.bytes if shipped else None),
            _figure(_outputs(report, deployed, "strain")),
            _figure(_layers(walked)),
            _figure(_outputs(report, deployed, "ratio")),
            f"{sum(link.compared or 0 for link in walked):,}",
            _counted(Counter(link.verdict for link in report.links)),
            _counted(contracts),
            verdict,
        ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--reuse", action="store_true")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "systems.md")
    options = parser.parse_args()
    every = pipelines(tiny=options.tiny)
    for name in (name for name in options.names if name not in every):
        parser.error(f"there is no pipeline '{name}' here; pipelines: {', '.join(every)}")
    for name in () if options.reuse else options.names or every:
        run(name, options.runs / name)
    rows = [row_of(name, options.runs / name) for name in every]
    text = table(rows)
    print(text)
    write(options.docs, "tiny" if options.tiny else "full", text)
    return 0 if all(row.good for row in rows) else 1


def pipelines(*, tiny: bool) -> list[str]:
    """Names of the pipelines of the repository, at full size or as tests export them."""
    found = sorted(path.stem for path in (ROOT / "pipelines").glob("*.yaml"))
    full = [name for name in found if not name.endswith(TINY)]
    if not tiny:
        return full
    return [f"{name}{TINY}" if f"{name}{TINY}" in found else name for name in full]


def run(name: str, folder: Path) -> None:
    """``export-verify run`` in a process of its own: memory of one is not there for the next."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").unlink(missing_ok=True)
    path = ROOT / "pipelines" / f"{name}.yaml"
    command = [sys.executable, "-m", "exporter", "run", str(path), "--no-cache"]
    print(f"running {name}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [*command, "-q", "--output-dir", str(folder)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    said = {"code": done.returncode, "error": done.stderr[-2000:]}
    (folder / _LAST).write_text(json.dumps(said), encoding="utf-8")


def row_of(name: str, folder: Path) -> Row:
    """What lies in the folder of a run."""
    try:
        report = read_report(folder / "report.json")
    except ArtifactError:
        return Row(name=name, why=_why(folder / _LAST))
    return Row(name=name, report=report, weights=weights_in(folder / "program"))


def _why(last: Path) -> str:
    """Why there is no report: the error of the run, on one line."""
    if not last.is_file():
        return "no run of it here"
    said = json.loads(last.read_text(encoding="utf-8"))
    lines = [line.strip() for line in said["error"].splitlines() if line.strip()]
    begin = next((k for k, line in enumerate(lines) if line.startswith("error: ")), len(lines) - 1)
    text = "; ".join(lines[begin:]).removeprefix("error: ").replace("|", "\\|")
    return text[:400] or f"it ended with exit code {said['code']}"


def weights_in(folder: Path) -> int | None:
    """Floating numbers of the captured program: parameters, and tables of constants.

    Read from the head of its safetensors file, a JSON text behind its length.
    """
    file = folder / "weights.safetensors"
    if not file.is_file():
        return None
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        head = json.loads(stream.read(length))
    count = 0
    for name, entry in head.items():
        if name != "__metadata__" and entry["dtype"] in _FLOATS:
            size = 1
            for axis in entry["shape"]:
                size *= axis
            count += size
    return count


def _outputs(report: Report, links: list[LinkRecord], figure: str) -> float | None:
    names = {link.name for link in links}
    found = [getattr(o.verdict, figure) for o in report.outputs if o.link in names]
    return max((value for value in found if value is not None), default=None)


def _layers(links: list[LinkRecord]) -> float | None:
    found = [layer.worst_local_strain for link in links for layer in link.layers]
    return max((value for value in found if value is not None), default=None)


def _figure(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2g}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "not measured"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _size(count: int | None) -> str:
    if count is None:
        return "none"
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.2f} GB"


def _counted(found: Counter[str]) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in found.most_common()) or "none"


def table(rows: list[Row]) -> str:
    """The table, and what it was made with."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(cell.replace(chr(10), ' ') for cell in r.cells())} |" for r in rows]
    made = [row.report.environment for row in rows if row.report is not None]
    if made:
        versions = made[-1].versions
        shown = ("torch", "onnx", "onnxruntime-gpu", "onnxsim")
        named = ", ".join(f"{name} {versions[name]}" for name in shown if name in versions)
        lines += ["", f"{named}; {made[-1].platform}, {made[-1].threads} thread(s)."]
    return "\n".join(lines)


def write(path: Path, part: str, text: str) -> None:
    """Put a table between its marks in a Markdown file."""
    begin, end = f"<!-- {part} -->", f"<!-- end of {part} -->"
    page = path.read_text(encoding="utf-8")
    if begin not in page or end not in page:
        sys.exit(f"{path} has no marks {begin} and {end}")
    path.write_text(replaced(page, (begin, end), f"\n{text}\n"), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
