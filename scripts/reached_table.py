"""What ``lower`` reaches: size, speed and what changes, model by model.

    python scripts/reached_table.py PIPELINE.yaml [...] --to int8 [float16] [--prefer speed]
                                    --results FILE [--write]

Each pipeline is exported, lowered and judged as ``export-verify lower`` does it, with its limits as
they are by default. Layers, sizes and times of a run are of the file that ``lower`` ships, and of
that with everything lowered; errors and flips of the shipped one on the cases that had no part in
the choice. Lines of JSON, one per pipeline and precision, stand in ``--results``, also those of
earlier runs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from exporter.config import load_pipeline  # noqa: E402
from exporter.config.run_options import RunOptions  # noqa: E402
from exporter.flows.lower import LowerOptions, lower  # noqa: E402
from exporter.graph.wrap import wrap  # noqa: E402
from exporter.report.lowering import FileRow, LoweringReport  # noqa: E402
from exporter.report.progress import Progress  # noqa: E402
from scripts.marked_page import write_between  # noqa: E402
from scripts.row_lines import add_row, rows_of  # noqa: E402

PAGE = ROOT / "docs" / "lower.md"
MARK = "<!-- reached -->", "<!-- /reached -->"


@dataclass
class Row:
    """One pipeline in one precision."""

    pipeline: str
    to: str
    prefer: str
    trained: bool
    layers: int
    kept: int
    everything: dict[str, float | None]
    shipped: dict[str, float | None]
    confirmed: dict[str, float | None]
    cases: int
    verdict: str


def row_of(report: LoweringReport, *, trained: bool) -> Row:
    """The row of a report; ``trained``: the weights are somebody's, and no random ones."""
    plain, everything, shipped = report.files

    def against(row: FileRow) -> dict[str, float | None]:
        faster = plain.seconds / row.seconds if plain.seconds and row.seconds else None
        size = row.bytes / plain.bytes
        return {"size": size, "faster": faster, "error": row.error, "flips": row.flips}

    return Row(
        pipeline=report.pipeline,
        to=report.to,
        prefer=report.prefer,
        trained=trained,
        layers=len(report.layers),
        kept=sum(layer.stays for layer in report.layers),
        everything=against(everything),
        shipped=against(shipped),
        confirmed=against(report.confirmed),
        cases=len(report.confirmed.cases),
        verdict=report.verdict,
    )


def table(rows: Sequence[Row]) -> str:
    """Markdown: a line per pipeline and precision."""
    lines = [
        "| pipeline | weights | to, for | layers | stay in float32 | size: all lowered | shipped |"
        " times as fast: all lowered | shipped | flips: all lowered | shipped, other cases |"
        " error, other cases | `lower` says |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in sorted(rows, key=lambda row: (not row.trained, row.pipeline, row.to, row.prefer)):
        every, ours, other = row.everything, row.shipped, row.confirmed
        cells = [
            row.pipeline,
            "trained" if row.trained else "seeded",
            f"{row.to}, {row.prefer}",
            str(row.layers),
            str(row.kept),
            *(_cell(held["size"], ".2f") for held in (every, ours)),
            *(_cell(held["faster"], ".2f") for held in (every, ours)),
            _cell(every["flips"], ".0f"),
            f"{_cell(other['flips'], '.0f')} in {row.cases}",
            _cell(other["error"], ".2g"),
            row.verdict,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def main() -> int:
    """Measure, and show or write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("pipelines", nargs="*", type=Path)
    parser.add_argument("--to", nargs="+", default=["int8"])
    parser.add_argument("--prefer", choices=("speed", "size"), default="size")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, required=True, help="a line of JSON per row")
    parser.add_argument("--write", action="store_true", help="put the table into docs/lower.md")
    given = parser.parse_args()
    for path in given.pipelines:
        trained = not wrap(load_pipeline(path, trust=True)).weights.seeded
        for to in given.to:
            quiet = Progress(quiet=True)
            with tempfile.TemporaryDirectory() as folder:
                options = RunOptions(trust=True, threads=given.threads, output_dir=Path(folder))
                report = lower(
                    path, LowerOptions(to=to, prefer=given.prefer), options, progress=quiet
                )
            print(f"{report.pipeline} to {to}: {report.verdict}: {report.headline}", flush=True)
            row = row_of(report, trained=trained)
            add_row(given.results, row, ("pipeline", "to", "prefer"))
    rows = rows_of(given.results, Row)
    print(table(rows))
    if given.write:
        write_between(PAGE, MARK, table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
