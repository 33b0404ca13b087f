"""``debug`` as one function: choose layers, take each apart, write a bundle for each."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from onnx import ModelProto

from exporter.config import Pipeline
from exporter.config.run_options import RunOptions
from exporter.core.errors import EXIT_PARITY_FAILED, EXIT_PASS
from exporter.core.stages import Stages
from exporter.debugging.bundle import Bundle, write_bundle
from exporter.debugging.diagnose import Diagnosis, diagnose
from exporter.debugging.differences import Located, locate_differences
from exporter.debugging.pair import Pair, against, load_pair
from exporter.debugging.select import Layer, find_layer
from exporter.debugging.suspects import Suspect, of_file, of_report
from exporter.execution.onnxruntime import Deployment, check_provider
from exporter.report.environment import default_memory_budget, usable_cores
from exporter.report.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Debugged:
    """What a debugging run found.

    Attributes:
        diagnoses: one per layer, in program order. bundles: one per diagnosis.
        waiting: culprits that were found and not taken apart (without ``--all``).
    """

    pair: Pair
    located: tuple[Located, ...]
    diagnoses: tuple[Diagnosis, ...]
    bundles: tuple[Bundle, ...]
    waiting: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """1 while a culprit exists."""
        guilty = any(d.guilty for d in self.diagnoses) or bool(self.waiting)
        return EXIT_PARITY_FAILED if guilty else EXIT_PASS


def debug(
    pipeline: Pipeline | Path | str,
    options: RunOptions | None = None,
    *,
    progress: Stages | None = None,
    layer: str | None = None,
    onnx: Path | None = None,
    all_culprits: bool = False,
    bundles: Path | None = None,
    **fields: Any,
) -> Debugged:
    """Take layers of a finished run's file, or of another file, apart.

    Args:
        options, fields: as in ``exporter.run``; the output folder is that of the finished run.
            Without a case it is the one on which the run found its first culprit.
        layer: module path, tap, ONNX name or glob; None for the first culprit.
        onnx: judge this file instead of the run's own.
        all_culprits: every culprit instead of the first.
        bundles: where to write; ``<output_dir>/debug`` by default.

    Raises:
        UserInputError: see ``load_pair``, ``find_layer``; an unknown provider.
    """
    started = time.perf_counter()
    options = RunOptions.given(options, fields)
    pipeline = options.opened(pipeline)
    progress = progress or Progress(quiet=True)
    folder = options.folder(pipeline)
    cores = options.threads or usable_cores()
    torch.set_num_threads(cores)
    deployment = Deployment(provider=check_provider(options.provider or "cpu"), threads=cores)
    with progress.stage("load") as stage:
        case = options.cases[0] if options.cases else None
        pair = load_pair(pipeline, folder, onnx_path=onnx, case=case, deployment=deployment)
        located = locate_differences(pair)
        stage.result(f"case '{pair.case.name}', {len(pair.planned)} taps")
    suspects = _choose(pair, located, layer, options.memory_budget, progress)
    chosen = suspects if all_culprits or layer is not None else suspects[:1]
    names = [suspect.layer.name for suspect in suspects]
    diagnoses, written = [], []
    for number, suspect in enumerate(chosen):
        with progress.stage(f"take '{suspect.layer.name or 'the root module'}' apart") as stage:
            found = _diagnose(pair, located, suspect, names[:number])
            stage.result(f"{len(found.held.rows)} ops, {len(found.findings)} finding(s)")
        with progress.stage("bundle") as stage:
            bundle = write_bundle(pair, found, bundles or folder / "debug")
            stage.result(f"{bundle.bytes / 1e6:.1f} MB")
        diagnoses.append(found)
        written.append(bundle)
    return Debugged(
        pair=pair,
        located=located,
        diagnoses=tuple(diagnoses),
        bundles=tuple(written),
        waiting=tuple(names[len(chosen) :]) if layer is None else (),
        remarks=pair.notes,
        timings={"total": time.perf_counter() - started},
    )


def debug_file(run: Pair, model: ModelProto, path: Path, *, budget: int) -> tuple[Diagnosis, ...]:
    """Diagnose every culprit of a file that lies in memory; writes nothing.

    Args:
        run: a finished run. path: where external data of ``model`` would lie.
        budget: bytes that compared values may hold.

    Raises:
        ArtifactError: the file does not descend from that run's.
    """
    pair = against(run, model, path)
    located = locate_differences(pair)
    suspects = of_file(pair, located, budget=budget, progress=lambda text: None)
    names = [suspect.layer.name for suspect in suspects]
    return tuple(
        _diagnose(pair, located, suspect, names[:number]) for number, suspect in enumerate(suspects)
    )


def _diagnose(
    pair: Pair, located: tuple[Located, ...], suspect: Suspect, earlier: list[str]
) -> Diagnosis:
    return diagnose(
        pair,
        suspect.layer,
        located,
        upstream=_upstream(pair, located, earlier),
        propagated=suspect.propagated,
    )


def _choose(
    pair: Pair,
    located: tuple[Located, ...],
    layer: str | None,
    memory_budget: int | None,
    progress: Stages,
) -> tuple[Suspect, ...]:
    if layer is not None:
        chosen: Layer = find_layer(pair, layer)
        return (Suspect(layer=chosen),)
    if pair.own:
        return of_report(pair)
    with progress.stage("find culprits") as stage:
        budget = memory_budget or default_memory_budget()
        found = of_file(pair, located, budget=budget, progress=progress.phase)
        stage.result(f"{len(found)} layer(s), {len(located)} structural difference(s)")
    return found


def _upstream(pair: Pair, located: tuple[Located, ...], earlier: list[str]) -> tuple[str, ...]:
    """Modules known to be wrong: of the structure, of this session, of the last run."""
    known = [at.module for at in located] + earlier
    if pair.own:
        known += [culprit.layer for culprit in pair.report.culprits]
    return tuple(dict.fromkeys(name for name in known if name))
