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
from functools import partial
from pathlib import Path
from typing import Any

import torch

from exporter.cases.load import load_cases
from exporter.config import Pipeline
from exporter.config.run_options import RunOptions
from exporter.core.errors import UserInputError
from exporter.core.extras import need
from exporter.core.files import write_text
from exporter.core.stages import Stages
from exporter.core.tensors import Case
from exporter.execution.latency import in_turns
from exporter.execution.onnx_runs import FileRun
from exporter.flows.certify import certificate_facts, golden_facts
from exporter.flows.lower_report import Lowered, lowering_report
from exporter.flows.prepare import Prepared, prepare
from exporter.flows.verify import verify
from exporter.graph.certificate import certify
from exporter.graph.onnx_file import open_artifact, open_in_place
from exporter.graph.wrap import narrowed, wrap
from exporter.interpret.propagated import targets_of
from exporter.judge.reference_run import reference_run
from exporter.lowering.confirm import moved_cases
from exporter.lowering.outcome import Outcome, TargetRun, truth_of
from exporter.lowering.own_errors import LoweredFile
from exporter.lowering.rounds import Wanted
from exporter.lowering.search import Search
from exporter.parity.tolerance import policy_of
from exporter.report.html import can_render_html
from exporter.report.lowering import LoweringReport, render_lowering
from exporter.report.lowering_page import render_page
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
_CONFIRMING = 2
"""Least cases that confirm; where the pipeline has fewer, they are drawn beside those it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LowerOptions:
    """How a file is lowered.

    Attributes:
        to: precision; None for what the pipeline says. static: int8 with calibrated ranges.
        max_error: relative rms error at outputs.
        max_flips: elements of integer outputs that may change, case by case.
        prefer: "speed" or "size"; None: speed for int8, else size.
        budget: seconds for the rounds of the choice.
        directions: random ones per case.
    """

    to: str | None = None
    static: bool = False
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
    to = _precision(ready.pipeline, how)
    with ready.options.taken(ready.pipeline, progress):
        done = _Lowering(ready, to, how, progress).run().done()
        judged = _verified(ready, to, done.file, progress)
        return _finished(ready, done, judged, time.perf_counter() - began)


def _precision(pipeline: Pipeline, how: LowerOptions) -> str:
    section = pipeline.precision
    said = section.to if section is not None else None
    if how.static:
        asked = how.to or said or "int8"
        if asked not in ("int8", "int8_static"):
            who = "--to" if how.to is not None else "the pipeline's 'precision'"
            raise UserInputError(
                f"--static is for int8, and {who} says {asked}",
                where="" if how.to is not None else pipeline.where("precision"),
                remedy="give --to int8 --static, or leave --static out",
            )
        return "int8_static"
    if how.to is None and said is None:
        raise UserInputError("no precision is asked for", remedy="--to int8, float16, int4, mixed")
    return how.to or str(said)


def _verified(ready: Prepared, to: str, file: Path, progress: Stages) -> Report:
    """``verify`` of the file, with the precision that was asked for as the declared one."""
    parity = ready.pipeline.parity.model_copy(update={"precision": DECLARED[to]})
    declared = ready.pipeline.model_copy(update={"parity": parity})
    # What its layers do at the outputs the search has measured.
    return verify(declared, file, ready.options, progress=progress, layers_alone=True)


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
        self.eight: list[str] = []

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
        fixed = self._fixed()
        self._say_what_is_left_out()
        if self.to == "mixed":
            search = self._search("mixed", self._eight(fixed))
        whole = LoweredFile.of(self.program, search.plain)
        self.plain = search.outcomes(self.own.shipped, whole)
        self.found = search.find(self.file, fixed)
        self.everything = search.everything
        with progress.stage("confirm") as stage:
            self.confirmed = self._outcomes(self.others)
            stage.result(f"on {len(self.others)} other case(s)")
        with progress.stage("time of the files"):
            self.times = self._times((self.own.shipped, self.everything, self.file))
        return self

    def _times(self, files: Sequence[Path]) -> list[float]:
        """Seconds of one run of each as it is deployed, the least of several in turns."""
        inputs = self.cases[0].inputs
        runs = [partial(FileRun(path, self.deployment).run, inputs) for path in files]
        for run in runs:
            run()
        taken = in_turns({str(n): run for n, run in enumerate(runs)})
        return [min(taken[str(n)]) for n in range(len(files))]

    def _fixed(self) -> Sequence[str] | None:
        """Layers that the pipeline keeps in float32, where it says so for this precision."""
        section = self.ready.pipeline.precision
        if section is None or section.keep_float32 is None:
            return None
        if section.to == self.to:
            return section.keep_float32
        self.notes.append(
            f"the pipeline's 'precision' is for {section.to}: its keep_float32 is not used here"
        )
        return None

    def _say_what_is_left_out(self) -> None:
        if len(self.ready.deployments) > 1:
            self.notes.append(
                f"chosen and measured on {self.deployment.label()} alone; 'verify' has judged the"
                " file on every deployment"
            )
        calls = [case.name for case in (*self.cases, *self.others) if case.later]
        if calls:
            self.notes.append(
                f"of cases in several calls the first call is measured: {', '.join(calls)}"
            )

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
        file = LoweredFile.of(self.program, open_in_place(self.file))
        run = TargetRun(self.program, self.file, file, targets, self.deployment)
        if run.missing:
            self.notes.append(f"not in the file, so not compared: {', '.join(run.missing)}")
        return [
            run.outcome(case.inputs, truth_of(self.program, case.inputs, targets)) for case in cases
        ]

    def done(self) -> Lowered:
        """What was found and written."""
        return Lowered(
            pipeline=self.ready.pipeline.name,
            to=self.to,
            wanted=self.wanted,
            file=self.file,
            plain_file=self.own.shipped,
            everything_file=self.everything,
            found=self.found,
            plain=self.plain,
            confirmed=self.confirmed,
            cases=self.cases,
            others=self.others,
            times=self.times,
            eight=self.eight,
            notes=self.notes,
        )


def _finished(ready: Prepared, done: Lowered, judged: Report, elapsed: float) -> LoweringReport:
    """The report of it all, written beside the file; the file gets its certificate."""
    report = lowering_report(done, judged, elapsed)
    artifact, _ = open_artifact(done.file)
    golden = golden_facts(ready.options.golden_dir, ready.pipeline)
    facts = certificate_facts(judged, policy_of(ready.pipeline), golden)
    told = {
        "verdict": report.verdict,
        "headline": report.headline,
        "lowered_to": done.to,
        "keep_float32": json.dumps([layer.name for layer in done.found.kept]),
        "confirmed_on": json.dumps([case.name for case in done.others]),
    }
    certify(artifact, facts | told)
    saved, table, page = (done.file.parent / name for name in _WRITTEN)
    write_text(saved, report.model_dump_json(indent=1))
    write_text(table, render_lowering(report))
    if can_render_html():
        write_text(page, render_page(report))
    return report
