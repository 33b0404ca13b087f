"""What the commands of ``monitor`` do, from a pipeline or a file to what is shown. No PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from exporter.build.metadata import PIPELINE
from exporter.cases.load import load_cases
from exporter.config import Pipeline
from exporter.core.errors import ArtifactError
from exporter.execution.deployment import PROVIDERS, Deployment
from exporter.execution.providers import check_provider
from exporter.golden.check import asked_of
from exporter.golden.store import read_golden
from exporter.graph.contents import metadata_entries
from exporter.monitor.recorded import MOST_CASES, read_recorded, write_recorded
from exporter.monitor.replay import Replayed
from exporter.monitor.replay import replay as replay_recorded


def record(pipeline: Pipeline, folder: Path, cases: Sequence[str] | None) -> tuple[str, ...]:
    """Keep the inputs of some cases beside the golden in ``folder``; returns their names.

    Raises:
        GoldenError: there is no golden, or its cases had other inputs.
    """
    golden = read_golden(folder)
    names = tuple(cases or [case.name for case in golden.cases])[:MOST_CASES]
    loaded = load_cases(pipeline, golden.inputs, names)
    write_recorded(folder, golden, asked_of(pipeline), loaded, {})
    return names


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
