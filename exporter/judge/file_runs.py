"""Every file of a chain on every case, as onnxruntime runs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from exporter.core.errors import OnnxStoppedError
from exporter.core.stages import Stages
from exporter.core.tensors import Arrays, Case
from exporter.execution.deployment import Deployment
from exporter.execution.memory import trim
from exporter.execution.onnx_runs import FileRun
from exporter.judge.case_run import CaseRun
from exporter.judge.own_state import OwnState
from exporter.judge.subject import Subject


class FileRuns:
    """Runs the stations of one subject, and its last file in every deployment.

    Attributes:
        stopped: station -> why onnxruntime gave nothing there, the first time.
        session: of the last file in the first deployment, with ``keep_open`` alone.
    """

    def __init__(
        self,
        subject: Subject,
        deployments: tuple[Deployment, ...],
        stages: Stages,
        *,
        keep_open: bool,
    ):
        self.stopped: dict[str, str] = {}
        self.session: FileRun | None = None
        self._subject = subject
        self._deployments = deployments
        self._stages = stages
        self._keep_open = keep_open

    def run(self, runs: list[CaseRun], own: Sequence[OwnState]) -> None:
        """Fill ``stations`` of every run; models that keep their own state go on with it."""
        first = self._deployments[0]
        plain = first.on_cpu("disable")
        files = [(s.name, s.path, plain) for s in self._subject.stations]
        files += [(d.label(), self._subject.stations[-1].path, d) for d in self._deployments]
        with self._stages.stage("run onnxruntime") as stage:
            for number, (station, path, deployment) in enumerate(files):
                stage.update(station, number, len(files))
                self._run_file(runs, own, station, path, deployment)
                trim()
            stage.result(", ".join(d.label() for d in self._deployments))

    def _run_file(
        self,
        runs: list[CaseRun],
        own: Sequence[OwnState],
        station: str,
        path: Path,
        deployment: Deployment,
    ) -> None:
        """All cases on one file; its session, as large as its weights, ends with this call unless
        it is to be kept."""
        session = FileRun(path, deployment)
        shipped = station not in {each.name for each in self._subject.stations}
        if self._keep_open and shipped and deployment == self._deployments[0]:
            self.session = session
        for run in runs:
            if shipped or not run.proved:
                run.stations[station] = self._run_one(session, station, run.case)
        if shipped:
            for each in own:
                each.run_file(station, session.run)

    def _run_one(self, session: FileRun, station: str, case: Case) -> Arrays:
        """Outputs of one run; none of them, with onnxruntime's words kept, when it stops."""
        try:
            return session.run(case.inputs)
        except OnnxStoppedError as error:
            self.stopped.setdefault(station, f"onnxruntime stopped on '{case.name}': {error}")
            return {}
