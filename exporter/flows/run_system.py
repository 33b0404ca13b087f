"""A system: every graph exported and judged by itself, then all of them under their driver."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from exporter import __version__
from exporter.build.artifacts import Artifacts
from exporter.cases.load import choose_cases
from exporter.cases.manifest import read_manifest
from exporter.config.load_system import load_system
from exporter.config.run_options import RunOptions
from exporter.config.system import System
from exporter.core.output_folder import output_folder
from exporter.core.stages import Stages
from exporter.execution.declared_deployments import declared_deployments
from exporter.execution.onnx_runs import FileRun
from exporter.flows.run import run
from exporter.flows.verify import verify
from exporter.parity.status import Status
from exporter.report.environment import (
    default_memory_budget,
    describe_environment,
    usable_cores,
)
from exporter.report.progress import Progress
from exporter.report.schema import Report
from exporter.report.system import (
    CallsRecord,
    GraphRecord,
    ManifestRecord,
    ResultRecord,
    SystemReport,
)
from exporter.report.system_text import clear_system_report, write_system_report
from exporter.report.system_verdict import concluded_system
from exporter.systems.calls import Sessions
from exporter.systems.case_inputs import system_cases
from exporter.systems.judge_case import Bench, judge_case
from exporter.systems.opened import OpenedGraph, check_wiring, open_graph_of
from exporter.systems.run_manifest import run_manifest
from exporter.systems.tokenizer import detokenizer


def run_system(
    system: System | Path | str,
    options: RunOptions | None = None,
    *,
    progress: Stages | None = None,
    files: Mapping[str, Path] | None = None,
    manifest: Path | None = None,
    **fields: Any,
) -> SystemReport:
    """Export and judge every graph of a system, then drive and judge them together.

    Each graph has a folder and a report of its own below the system's folder, as if its pipeline
    had been run alone.

    Args:
        system: a system, or the path of its YAML.
        options, fields: as in ``exporter.run``; ``cases`` are the system's.
        files: ONNX files by graph that are judged in place of those that the run makes.
        manifest: JSON lines of recordings and texts, run after the cases.

    Raises:
        UserInputError: the system, a pipeline, weights, a case or a file cannot be used.
    """
    options = RunOptions.given(options, fields)
    if not isinstance(system, System):
        system = load_system(system)
    pipelines = {name: options.opened(held) for name, held in system.pipelines.items()}
    system = system.with_pipelines(pipelines)
    progress = progress or Progress(quiet=True)
    first = next(iter(pipelines.values()))
    for _ in () if manifest is None else read_manifest(manifest):
        pass  # what is wrong with a line is said now, not when all graphs have been made
    names = choose_cases(system.on_cases(first), options.cases, all_cases=options.all_cases)
    folder = system_folder(system, options)
    with output_folder(folder, pipeline=system.name, say=progress.note):
        clear_system_report(folder)
        began = time.perf_counter()
        reports = _graphs(system, options, folder, files or {}, progress)
        report = _together(system, options, folder, files or {}, progress, names, reports, manifest)
        timings = {**progress.timings, "total": time.perf_counter() - began}
        report = report.model_copy(update={"timings": timings})
        write_system_report(report, folder)
    return report


def system_folder(system: System, options: RunOptions) -> Path:
    """Where the files of a system lie."""
    return options.output_dir or Path("runs") / system.name


def _graphs(
    system: System,
    options: RunOptions,
    folder: Path,
    files: Mapping[str, Path],
    progress: Stages,
) -> dict[str, Report]:
    """Every graph by itself, as its pipeline says."""
    found = {}
    for name, pipeline in system.pipelines.items():
        progress.note(f"graph '{name}'")
        own = options.model_copy(update={"output_dir": folder / name, "cases": None, "audio": ()})
        report = run(pipeline, own, progress=progress)
        if name in files and report.stopped is None:
            report = verify(pipeline, files[name], own, progress=progress)
        found[name] = report
    return found


def _together(
    system: System,
    options: RunOptions,
    folder: Path,
    files: Mapping[str, Path],
    progress: Stages,
    names: Sequence[str],
    reports: Mapping[str, Report],
    manifest: Path | None,
) -> SystemReport:
    calls: list[CallsRecord] = []
    results: list[ResultRecord] = []
    counts = dict.fromkeys(reports, 0)
    rows: ManifestRecord | None = None
    notes: list[str] = []
    stopped = [name for name, report in reports.items() if report.stopped is not None]
    if stopped:
        notes.append(f"the system was not driven: the graph '{stopped[0]}' was not made")
    else:
        bench = bench_of(system, options, folder, files, progress)
        with progress.stage("drive the system") as stage:
            for case in system_cases(system, bench.graphs, names):
                stage.update(case.name)
                judged = judge_case(bench, case)
                calls += judged.calls
                results += judged.results
                for name, count in judged.counts.items():
                    counts[name] += count
            stage.result(", ".join(f"{name} {count} calls" for name, count in counts.items()))
        if manifest is not None:
            with progress.stage("manifest") as stage:
                rows = run_manifest(bench, manifest, folder, stage.update)
    graphs = [
        GraphRecord(
            name=name,
            pipeline=report.pipeline.name,
            verdict=report.verdict,
            exit_code=report.exit_code,
            headline=report.headline,
            folder=f"{name}/verify" if name in files and report.stopped is None else name,
            calls=counts[name],
            required=system.pipelines[name].required,
        )
        for name, report in reports.items()
    ]
    report = SystemReport(
        tool_version=__version__,
        name=system.name,
        file=system.file,
        digest=system.digest,
        driver=system.driver.model_dump(mode="json"),
        verdict=Status.NOT_RUN.value,
        exit_code=1,
        headline="",
        environment=describe_environment(
            options.threads or usable_cores(),
            _providers(system, options),
        ),
        graphs=graphs,
        calls=calls,
        results=results,
        manifest=rows,
        max_token_error_rate=system.judge.max_token_error_rate,
        max_ambiguous=system.max_ambiguous,
        notes=notes,
        not_checked=_not_checked(reports, manifest),
        timings={},
    )
    return concluded_system(report)


def bench_of(
    system: System,
    options: RunOptions,
    folder: Path,
    files: Mapping[str, Path],
    progress: Stages,
) -> Bench:
    """Open what the runs of all graphs have left, and everything that drives them.

    Args:
        folder: of the system. files: files that are judged in place of those in it.

    Raises:
        ConfigError: the driver names what is not there. ArtifactError: a file cannot be used.
    """
    cores = options.threads or usable_cores()
    with progress.stage("open the graphs"):
        graphs = {
            name: open_graph_of(
                name,
                pipeline,
                folder / name,
                declared_deployments(pipeline, options.provider, cores),
                files.get(name),
            )
            for name, pipeline in system.pipelines.items()
        }
        check_wiring(system, graphs)
        torch.set_num_threads(cores)
        sessions = _sessions(graphs)
    table = next((held.tokens for held in graphs.values() if held.tokens is not None), None)
    where = system.where("judge", "text", "tokenizer")
    return Bench(
        system=system,
        graphs=graphs,
        sessions=sessions,
        folders={name: Artifacts(folder=folder / name) for name in graphs},
        budget=options.memory_budget or default_memory_budget(),
        progress=progress,
        decode=detokenizer(system.judge.text, table, where),
    )


def _sessions(graphs: Mapping[str, OpenedGraph]) -> Sessions:
    """Open files of every way of deployment; a graph that declares fewer keeps its last one."""
    most = max(len(held.deployments) for held in graphs.values())
    found: dict[str, dict[str, FileRun]] = {}
    for number in range(most):
        ways = {n: g.deployments[min(number, len(g.deployments) - 1)] for n, g in graphs.items()}
        label = " | ".join(dict.fromkeys(way.label() for way in ways.values()))
        found[label] = {name: FileRun(graphs[name].onnx, way) for name, way in ways.items()}
    return found


def _providers(system: System, options: RunOptions) -> tuple[str, ...]:
    ways = (
        way
        for held in system.pipelines.values()
        for way in declared_deployments(held, options.provider, 1)
    )
    return tuple(dict.fromkeys(way.provider for way in ways))


def _not_checked(reports: Mapping[str, Report], manifest: Path | None) -> list[str]:
    """What neither a graph's own report nor the drive shows, each line once."""
    lines = [line for report in reports.values() for line in report.not_checked]
    if manifest is not None:
        lines.append(
            "manifest: the eager modules and float64, where both sides say the same tokens; the"
            " captured programs' tokens were held against ONNX's, numbers beside them were not"
            " measured"
        )
    return list(dict.fromkeys(lines))
