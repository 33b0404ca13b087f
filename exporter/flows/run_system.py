"""A system: every graph exported and judged by itself, then all of them under their driver."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exporter import __version__
from exporter.cases.load import choose_cases
from exporter.cases.manifest import read_manifest
from exporter.config.load_system import load_system
from exporter.config.run_options import RunOptions
from exporter.config.system import System
from exporter.core.output_folder import output_folder
from exporter.core.stages import Stages
from exporter.execution.declared_deployments import declared_deployments
from exporter.flows.manifest_workers import Job, narrowed, rows_elsewhere
from exporter.flows.open_system import bench_of
from exporter.flows.run import run
from exporter.flows.verify import verify
from exporter.parity.status import Status
from exporter.report.environment import (
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
from exporter.systems.case_inputs import system_cases
from exporter.systems.judge_case import judge_case
from exporter.systems.run_manifest import run_manifest

_UNMEASURED = (
    "manifest: the captured programs and float64, where the modules and ONNX say the same tokens;"
    " numbers beside the tokens were not measured there"
)


def run_system(
    system: System | Path | str,
    options: RunOptions | None = None,
    *,
    progress: Stages | None = None,
    files: Mapping[str, Path] | None = None,
    manifest: Path | None = None,
    jobs: int = 1,
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
        jobs: processes that share the manifest, at most one for each line; each holds the system.

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
        report = _together(system, options, folder, files or {}, progress, names, reports)
        if manifest is not None and not report.notes:
            found = _manifest(system, options, folder, files or {}, progress, manifest, jobs)
            more = [*report.not_checked, _UNMEASURED]
            report = report.model_copy(update={"manifest": found, "not_checked": more})
        report = concluded_system(report)
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
) -> SystemReport:
    calls: list[CallsRecord] = []
    results: list[ResultRecord] = []
    counts = dict.fromkeys(reports, 0)
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
    return SystemReport(
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
        max_token_error_rate=system.judge.max_token_error_rate,
        max_ambiguous=system.max_ambiguous,
        notes=notes,
        not_checked=_not_checked(reports),
        timings={},
    )


def _manifest(
    system: System,
    options: RunOptions,
    folder: Path,
    files: Mapping[str, Path],
    progress: Stages,
    manifest: Path,
    jobs: int,
) -> ManifestRecord:
    elsewhere = None
    jobs = min(jobs, sum(1 for _ in read_manifest(manifest)))
    if jobs > 1:
        options = narrowed(options, jobs)
        job = Job(system=system, options=options, folder=folder, files=files, manifest=manifest)
        elsewhere = functools.partial(rows_elsewhere, job, jobs)
    bench = bench_of(system, options, folder, files, progress)
    with progress.stage("manifest") as stage:
        return run_manifest(bench, manifest, folder, stage.update, elsewhere)


def _providers(system: System, options: RunOptions) -> tuple[str, ...]:
    ways = (
        way
        for held in system.pipelines.values()
        for way in declared_deployments(held, options.provider, 1)
    )
    return tuple(dict.fromkeys(way.provider for way in ways))


def _not_checked(reports: Mapping[str, Report]) -> list[str]:
    """What neither a graph's own report nor the drive shows, each line once."""
    return list(dict.fromkeys(line for report in reports.values() for line in report.not_checked))
