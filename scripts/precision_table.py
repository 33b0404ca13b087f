"""How well is it known, without trying, which layers a lower precision breaks?

    python scripts/precision_table.py PIPELINE.yaml [...] [--to int8] [--windows 64] [--layers 30]
    python scripts/precision_table.py --from results.jsonl --write

Of every layer: what ``lower`` predicts from one pass, and brute force, which lowers it alone
and runs the file on all windows. The rank correlation (Spearman) of both stands beside that of the
estimators of onnxsim's ``quant_sensitivity`` on the same layers and windows, and of the plain norm
of the weights' own error. Windows are the pipeline's cases and such with their floats moved at
random. One line of JSON per pipeline goes to ``--results``; ``--write`` puts the table into
docs/lower.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from scipy.stats import spearmanr

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from exporter.cases.load import load_cases  # noqa: E402
from exporter.config.run_options import RunOptions  # noqa: E402
from exporter.core.tensors import Case  # noqa: E402
from exporter.execution.deployment import Deployment  # noqa: E402
from exporter.execution.quantisers import write_lowered  # noqa: E402
from exporter.flows.prepare import prepare  # noqa: E402
from exporter.graph.onnx_file import open_graph  # noqa: E402
from exporter.graph.wrap import wrap  # noqa: E402
from exporter.interpret.propagated import targets_of  # noqa: E402
from exporter.joining.interface_inputs import perturbed  # noqa: E402
from exporter.judge.reference_run import reference_run  # noqa: E402
from exporter.lowering.layers import Layer  # noqa: E402
from exporter.lowering.outcome import TargetRun, truth_of  # noqa: E402
from exporter.lowering.own_errors import LoweredFile, own_errors  # noqa: E402
from exporter.lowering.rounds import Wanted  # noqa: E402
from exporter.lowering.search import Search  # noqa: E402
from exporter.report.progress import Progress  # noqa: E402

PAGE = ROOT / "docs" / "lower.md"
MARK = "<!-- precision -->", "<!-- /precision -->"
PREDICTING = 4
"""Windows on which ``lower`` predicts; brute force has all of them."""
THEIRS = ("weight_err", "weight_err_rel", "fisher", "taylor")


@dataclass
class Row:
    """One pipeline: layers with the figures of each way, and what they cost."""

    pipeline: str
    to: str
    windows: int
    layers: list[str]
    brute: list[float]
    predicted: list[float]
    others: dict[str, list[float] | str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)

    def correlation(self, name: str) -> float | None:
        """Spearman's against brute force; None where a way gave nothing."""
        held = self.predicted if name == "lower" else self.others.get(name)
        if not isinstance(held, list) or len(held) < 3:
            return None
        found = float(spearmanr(held, self.brute).statistic)
        return found if np.isfinite(found) else None


def windows_of(cases: Sequence[Case], count: int) -> list[Case]:
    """The cases, and as many moved copies as are missing."""
    found = list(cases)[:count]
    seed = 0
    while len(found) < count:
        source = cases[seed % len(cases)]
        inputs = perturbed(source.inputs, 5000 + seed)
        found.append(Case(name=f"{source.name} {seed}", inputs=inputs, origin=source.origin))
        seed += 1
    return found


def measured(path: Path, to: str, windows: int, most: int, out: Path | None) -> Row:
    """One pipeline, all ways."""
    options = RunOptions(trust=True, threads=1, output_dir=out, cache=False)
    ready = prepare(path, options)
    progress = Progress(quiet=True)
    wrapped = wrap(ready.pipeline)
    torch.set_num_threads(1)
    own = reference_run(ready.pipeline, wrapped, ready.folder, 1, progress)
    names = [case.name for case in ready.pipeline.cases if not case.expect_empty]
    cases = windows_of(load_cases(ready.pipeline, own.inputs, names), windows)
    deployment = Deployment(threads=1)
    with tempfile.TemporaryDirectory() as folder:
        search = Search(
            source=own.shipped,
            program=own.program,
            cases=cases[:PREDICTING],
            folder=Path(folder),
            deployment=deployment,
            budget=ready.budget,
            wanted=Wanted(to=to, max_error=1.0),
            stages=progress,
        )
        began = time.perf_counter()
        layers, file = search.layers()
        errors = [
            own_errors(own.program, file, case.inputs, deployment, ready.budget)
            for case in search.cases
        ]
        effects = search.effects(layers, errors, None)
        damage = np.sqrt(np.mean([np.square(effect.damage) for effect in effects], axis=0))
        row = Row(ready.pipeline.name, to, len(cases), [], [], [])
        row.seconds["lower"] = time.perf_counter() - began
        row.runs["lower"] = len(search.cases) * (1 + 4 + 1 + search.wanted.directions)
        chosen = range(len(layers))
        if most and len(layers) > most:
            chosen = np.unique(np.linspace(0, len(layers) - 1, most).astype(int)).tolist()
        began = time.perf_counter()
        targets = targets_of(own.program)
        truths = [truth_of(own.program, case.inputs, targets) for case in cases]
        for place in chosen:
            alone = search.folder / "alone.onnx"
            rest = [layer for layer in layers if layer is not layers[place]]
            write_lowered(own.shipped, alone, search.order(rest))
            held = LoweredFile.of(own.program, open_graph(alone))
            run = TargetRun(own.program, alone, held, targets, deployment)
            found = [run.outcome(c.inputs, t).error for c, t in zip(cases, truths, strict=True)]
            squares = [e * e for e in found if e is not None]
            row.layers.append(layers[place].name)
            row.brute.append(float(np.sqrt(np.mean(squares))))
            row.predicted.append(float(damage[place]))
            print(f"{row.layers[-1]}: {row.brute[-1]:.4g}, predicted {row.predicted[-1]:.4g}")
        row.seconds["brute force"] = time.perf_counter() - began
        row.runs["brute force"] = len(cases) * len(row.layers)
        began = time.perf_counter()
        row.others = theirs(own.shipped, [layers[place] for place in chosen], cases[:PREDICTING])
        row.seconds["quant_sensitivity"] = time.perf_counter() - began
    return row


def theirs(path: Path, layers: Sequence[Layer], cases: Sequence[Case]) -> dict[str, Any]:
    """Scores of onnxsim's estimators for the same layers; why, where one gives none."""
    try:
        from onnxsim import quant_sensitivity as qs
    except ImportError as error:
        return dict.fromkeys(THEIRS, str(error))
    model = onnx.load(path)
    sites = {site.name: site for site in qs.find_sites(model)}
    groups = {la.name: [node for node in la.nodes if node in sites] for la in layers}
    empty = [name for name, nodes in groups.items() if not nodes]
    held = {name: nodes for name, nodes in groups.items() if nodes}
    used = [sites[node] for nodes in held.values() for node in nodes]
    found: dict[str, Any] = {}
    for method in THEIRS:
        try:
            report = qs.rank(
                model,
                sites=used,
                groups=held,
                calib={name: np.asarray(value) for name, value in cases[0].inputs.items()},
                bits=8,
                methods=(method,),
            )
            scores = {g: float(s) for g, s in zip(held, report.scores[method], strict=True)}
        except Exception as error:  # noqa: BLE001 - whatever it raises is its answer
            found[method] = f"{type(error).__name__}: {str(error)[:120]}"
            continue
        # An LSTM is no site of theirs: it comes last.
        scores |= dict.fromkeys(empty, 0.0)
        found[method] = [scores[layer.name] for layer in layers]
    return found


def table(rows: Sequence[Row]) -> str:
    """Markdown: a line per pipeline."""
    ways = ("lower", *THEIRS)
    lines = [
        "| pipeline | to | layers | windows | "
        + " | ".join("`lower`" if way == "lower" else f"`{way}`" for way in ways)
        + " | runs of `lower` | runs of brute force |",
        "|---|---|--:|--:|" + "--:|" * (len(ways) + 2),
    ]
    for row in rows:
        cells = [row.correlation(way) for way in ways]
        said = ["-" if cell is None else f"{cell:.3f}" for cell in cells]
        counts = [str(row.runs["lower"]), str(row.runs["brute force"])]
        start = [row.pipeline, row.to, str(len(row.layers)), str(row.windows)]
        lines.append("| " + " | ".join([*start, *said, *counts]) + " |")
    return "\n".join(lines)


def main() -> int:
    """Measure, and show or write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("pipelines", nargs="*", type=Path)
    parser.add_argument("--to", default="int8")
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--layers", type=int, default=0, help="a sample of so many; 0: all")
    parser.add_argument("--output-dir", type=Path, help="of a finished run of a single pipeline")
    parser.add_argument("--results", type=Path, help="append a line of JSON per pipeline")
    parser.add_argument("--from", dest="source", type=Path, help="take measured lines from there")
    parser.add_argument("--write", action="store_true", help="put the table into docs/lower.md")
    given = parser.parse_args()
    rows = []
    if given.source is not None:
        rows = [Row(**json.loads(line)) for line in given.source.read_text().splitlines()]
    for path in given.pipelines:
        row = measured(path, given.to, given.windows, given.layers, given.output_dir)
        rows.append(row)
        if given.results is not None:
            with given.results.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(row)) + "\n")
    print(table(rows))
    if given.write:
        text = PAGE.read_text(encoding="utf-8")
        before, rest = text.split(MARK[0])
        after = rest.split(MARK[1])[1]
        PAGE.write_text(f"{before}{MARK[0]}\n{table(rows)}\n{MARK[1]}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
