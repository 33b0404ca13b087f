"""Walks of the layers of a chain: the last file's, an earlier one's, a device's."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.core.stages import Stages, Station
from exporter.core.stopwatch import FILES, METRICS, RUNNING, spent, timed
from exporter.core.tensors import COMPARED, Case
from exporter.execution.deployment import Deployment
from exporter.graph.index import GraphIndex
from exporter.graph.onnx_file import open_graph
from exporter.graph.taps import count_fates
from exporter.judge.devices import policy_on
from exporter.judge.guilty_stage import asks_for_stage, culprit_records, module_of, to_blame
from exporter.judge.layer_results import LayerLink
from exporter.judge.layers import judge_subject
from exporter.judge.links import layers_to
from exporter.judge.report_records import layer_link
from exporter.judge.subject import Subject
from exporter.parity.status import Status
from exporter.parity.tolerance import Policy
from exporter.report.comparison import CulpritRecord, LinkRecord


class LayerWalks:
    """Walks the files of one subject.

    Args:
        policy, budget: as for ``judge_subject``. deployment: on its CPU the layers are run, unless
            a device is asked for.
    """

    def __init__(
        self,
        subject: Subject,
        policy: Policy,
        deployment: Deployment,
        budget: int,
        stages: Stages,
    ):
        self._subject = subject
        self._policy = policy
        self._deployment = deployment
        self._budget = budget
        self._stages = stages
        self._graphs: dict[str, GraphIndex] = {}

    @property
    def _last(self) -> Station:
        return self._subject.stations[-1]

    def graph(self, station: Station) -> GraphIndex:
        """The graph of a file, opened once while it is the only one asked for."""
        if station.name not in self._graphs:
            # One graph at a time: at full size each holds a gigabyte of weights.
            self._graphs.clear()
            with timed(FILES):
                self._graphs[station.name] = open_graph(station.path)
        return self._graphs[station.name]

    def take_graph(self) -> GraphIndex | None:
        """Hand over the last file's graph, if it is open."""
        return self._graphs.pop(self._last.name, None)

    def walk(
        self, station: Station, cases: Sequence[Case], deployment: Deployment | None = None
    ) -> LayerLink:
        """All layers of one file."""
        link = judge_subject(
            self._subject,
            self.graph(station),
            cases,
            policy=policy_on(self._policy, deployment),
            deployment=deployment or self._deployment.on_cpu(),
            budget=self._budget,
            progress=self._stages.phase,
        )
        clock = link.clock.seconds
        spent(RUNNING, clock.get("torch float32", 0.0) + clock.get("torch float64", 0.0))
        spent(METRICS, clock.get("metrics", 0.0))
        return link

    def judge(
        self,
        cases: Sequence[Case],
        min_coverage: float | None,
        deployment: Deployment | None = None,
    ) -> tuple[LayerLink, LinkRecord, Status]:
        """The link of the last file's layers, as a stage of the run."""
        where = deployment.label() if deployment is not None else self._last.name
        with self._stages.stage(f"layers on {where}" if deployment else "layers") as stage:
            layers = self.walk(self._last, cases, deployment)
            fates = count_fates(tap.planned for tap in layers.taps)
            stage.result(f"{fates[COMPARED]} taps compared on {len(cases)} case(s)")
        record, status = layer_link(layers, layers_to(where), min_coverage)
        return layers, record, status

    def on_device(
        self, deployment: Deployment, cases: Sequence[Case], known: list[CulpritRecord]
    ) -> tuple[LinkRecord, Status, list[CulpritRecord]]:
        """Layers on a device; one that the CPU has wrong as well is not the device's."""
        layers, record, status = self.judge(cases, None, deployment)
        names = {culprit.layer for culprit in known}
        others = [c for c in layers.culprits if module_of(c) not in names]
        link, stage = record.name, deployment.label()
        return record, status, culprit_records(others, link=link, stage=stage, on_device=True)

    def culprits(
        self, layers: LayerLink, cases: Sequence[Case], failed: bool
    ) -> list[CulpritRecord]:
        """Culprits of the last file; a layer that an earlier file has wrong is that stage's."""
        blamed = to_blame(layers, failed=failed)
        earlier = {}
        for station in self._subject.stations[:-1] if asks_for_stage(blamed) else ():
            with self._stages.stage(f"layers of {station.name}"):
                earlier[station.stage] = self.walk(station, cases)
        link = layers_to(self._last.name)
        return culprit_records(blamed, link=link.name, stage=self._last.stage, earlier=earlier)
