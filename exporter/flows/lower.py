"""Write a pipeline's file in a lower precision, choose what stays in float32, and prove the rest.

the float32 file of a finished run, or a new export
cases: the chosen ones for the choice, all others to confirm it
search   see ``exporter.lowering.search``
confirm  the file on cases that had no part in the choice
verify   the file layer by layer, against what its formats cost; the certificate
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from exporter.cases.load import load_cases
from exporter.config import Pipeline
from exporter.config.run_options import RunOptions
from exporter.core.errors import UserInputError
from exporter.core.extras import need
from exporter.core.files import write_text
from exporter.core.stages import Stages
from exporter.core.tensors import Case
from exporter.execution.node_times import seconds_of
from exporter.flows.certify import certificate_facts, golden_facts
from exporter.flows.prepare import Prepared, prepare
from exporter.flows.verify import verify
from exporter.graph.certificate import certify
from exporter.graph.onnx_file import open_artifact, open_graph
from exporter.graph.wrap import narrowed, wrap
from exporter.interpret.propagated import targets_of
from exporter.judge.reference_run import reference_run
from exporter.lowering.choice import choose
from exporter.lowering.confirm import by_themselves, moved_cases
from exporter.lowering.outcome import Outcome, TargetRun, truth_of
from exporter.lowering.own_errors import LoweredFile
from exporter.lowering.rounds import Wanted
from exporter.lowering.search import Found, Search
from exporter.parity.exit_code import decide
from exporter.parity.status import Status
from exporter.parity.tolerance import policy_of
from exporter.report.html import can_render_html
from exporter.report.lowering import FileRow, LayerRow, LoweringReport, Point, render_lowering
from exporter.report.lowering_plot import render_plot
from exporter.report.progress import Progress
from exporter.report.schema import Report

FOLDER = "lower"
_WRITTEN = ("lower.json", "lower.md", "lower.html")
DECLARED = {
    "int8": "int8_weights",
    "int8_static": "int8_weights",
    "int4": "int4_weights",
    "mixed": "int4_weights",
    "float16": "float16",
}
"""What the file that is written may hold, as the pipeline's ``parity`` says it."""
_CURVE = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_CONFIRMING = 2
"""Least cases that confirm; where the pipeline has fewer, they are drawn beside those it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LowerOptions:
    """How a file is lowered.

    Attributes:
        to: precision; None for what the pipeline says. max_error: relative rms error at outputs.
        max_flips: elements of integer outputs that may change, case by case.
        prefer: "speed" or "size"; None: speed for int8, else size.
        budget: seconds for the rounds of the choice.
        directions: random ones per case.
    """

    to: str | None = None
    max_error: float = 0.05
    max_flips: int = 0
    prefer: str | None = None
    budget: float = 600.0
    directions: int = 16


def lower(
    pipeline: Pipeline | Path | str,
    how: LowerOptions | None = None,
    options: RunOptions | None = None,
    *,
    progress: Stages | None = None,
    **fields: Any,
) -> LoweringReport:
    """Lower the precision of a pipeline's file, and know what it costs.

    Writes ``lower/model.<precision>.onnx``, its report, table and plot below the output folder.

    Raises:
        UserInputError: as in ``exporter.run``; nothing of the file can be lowered; no precision.
        ArtifactError: the engine cannot write the file.
    """
    began = time.perf_counter()
    need("scipy", who="'lower'")
    how = how or LowerOptions()
    ready = prepare(pipeline, RunOptions.given(options, fields))
    progress = progress or Progress(quiet=True)
    section = ready.pipeline.precision
    to = how.to or (section.to if section is not None else None)
    if to is None:
        raise UserInputError("no precision is asked for", remedy="--to int8, float16, int4, mixed")
    with ready.options.taken(ready.pipeline, progress):
        lowered = _Lowering(ready, to, how, progress).run()
    report = _verified(ready, to, lowered.file, progress)
    return lowered.finish(report, time.perf_counter() - began)


def _verified(ready: Prepared, to: str, file: Path, progress: Stages) -> Report:
    """``verify`` of the file, with the precision that was asked for as the declared one."""
    parity = ready.pipeline.parity.model_copy(update={"precision": DECLARED[to]})
    declared = ready.pipeline.model_copy(update={"parity": parity})
    return verify(declared, file, ready.options, progress=progress)


class _Lowering:
    def __init__(self, ready: Prepared, to: str, how: LowerOptions, progress: Stages):
        self.ready, self.to, self.how, self.progress = ready, to, how, progress
        self.folder = ready.folder / FOLDER
        self.file = self.folder / f"model.{to}.onnx"
        self.deployment = ready.deployments[0].on_cpu()
        prefer = how.prefer or ("speed" if to in ("int8", "int8_static") else "size")
        self.wanted = Wanted(
            to=to,
            max_error=how.max_error,
            max_flips=how.max_flips,
            prefer=prefer,
            directions=how.directions,
            budget=how.budget,
        )
        self.notes: list[str] = []

    def run(self) -> _Lowering:
        ready, progress = self.ready, self.progress
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in _WRITTEN:  # of a run before: it says nothing of what is written now
            (self.folder / name).unlink(missing_ok=True)
        with progress.stage("wrap") as stage:
            wrapped = wrap(ready.pipeline)
            torch.set_num_threads(ready.threads)
            stage.result(f"weights: {wrapped.weights.source}")
        if wrapped.weights.seeded:
            self.notes.append(
                "the weights are seeded, not trained: margins of decisions mean nothing, and are"
                " as small as those of a coin"
            )
        self.own = reference_run(ready.pipeline, wrapped, ready.folder, ready.threads, progress)
        self.program = self.own.program
        inputs = narrowed(wrapped, self.program).inputs
        self.cases = list(load_cases(ready.pipeline, inputs, ready.cases))
        names = [c.name for c in ready.pipeline.cases if c.name not in ready.cases]
        self.others = list(load_cases(ready.pipeline, inputs, names))
        self.others += moved_cases(self.cases, _CONFIRMING - len(self.others))
        search = self._search(self.to, frozenset())
        section = ready.pipeline.precision
        fixed = section.keep_float32 if section is not None and section.to == self.to else None
        if self.to == "mixed":
            search = self._search("mixed", self._eight(fixed))
        whole = LoweredFile.of(self.program, open_graph(self.own.shipped))
        self.plain = search.outcomes(self.own.shipped, whole)
        self.found = search.find(self.file, fixed)
        self.everything = search.everything
        with progress.stage("confirm") as stage:
            self.confirmed = self._outcomes(self.others)
            stage.result(f"on {len(self.others)} other case(s)")
        with progress.stage("time of the files"):
            files = (self.own.shipped, self.everything, self.file)
            first = self.cases[0].inputs
            self.times = [seconds_of(path, first, self.deployment) for path in files]
        return self

    def _search(self, to: str, eight: frozenset[str]) -> Search:
        return Search(
            source=self.own.shipped,
            program=self.program,
            cases=self.cases,
            folder=self.folder / "tried",
            deployment=self.deployment,
            budget=self.ready.budget,
            wanted=replace(self.wanted, to=to),
            stages=self.progress,
            eight=eight,
        )

    def _eight(self, fixed: Sequence[str] | None) -> frozenset[str]:
        """Nodes that get eight bits: those that four bits are too coarse for."""
        search = self._search("int4", frozenset())
        section = self.ready.pipeline.precision
        if fixed is not None and section is not None:
            layers = [la for la in search.layers()[0] if any(map(la.called, section.eight_bits))]
        else:
            layers = list(search.find(self.folder / "tried" / "four_bits.onnx").kept)
        self.eight = [layer.name for layer in layers]
        return frozenset(node for layer in layers for node in layer.nodes)

    def _outcomes(self, cases: Iterable[Case]) -> list[Outcome]:
        targets = targets_of(self.program)
        file = LoweredFile.of(self.program, open_graph(self.file))
        run = TargetRun(self.program, self.file, file, targets, self.deployment)
        if run.missing:
            self.notes.append(f"not in the file, so not compared: {', '.join(run.missing)}")
        return [
            run.outcome(case.inputs, truth_of(self.program, case.inputs, targets)) for case in cases
        ]

    def finish(self, judged: Report, elapsed: float) -> LoweringReport:
        """The report of it all, written beside the file; the file gets its certificate."""
        found = self.found
        met, confirmed = found.met, self.wanted.met_by(self.confirmed)
        chosen = Status.PASS if met and confirmed and found.lowered else Status.FAIL
        alone = by_themselves(judged)
        decision = decide([(chosen, True), (alone, True)])
        report = LoweringReport(
            pipeline=self.ready.pipeline.name,
            to=self.to,
            file=str(self.file),
            verdict=decision.status.value,
            exit_code=decision.exit_code,
            headline=self._headline(met, confirmed, alone),
            max_error=self.wanted.max_error,
            max_flips=self.wanted.max_flips,
            prefer=self.wanted.prefer,
            layers=self._layers(),
            files=self._files(),
            confirmed=self._row(
                "lowered, other cases", self.file, None, self.confirmed, self.others
            ),
            curve=self._curve(),
            rounds=[
                f"{held.kept} in float32: error {held.predicted.error:.3g} predicted,"
                f" {max((o.error or 0.0 for o in held.outcomes), default=0.0):.3g} measured;"
                f" {sum(o.flips for o in held.outcomes)} flips"
                for held in found.rounds
            ],
            runs=found.runs,
            seconds=elapsed,
            yaml=self._yaml(),
            judged=f"{judged.verdict}: {judged.headline}",
            notes=self.notes,
        )
        artifact, _ = open_artifact(self.file)
        golden = golden_facts(self.ready.options.golden_dir, self.ready.pipeline)
        facts = certificate_facts(judged, policy_of(self.ready.pipeline), golden)
        told = {
            "verdict": report.verdict,
            "headline": report.headline,
            "lowered_to": self.to,
            "keep_float32": json.dumps([layer.name for layer in found.kept]),
            "confirmed_on": json.dumps([case.name for case in self.others]),
        }
        certify(artifact, facts | told)
        saved, table, plot = (self.folder / name for name in _WRITTEN)
        write_text(saved, report.model_dump_json(indent=1))
        write_text(table, render_lowering(report))
        if can_render_html():
            write_text(plot, render_plot(report))
        return report

    def _headline(self, met: bool, confirmed: bool, alone: Status) -> str:
        found, count = self.found, len(self.found.layers)
        if not found.lowered:
            what = "gains time here" if self.wanted.prefer == "speed" else "is within the limits"
            return f"nothing is lowered: none of {count} layers {what}"
        small = self.file.stat().st_size / self.own.shipped.stat().st_size
        said = (
            f"{len(found.lowered)} of {count} layers in {self.to}, {len(found.kept)} in float32;"
            f" {small:.2f} x the size, {self.times[0] / self.times[2]:.2f} x as fast"
        )
        if not met:
            return f"{said}; beyond the limits on the cases of the choice"
        if not confirmed:
            return f"{said}; not confirmed on other cases"
        if alone is not Status.PASS:
            return f"{said}; within the limits on other cases, but a layer is wrong by itself"
        return f"{said}; confirmed on {len(self.others)} other case(s)"

    def _layers(self) -> list[LayerRow]:
        found = self.found
        damage = _damage(found)
        rows = [
            LayerRow(
                name=layer.name,
                module=layer.module,
                kinds=list(layer.kinds),
                weights=layer.weights,
                own=float(found.own[n]),
                effect=float(damage[n]),
                gained=None if found.seconds is None else float(found.seconds[n]),
                stays=n not in found.lowered,
                why=self._why(n),
            )
            for n, layer in enumerate(found.layers)
        ]
        return sorted(rows, key=lambda row: -row.effect)

    def _why(self, place: int) -> str:
        found = self.found
        if place in found.lowered:
            return ""
        if place in found.overflowing:
            return "a value of it has no room in the format"
        if found.seconds is not None and found.seconds[place] <= 0.0:
            return "no faster here"
        return "its effect"

    def _files(self) -> list[FileRow]:
        found = self.found
        rows = (
            ("float32", self.own.shipped, self.plain),
            ("all lowered", self.everything, found.everything),
            ("lowered", self.file, found.outcomes),
        )
        return [
            self._row(name, path, time_, outcomes, self.cases)
            for (name, path, outcomes), time_ in zip(rows, self.times, strict=True)
        ]

    def _row(
        self,
        name: str,
        path: Path,
        elapsed: float | None,
        outcomes: Sequence[Outcome],
        cases: Sequence[Case],
    ) -> FileRow:
        errors = [o.error for o in outcomes if o.error is not None]
        return FileRow(
            name=name,
            bytes=path.stat().st_size,
            seconds=elapsed,
            error=max(errors) if errors else None,
            flips=sum(o.flips for o in outcomes),
            doubtful=sum(o.doubtful for o in outcomes),
            decisions=sum(o.turned for o in outcomes),
            cases=[case.name for case in cases],
        )

    def _curve(self) -> list[Point]:
        found = self.found
        positive = float(found.gain[found.gain > 0.0].sum()) or 1.0
        points = []
        for limit in _CURVE:
            held = choose(
                found.effects,
                found.gain,
                limit,
                never=found.overflowing,
                max_flips=10**6,
                seconds=2.0,
            )
            points.append(
                Point(
                    limit=limit,
                    kept=len(found.layers) - len(held.lowered),
                    error=held.error,
                    worth=sum(float(found.gain[n]) for n in held.lowered) / positive,
                )
            )
        return points

    def _yaml(self) -> str:
        section: dict[str, Any] = {
            "to": self.to,
            "keep_float32": [layer.name for layer in self.found.kept],
        }
        if self.to == "mixed":
            section["eight_bits"] = self.eight
        return yaml.safe_dump({"precision": section}, sort_keys=False).rstrip()


def _damage(found: Found) -> np.ndarray:
    return np.max([effect.damage for effect in found.effects], axis=0)
