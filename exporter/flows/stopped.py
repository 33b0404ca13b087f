"""The report of a run that stopped: which stage, why, and what was therefore not looked at."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from exporter.build import cached_export
from exporter.config import Pipeline
from exporter.core.errors import ModelError, StageError
from exporter.core.files import write_text
from exporter.flows.prepare import Prepared
from exporter.flows.report_parts import not_checked_always, switched_off
from exporter.judge.links import CAPTURED, EAGER, EXPORTED, SIMPLIFIED, Link
from exporter.models.user_code import place_of
from exporter.parity.status import Status
from exporter.report.assemble import build_report
from exporter.report.environment import describe_environment
from exporter.report.headline import brief
from exporter.report.schema import ContractRecord, Report, StoppedRecord
from exporter.report.write import TRACE

ONNXRUNTIME = "run onnxruntime"


def stage_error(error: StageError | ModelError) -> StageError | None:
    """The failure of a stage behind an error; a user's model stops stages in its own name."""
    cause = error if isinstance(error, StageError) else error.__cause__
    return cause if isinstance(cause, StageError) else None


def stopped_report(
    ready: Prepared,
    error: StageError,
    *,
    folder: Path,
    links: Sequence[Link],
    guilty: Link,
    timings: Mapping[str, float],
    finished_run: bool = True,
) -> Report:
    """A report in which one link fails and every other check was not run.

    Writes the traceback to ``stopped.txt`` in ``folder``.

    Args:
        links: ends of all links that the command would have compared.
        guilty: the one that the stage stands for.
        timings: of the stages that had finished.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trace = write_text(folder / TRACE, _trace(error))
    pipeline, after = ready.pipeline, f"stage '{error.stage}' stopped"
    contracts = [
        ContractRecord(
            name=name, contract=name, side="both", verdict=Status.NOT_RUN.value, reason=after
        )
        for name, settings in pipeline.contracts.items()
        if settings is not False
    ]
    return build_report(
        pipeline,
        words=ready.options.words(pipeline),
        environment=describe_environment(ready.threads, ready.providers),
        links=[
            link.record(Status.FAIL, f"{after}: {brief(error.detail)}")
            if link == guilty
            else link.record(Status.NOT_RUN, after)
            for link in links
        ],
        contracts=contracts,
        not_checked=[
            f"everything behind stage '{error.stage}': nothing was compared",
            *not_checked_always(ready, seeded=False),
            *switched_off(pipeline, contracts),
        ],
        timings=dict(timings),
        finished_run=finished_run,
        stopped=StoppedRecord(
            stage=error.stage,
            detail=error.detail,
            finished=[name for name in timings if name != error.stage],
            where=place_of(error.__cause__) if error.__cause__ else "",
            trace=str(trace),
        ),
    )


def guilty_link(pipeline: Pipeline, error: StageError) -> Link:
    """The link that a stage stands for: the one whose right end it makes."""
    if error.stage in ("wrap", "capture"):
        return Link(expected=EAGER, actual=CAPTURED)
    unsimplified = error.stage == "export" or Path(error.file).name == cached_export.EXPORTED
    if unsimplified or not pipeline.export.simplify:
        return Link(expected=CAPTURED, actual=EXPORTED)
    return Link(expected=EXPORTED, actual=SIMPLIFIED)


def _trace(error: StageError) -> str:
    """The traceback, and what torch.export had traced when it stopped."""
    text = "".join(traceback.format_exception(error))
    graph = getattr(error.__cause__, "partial_fx_graph", None)
    return text if graph is None else f"{text}\ntraced so far:\n{graph}\n"
