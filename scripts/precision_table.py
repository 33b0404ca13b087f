"""How well is it known, without trying, which layers a lower precision breaks?

    python scripts/precision_table.py --keep FOLDER PIPELINE.yaml [...] [--to int8] [--layers 30]
    python scripts/precision_table.py --keep FOLDER --write

Of every layer: what ``lower`` predicts from one pass on a few windows, and brute force, which
lowers it alone and runs the file on all of them. The rank correlation (Spearman) of both stands
beside that of the estimators of onnxsim's ``quant_sensitivity`` on the same layers, and of the
plain norm of the weights' own error. How far brute force agrees with itself, one half of the
windows with the other, says how much there is to predict. A decision inside (is this speech?) that
turns in one window of many outweighs all others, and is foreseen by its margin and not as an error:
so the correlation stands there a second time, without the windows in which one of those turned.
Windows are cut from the recordings of a pipeline's cases, or, where it has none, are its cases with
their floats moved at random.

FOLDER has a JSON per pipeline, written behind every layer: a run that was stopped goes on there,
and predictions are made anew beside errors that were measured before. ``--write`` puts all of
them into docs/lower.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
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
from exporter.core.files import write_text  # noqa: E402
from exporter.core.tensors import Case  # noqa: E402
from exporter.execution.deployment import Deployment  # noqa: E402
from exporter.flows.prepare import prepare  # noqa: E402
from exporter.graph.onnx_file import open_graph  # noqa: E402
from exporter.graph.program import Program  # noqa: E402
from exporter.graph.wrap import wrap  # noqa: E402
from exporter.interpret.propagated import Targets, targets_of  # noqa: E402
from exporter.interpret.stepper import behind  # noqa: E402
from exporter.joining.interface_inputs import perturbed  # noqa: E402
from exporter.judge.reference_run import reference_run  # noqa: E402
from exporter.lowering.effects import effects_of  # noqa: E402
from exporter.lowering.layers import Layer  # noqa: E402
from exporter.lowering.outcome import TargetRun, TorchOutcome, truth_of  # noqa: E402
from exporter.lowering.own_errors import LoweredFile, own_errors  # noqa: E402
from exporter.lowering.rounds import Wanted  # noqa: E402
from exporter.lowering.search import Search  # noqa: E402
from exporter.report.progress import Progress  # noqa: E402
from scripts.marked_page import write_between  # noqa: E402

PAGE = ROOT / "docs" / "lower.md"
MARK = "<!-- precision -->", "<!-- /precision -->"
PREDICTING = 16
"""Windows on which ``lower`` predicts; brute force has all of them."""
DIRECTIONS = 8
"""On each of them: what a layer does differs more from window to window than in its directions."""
RATE = 16000
LOUD = 0.3
"""Windows are at least so loud, of the recording's own rms: silence is the same in every format."""
_SPLITS = 200
THEIRS = ("weight_err", "weight_err_rel", "fisher", "taylor")


@dataclass
class Row:
    """One pipeline: layers with the figures of each way, and what they cost."""

    pipeline: str
    to: str
    windows: int
    seconds_each: float
    layers: list[str] = field(default_factory=list)
    brute: dict[str, list[float | None]] = field(default_factory=dict)
    turned: dict[str, list[int]] = field(default_factory=dict)
    predicted: dict[str, list[float]] = field(default_factory=dict)
    others: dict[str, dict[str, float] | str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Every layer that was to be measured has been."""
        return bool(self.layers) and all(name in self.brute for name in self.layers)

    def measured(self, name: str, *, steady: bool = False) -> float:
        """What a layer does by brute force: relative rms error, over all windows.

        Args:
            steady: over those in which no decision turned, where there are any; NaN where nobody
                has counted.
        """
        errors = self.brute[name]
        if steady:
            turned = self.turned.get(name)
            if turned is None:
                return float("nan")
            calm = [error for error, n in zip(errors, turned, strict=True) if not n]
            errors = calm or errors
        return _rms([error for error in errors if error is not None])

    def foreseen(self, name: str) -> float:
        """The same as ``lower`` predicts it."""
        return _rms(self.predicted[name])

    def correlation(self, way: str, *, steady: bool = False) -> float | None:
        """Spearman's against brute force; None where a way gave nothing."""
        scores = self.others.get(way)
        if way == "lower":
            scores = {name: self.foreseen(name) for name in self.layers}
        if not isinstance(scores, dict) or len(self.layers) < 3 or not self.whole:
            return None
        left = np.array([scores[name] for name in self.layers])
        right = np.array([self.measured(name, steady=steady) for name in self.layers])
        found = _spearman(left, right)
        return found if np.isfinite(found) else None

    def halves(self) -> float:
        """Mean correlation of brute force on half of the windows with the other half, at random."""
        errors = np.array(
            [[np.nan if e is None else e for e in self.brute[name]] for name in self.layers]
        )
        rng = np.random.default_rng(0)
        found = []
        for _ in range(_SPLITS):
            mixed = np.square(errors[:, rng.permutation(errors.shape[1])])
            middle = mixed.shape[1] // 2
            left, right = mixed[:, :middle], mixed[:, middle:]
            found.append(_spearman(np.nanmean(left, axis=1), np.nanmean(right, axis=1)))
        return float(np.mean(found))


def _spearman(left: np.ndarray, right: np.ndarray) -> float:
    answer: Any = spearmanr(left, right)
    return float(answer.statistic)


def _rms(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def windows_of(cases: Sequence[Case], count: int, samples: int) -> list[Case]:
    """So many windows of so many samples, evenly from all recordings; some overlap."""
    places = [(case, _longest(case)) for case in cases]
    places = [(case, name) for case, name in places if case.inputs[name].shape[-1] > samples]
    room = sum(case.inputs[name].shape[-1] - samples for case, name in places)
    if not room:
        return moved(cases, count)
    hop = max(1, min(samples // 4, room // (3 * count)))
    found = []
    for case, name in places:
        wave = case.inputs[name]
        least = LOUD * float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
        for start in range(0, wave.shape[-1] - samples + 1, hop):
            part = wave[..., start : start + samples]
            if float(np.sqrt(np.mean(np.square(part, dtype=np.float64)))) >= least:
                found.append(_cut(case, name, start, samples))
    chosen = np.unique(np.linspace(0, len(found) - 1, count).astype(int))
    return [found[n] for n in chosen]


def _longest(case: Case) -> str:
    floats = {name: held for name, held in case.inputs.items() if held.dtype.kind == "f"}
    return max(floats, key=lambda name: floats[name].shape[-1] if floats[name].ndim else 0)


def _cut(case: Case, name: str, start: int, samples: int) -> Case:
    whole = case.inputs[name].shape[-1]
    inputs = dict(case.inputs)
    inputs[name] = np.ascontiguousarray(inputs[name][..., start : start + samples])
    for other, held in case.inputs.items():
        if held.dtype.kind in "iu" and held.size and bool((held == whole).all()):
            inputs[other] = np.full_like(held, samples)
    return Case(name=f"{case.name} from {start}", inputs=inputs, origin=case.origin)


def moved(cases: Sequence[Case], count: int) -> list[Case]:
    """The cases, and as many moved copies as are missing."""
    found = list(cases)[:count]
    for seed in range(count - len(found)):
        source = cases[seed % len(cases)]
        inputs = perturbed(source.inputs, 5000 + seed)
        found.append(Case(name=f"{source.name} {seed}", inputs=inputs, origin=source.origin))
    return found


def kept(folder: Path, fresh: Row) -> tuple[Row, Path]:
    """What an earlier run has left of the same, and where it lies."""
    path = folder / f"{fresh.pipeline}.{fresh.to}.json"
    if path.is_file():
        held = Row(**json.loads(path.read_text(encoding="utf-8")))
        if (held.windows, held.seconds_each) == (fresh.windows, fresh.seconds_each):
            return held, path
    return fresh, path


def save(row: Row, path: Path) -> None:
    """Write a row, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(asdict(row), indent=1))


def measured(path: Path, given: argparse.Namespace) -> Row:
    """One pipeline, all ways."""
    options = RunOptions(trust=True, threads=1, output_dir=given.output_dir, cache=False)
    ready = prepare(path, options)
    progress = Progress(quiet=True)
    wrapped = wrap(ready.pipeline)
    torch.set_num_threads(1)
    own = reference_run(ready.pipeline, wrapped, ready.folder, 1, progress)
    spoken = [c for c in ready.pipeline.cases if c.audio is not None and not c.expect_empty]
    spoken = [c for c in spoken if c.steps is None and c.stream is None]
    names = [case.name for case in spoken] or [ready.pipeline.default_case]
    samples = round(given.seconds * RATE)
    cases = windows_of(load_cases(ready.pipeline, own.inputs, names), given.windows, samples)
    fresh = Row(ready.pipeline.name, given.to, len(cases), given.seconds)
    row, place = kept(given.keep, fresh)
    deployment = Deployment(threads=1)
    few = [cases[n] for n in np.linspace(0, len(cases) - 1, PREDICTING).astype(int)]
    with tempfile.TemporaryDirectory() as folder:
        search = Search(
            source=own.shipped,
            program=own.program,
            cases=few,
            folder=Path(folder),
            deployment=deployment,
            budget=ready.budget,
            wanted=Wanted(to=given.to, max_error=1.0),
            stages=progress,
        )
        began = time.perf_counter()
        layers, file = search.layers()
        chosen = list(layers)
        if given.layers and len(layers) > given.layers:
            at = np.unique(np.linspace(0, len(layers) - 1, given.layers).astype(int))
            chosen = [layers[n] for n in at]
        inputs = [case.inputs for case in few]
        errors = own_errors(own.program, file, inputs, deployment, ready.budget)
        targets = targets_of(own.program)
        found = [
            effects_of(
                own.program,
                case.inputs,
                layers,
                held.errors,
                targets,
                directions=DIRECTIONS,
                seed=number,
            )
            for number, (case, held) in enumerate(zip(few, errors, strict=True))
        ]
        row.layers = [layer.name for layer in chosen]
        row.predicted = {
            layer.name: [float(effects.damage[n]) for effects, _ in found]
            for n, layer in enumerate(layers)
            if layer in chosen
        }
        row.seconds["lower"] = time.perf_counter() - began
        # Float32, float64, the file in pieces and as a whole; then forward and backward.
        row.runs["lower"] = sum(4 + runs for _, runs in found)
        save(row, place)
        truths = None
        for layer in chosen:
            if layer.name in row.brute:
                continue
            began = time.perf_counter()
            if truths is None:
                truths = [_truth(own.program, case, targets) for case in cases]
            alone = search.folder / "alone.onnx"
            search.write(alone, [other for other in layers if other is not layer])
            held = LoweredFile.of(own.program, open_graph(alone))
            run = TargetRun(own.program, alone, held, targets, deployment)
            pairs = zip(cases, truths, strict=True)
            outcomes = [run.outcome(case.inputs, truth) for case, truth in pairs]
            row.brute[layer.name] = [outcome.error for outcome in outcomes]
            row.turned[layer.name] = [outcome.turned for outcome in outcomes]
            spent = time.perf_counter() - began
            row.seconds["brute force"] = row.seconds.get("brute force", 0.0) + spent
            row.runs["brute force"] = row.runs.get("brute force", 0) + len(cases)
            save(row, place)
        began = time.perf_counter()
        row.others = theirs(own.shipped, chosen, few)
        row.seconds["quant_sensitivity"] = time.perf_counter() - began
    save(row, place)
    return row


def _truth(program: Program, case: Case, targets: Targets) -> TorchOutcome:
    """What PyTorch gives; of decisions, those that values rest on."""
    truth = truth_of(program, case.inputs, targets)
    inside = behind(program, targets.values)
    distance = {name: held for name, held in truth.distance.items() if name in inside}
    return replace(truth, distance=distance)


def theirs(
    path: Path, layers: Sequence[Layer], cases: Sequence[Case]
) -> dict[str, dict[str, float] | str]:
    """Scores of onnxsim's estimators for the same layers; why, where one gives none."""
    try:
        from onnxsim import quant_sensitivity as qs
    except ImportError as error:
        return dict.fromkeys(THEIRS, str(error))
    model = onnx.load(path)
    sites = {site.name: site for site in qs.find_sites(model)}
    groups = {la.name: [node for node in la.nodes if node in sites] for la in layers}
    held: dict[str, Sequence[str]] = {name: nodes for name, nodes in groups.items() if nodes}
    used = [sites[node] for nodes in held.values() for node in nodes]
    found: dict[str, dict[str, float] | str] = {}
    for method in THEIRS:
        try:
            report = qs.rank(
                model,
                sites=used,
                groups=held,
                calib=_stacked(cases),
                bits=8,
                methods=(method,),
            )
            if method not in report.scores:
                found[method] = str(report.skipped.get(method, "no scores"))[:300]
                continue
            scores = {g: float(s) for g, s in zip(held, report.scores[method], strict=True)}
        except Exception as error:  # noqa: BLE001 - whatever it raises is its answer
            found[method] = f"{type(error).__name__}: {str(error)[:300]}"
            continue
        # An LSTM is no site of theirs: it comes last.
        found[method] = {layer.name: scores.get(layer.name, 0.0) for layer in layers}
    return found


def _stacked(cases: Sequence[Case]) -> dict[str, np.ndarray]:
    """Samples along the first axis, as it wants them, where there is an axis of one for that."""
    first = cases[0].inputs
    if any(array.ndim < 2 or len(array) != 1 for array in first.values()):
        return {name: np.asarray(array) for name, array in first.items()}
    return {name: np.concatenate([case.inputs[name] for case in cases]) for name in first}


def table(rows: Sequence[Row]) -> str:
    """Markdown: a line per pipeline."""
    ways = ("lower", *THEIRS)
    lines = [
        "| pipeline | to | layers | windows | "
        + " | ".join(f"`{way}`" for way in ways)
        + " | brute force with itself | `lower`, no decision turned"
        + " | runs of `lower` | runs of brute force |",
        "|---|---|--:|--:|" + "--:|" * (len(ways) + 4),
    ]
    for row in rows:
        cells = [row.correlation(way) for way in ways]
        said = ["-" if cell is None else f"{cell:.3f}" for cell in cells]
        said.append(f"{row.halves():.3f}")
        steady = row.correlation("lower", steady=True)
        said.append("-" if steady is None else f"{steady:.3f}")
        counts = [str(row.runs["lower"]), str(len(row.layers) * row.windows)]
        windows = f"{row.windows} of {row.seconds_each:g} s"
        start = [row.pipeline, row.to, str(len(row.layers)), windows]
        lines.append("| " + " | ".join([*start, *said, *counts]) + " |")
    return "\n".join(lines)


def main() -> int:
    """Measure, and show or write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("pipelines", nargs="*", type=Path)
    parser.add_argument("--keep", type=Path, required=True, help="folder of what was measured")
    parser.add_argument("--to", default="int8")
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a window")
    parser.add_argument("--layers", type=int, default=0, help="a sample of so many; 0: all")
    parser.add_argument("--output-dir", type=Path, help="of a finished run of a single pipeline")
    parser.add_argument("--write", action="store_true", help="put the table into docs/lower.md")
    given = parser.parse_args()
    for path in given.pipelines:
        row = measured(path, given)
        print(f"{row.pipeline}: {row.correlation('lower')} over {len(row.layers)} layers")
        for name in sorted(row.layers, key=row.measured, reverse=True):
            print(f"  {name}: {row.measured(name):.4g}, predicted {row.foreseen(name):.4g}")
    found = [Row(**json.loads(p.read_text("utf-8"))) for p in sorted(given.keep.glob("*.json"))]
    rows = [row for row in found if row.whole]
    print(table(rows))
    if given.write:
        write_between(PAGE, MARK, table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
