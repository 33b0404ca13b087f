"""What runs in a cell's own environment: ``cell.json`` in, ``verdict.json`` out. No PyTorch.

Whoever started it reads ``READY`` on standard output once everything is imported: what ends before
that is the environment's fault, what ends after it the file's.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

READY = "ready"


def main(folder: str, parent: int) -> None:
    """Judge one cell, whose files lie in ``folder``."""
    from exporter.core.children import end_with_parent, guard
    from exporter.execution.trial import no_core_dump
    from exporter.golden.check import check_golden  # noqa: F401 - imported before it is timed
    from exporter.matrix.verdict import CELL, VERDICT, written

    no_core_dump()
    end_with_parent(parent)
    guard()
    place = Path(folder)
    said = json.loads((place / CELL).read_text(encoding="utf-8"))
    print(READY, flush=True)  # noqa: T201 - read by whoever started this process
    written(_judged(said, place), place / VERDICT)


def _judged(said: dict[str, Any], place: Path) -> Any:
    from exporter.core.errors import ArtifactError, UserInputError
    from exporter.matrix.verdict import CellVerdict, not_run
    from exporter.parity.status import Status

    began = time.perf_counter()
    try:
        return _checked(said, place, began)
    except ArtifactError as error:
        # The file is whole, as PyTorch's side has checked: this runtime does not take it.
        reason = f"the file cannot be used here: {error.problem}"
        seconds = time.perf_counter() - began
        return CellVerdict(status=Status.FAIL, state="refused", reason=reason, seconds=seconds)
    except UserInputError as error:
        return not_run(error.problem, seconds=time.perf_counter() - began)
    except (OSError, MemoryError) as error:  # of this machine, which says nothing of the file
        return not_run(f"{type(error).__name__}: {error}", seconds=time.perf_counter() - began)


def _checked(said: dict[str, Any], place: Path, began: float) -> Any:
    from exporter.config.load import load_pipeline
    from exporter.config.run_options import RunOptions
    from exporter.core.errors import EXIT_PASS, MissingPackageError
    from exporter.execution.deployment import Deployment
    from exporter.flows.golden_report import golden_report
    from exporter.golden.check import check_golden
    from exporter.golden.outcome import ORDER, status_of
    from exporter.matrix.verdict import REPORT_FOLDER, CaseVerdict, CellVerdict, FirstLayer
    from exporter.parity.status import Status
    from exporter.report.environment import describe_environment
    from exporter.report.golden_check import golden_headline, layer_name
    from exporter.report.write import write_reports

    pipeline = load_pipeline(said["yaml"])
    deployment = Deployment(
        provider=said["provider"],
        level=said["level"],
        threads=said["threads"],
        tf32=said["tf32"],
        settings=tuple((key, str(value)) for key, value in sorted(said["options"].items())),
    )
    outcome = check_golden(
        pipeline,
        Path(said["golden"]),
        Path(said["onnx"]),
        cases=said["cases"],
        deployment=deployment,
    )
    seconds = time.perf_counter() - began
    options = RunOptions(threads=said["threads"], provider=said["provider"])
    with contextlib.suppress(MissingPackageError):  # the page's libraries; its JSON is there
        write_reports(golden_report(pipeline, outcome, options), place / REPORT_FOLDER)
    cases = tuple(
        CaseVerdict(
            name=case.case,
            state=case.state.value,
            strain=case.strain,
            at=case.strain_at or "",
            reason=case.reason,
            first=None
            if case.first is None
            else FirstLayer(
                module=layer_name(case.first),
                op=case.first.op,
                source=case.first.source,
                reason=case.first.reason,
            ),
        )
        for case in outcome.cases
    )
    worst = max(outcome.cases, key=lambda case: ORDER.index(case.state), default=None)
    at = None if worst is None else outcome.cases.index(worst)
    strains = [case.strain for case in cases if case.strain is not None]
    record = describe_environment(deployment.threads, (deployment.provider,))
    passes = outcome.exit_code == EXIT_PASS
    state = outcome.state if outcome.numbers is None else outcome.numbers
    return CellVerdict(
        status=Status.PASS if passes else status_of(outcome.state),
        state=state.value,
        reason=golden_headline(outcome),
        first=None if at is None else cases[at].first,
        strain=max(strains, default=None),
        cases=cases,
        packages=dict(record.versions),
        machine=f"{record.platform}, {' '.join(record.cpu_flags)}",
        seconds=seconds,
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else os.getppid())
