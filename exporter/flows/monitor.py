"""What the commands of ``monitor`` do, from a pipeline or a file to what is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from exporter.build.metadata import PIPELINE
from exporter.cases.audio import read_waveform
from exporter.cases.load import load_cases
from exporter.config import Pipeline
from exporter.core.errors import ArtifactError, UserInputError
from exporter.core.reading import is_regular, path_of
from exporter.core.tensors import Arrays
from exporter.execution.deployment import PROVIDERS, Deployment
from exporter.execution.providers import check_provider
from exporter.golden.check import asked_of
from exporter.golden.store import read_golden
from exporter.graph.contents import metadata_entries
from exporter.graph.segment_split import WAVEFORM
from exporter.monitor.drift import plan_tests
from exporter.monitor.recorded import MOST_CASES, read_recorded, write_recorded
from exporter.monitor.replay import Replayed
from exporter.monitor.replay import replay as replay_recorded
from exporter.monitor.shadow import DOOR, JudgedRequest, judge_request
from exporter.monitor.signals import SIGNALS, signals_of
from exporter.monitor.spool import SERVICE, Request

SOUNDS = frozenset({".wav", ".flac", ".ogg", ".mp3"})
Answers = Callable[[Mapping[str, np.ndarray]], Arrays]
"""Outputs of the service by name, of its inputs."""


def record(
    pipeline: Pipeline,
    folder: Path,
    cases: Sequence[str] | None,
    *,
    recordings: Sequence[Path] = (),
    answers: Answers | None = None,
) -> tuple[str, ...]:
    """Keep beside the golden in ``folder`` what a monitor needs; returns the cases' names.

    Args:
        recordings: of the reference, each run with the other inputs of the first case.
        answers: the service, for the reference.

    Raises:
        UserInputError: too many cases are named, or too few recordings given.
        GoldenError: there is no golden, or its cases had other inputs.
        AudioError: a recording cannot be used.
    """
    if len(cases or ()) > MOST_CASES:
        raise UserInputError(
            f"{len(cases or ())} cases are named", remedy=f"name {MOST_CASES} at most"
        )
    golden = read_golden(folder)
    names = tuple(cases or [case.name for case in golden.cases])[:MOST_CASES]
    loaded = load_cases(pipeline, golden.inputs, names)
    rows = []
    for path in recordings:
        if answers is None:
            break
        waveform = read_waveform(path, pipeline.sample_rate_hz)
        answered = answers({**loaded[0].inputs, WAVEFORM: waveform})
        rows.append(signals_of(waveform, pipeline.sample_rate_hz, answered))
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    # Refused here what a service would be refused for at its start.
    plan_tests({name: np.array(values) for name, values in columns.items()}, SIGNALS)
    write_recorded(folder, golden, asked_of(pipeline), loaded, columns)
    return names


def recordings_in(folder: Path) -> list[Path]:
    """Recordings in a folder, by name.

    Raises:
        UserInputError: there are none.
    """
    recordings = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SOUNDS and p.is_file())
    if not recordings:
        raise UserInputError(
            "there are no recordings",
            where=str(folder),
            remedy=f"give a folder with files that end in {', '.join(sorted(SOUNDS))}",
        )
    return recordings


def replay_file(
    onnx: Path, golden: Path | None, *, provider: str | None, threads: int | None
) -> Replayed:
    """Replay once, in this process.

    Args:
        golden: folder; by default that of the pipeline that the file names, in ``golden``.
        provider, threads: as recorded by default.

    Raises:
        ArtifactError: the file names no pipeline. GoldenError: the golden cannot be used.
        UserInputError: the provider is not here.
    """
    recorded = read_recorded(golden or Path("golden") / _pipeline_of(onnx))
    run = recorded.golden.run
    deployment = Deployment(
        provider=check_provider(provider or run["provider"]),
        level=run["level"],
        threads=threads or run["threads"],
    )
    return replay_recorded(recorded, onnx, deployment, provider=PROVIDERS[deployment.provider])


def _pipeline_of(onnx: Path) -> str:
    named = {entry.key: entry.value for entry in metadata_entries(onnx)}.get(PIPELINE, "")
    if not named or Path(named).name != named:
        raise ArtifactError(
            "the file does not name the pipeline that it was made of",
            where=str(onnx),
            remedy="name the folder of its golden: --golden DIR",
        )
    return named


def shadow_judge(
    spool: Path, run_folder: Path | None, onnx: Path | None = None
) -> Callable[[Request], JudgedRequest]:
    """What judges the requests of a spool: PyTorch's captured program, and the file.

    Args:
        run_folder: of the run that made the file, for its program; by default where the file lies.
        onnx: a copy of the served file; by default the one that the service has opened. What else
            lies in the run's folder is not what was served.

    Raises:
        UserInputError: the spool is none, or the served file is not here.
        ArtifactError: the run lacks its program or its report.
    """
    from exporter.build.artifacts import Artifacts
    from exporter.build.cached_export import PROGRAM
    from exporter.flows.judge import policy_of_report
    from exporter.golden.observe import Observer
    from exporter.golden.record import GoldenRecorder
    from exporter.graph.onnx_file import open_graph
    from exporter.graph.taps import plan_taps
    from exporter.report.schema import REPORT, read_report

    served = onnx or served_file(spool)
    folder = run_folder or served.parent
    artifacts = Artifacts(folder=folder)
    if not (folder / PROGRAM).is_dir():
        raise ArtifactError(
            f"this is not the folder of a run: it lacks {PROGRAM}/",
            where=str(folder),
            remedy="name the run that made the served file: --run DIR",
        )
    policy = policy_of_report(read_report(folder / REPORT))
    graph = open_graph(served)
    taps = plan_taps(artifacts.program, graph)
    observer = Observer(served, graph, taps, Deployment(threads=1))
    recorder = GoldenRecorder(artifacts.program, taps, policy, observer)
    return lambda request: judge_request(recorder, request)


def served_file(spool: Path) -> Path:
    """The file whose requests lie in a spool.

    Raises:
        UserInputError: no monitor has written to it, or the file is not here.
    """
    service: Any = DOOR.json(spool / SERVICE)
    if not isinstance(service, dict) or not isinstance(service.get("model"), str):
        raise DOOR.bad(spool / SERVICE, "it names no file")
    try:
        served = path_of(service["model"])
    except ValueError as error:
        raise DOOR.bad(spool / SERVICE, f"'model' names no file: {error}") from error
    if not is_regular(served):
        raise UserInputError(
            "the served file is not here",
            where=str(served),
            remedy="name a copy of it with --onnx FILE, and the run that made it with --run DIR",
        )
    return served
