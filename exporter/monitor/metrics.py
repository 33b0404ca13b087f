"""What Prometheus is told: names, units and bounded labels in one place.

Nothing here decides. A label takes one of a fixed set of words: states, reasons, signals, parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from exporter import __version__
from exporter.core.errors import UserInputError
from exporter.golden.outcome import ORDER
from exporter.monitor.drift import Drift
from exporter.monitor.replay import Replayed
from exporter.monitor.shadow import NOT_RUN, read_state
from exporter.monitor.shadow import STATES as SHADOW_STATES
from exporter.monitor.spool import Spool, waiting

PREFIX = "export_verify"
STATES = tuple(state.value.replace(" ", "_") for state in ORDER)
"""States of a replay as label values."""
DROPS = ("queue_full", "spool_full", "spool_failed")
PARTS = ("replay", "signals", "spool", "log")


class Metrics:
    """All metrics of one monitor, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._build = Info(
            f"{PREFIX}_build", "What is served, and on what.", registry=self.registry
        )
        self._seal = self._gauge(
            "seal_intact", "1 while the file is as it was certified; NaN: not known."
        )
        self._replay_state = self._gauge("replay_state", "1 at the last replay's state.", "state")
        self._replay_at = self._gauge("replay_timestamp_seconds", "When the last replay ended.")
        self._replay_due = self._gauge(
            "replay_due_timestamp_seconds",
            "When another replay must have ended at the latest; +Inf: none is to come.",
        )
        self._replay_exit = self._gauge("replay_exit_code", "What 'monitor replay' would return.")
        self._ratio = self._gauge("limit_ratio", "Largest error over its limit.", "source")
        self.requests = self._counter("requests", "Requests that were served.")
        # 0 would say "broken" of a seal, and "passed" of a replay, that nobody has looked at yet.
        self._seal.set(math.nan)
        self._replay_exit.set(math.nan)
        self._dropped = self._counter("shadow_dropped", "Recordings not looked at.", "reason")
        self._errors = self._counter("monitor_errors", "Failures of the monitor itself.", "part")
        for reason in DROPS:
            self._dropped.labels(reason)
        for part in PARTS:
            self._errors.labels(part)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def dropped(self, reason: str) -> None:
        """Count a recording that is not looked at."""
        self._dropped.labels(reason).inc()

    def failed(self, part: str) -> None:
        """Count a failure of the monitor; the request was served all the same."""
        self._errors.labels(part).inc()

    def served_by(self, file: str, pipeline: str, golden: str, provider: str, runtime: str) -> None:
        """Say what is served before anything was judged."""
        self._facts = {
            "version": __version__,
            "pipeline": pipeline,
            "golden": golden[:12],
            "provider": provider,
            "onnxruntime": runtime,
            "file": file,
        }
        self._build.info({**self._facts, "seal": ""})

    def replayed(self, replayed_run: Replayed, at: float) -> None:
        """Publish a replay that ended at ``at`` (seconds since 1970)."""
        self._build.info({**self._facts, "seal": replayed_run.seal.text[:12]})
        self._seal.set(replayed_run.seal.intact)
        self.replay_ended(
            replayed_run.outcome.state.value.replace(" ", "_"), replayed_run.exit_code, at
        )
        if replayed_run.strain is not None:
            self._ratio.labels("replay").set(replayed_run.strain)

    def replay_ended(self, state: str, code: int, at: float) -> None:
        """Publish how a replay ended, also one that could not be run."""
        for name in (*STATES, NOT_RUN):
            self._replay_state.labels(name).set(name == state)
        self._replay_exit.set(code)
        if state == NOT_RUN:
            self._seal.set(math.nan)
        self._replay_at.set(at)

    def replay_due(self, at: float) -> None:
        """Say until when another replay must have ended; ``math.inf`` for none."""
        self._replay_due.set(at)

    def add(self, collector: Collector) -> None:
        """Publish what is computed when Prometheus asks."""
        self.registry.register(collector)


class DriftMetrics(Collector):
    """The evidence, read whenever Prometheus asks: a recording does not pay for it.

    All signals are there from the start: what is absent can raise no alert.
    """

    def __init__(self, drift: Drift) -> None:
        self._drift = drift

    def collect(self) -> Iterator[Metric]:
        """One metric after the other, of one moment."""
        drift = self._drift
        evalues, shares = drift.evalues, drift.shares
        yield CounterMetricFamily(
            f"{PREFIX}_drift_recordings", "Recordings whose signals were taken.", value=drift.count
        )
        yield _by_signal("evalue", "Evidence that a signal has moved.", evalues)
        alarms = {name: float(value >= drift.threshold) for name, value in evalues.items()}
        yield _by_signal("alarm", "1 while that evidence is enough.", alarms)
        beyond = {name: shares.get(name, 0.0) for name in evalues}
        yield _by_signal(
            "beyond_ratio", "Share of the last recordings beyond the reference.", beyond
        )
        yield _gauge("drift_evalue_threshold", "From here on it is enough.", drift.threshold)


class SpoolMetrics(Collector):
    """A spool and its worker, read from the folder whenever Prometheus asks."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def collect(self) -> Iterator[Metric]:
        """One metric after the other; what no worker has said yet is absent or 0."""
        try:
            files, bytes_waiting = waiting(self._spool.folder)
        except OSError:  # it was taken away: no reason to lose all other metrics
            files, bytes_waiting = math.nan, math.nan
        yield _gauge("spool_files", "Requests that wait for the worker.", files)
        yield _gauge("spool_bytes", "What they take.", bytes_waiting)
        yield _gauge("spool_limit_bytes", "What they may take.", self._spool.most_bytes)
        try:
            state = read_state(self._spool.folder) or {}
        except UserInputError:
            state = {}
        counts = state.get("counts", {})
        judged = CounterMetricFamily(
            f"{PREFIX}_shadow_requests", "Requests that were judged.", labels=["state"]
        )
        for name in SHADOW_STATES:
            judged.add_metric([name], counts.get(name, 0))
        yield judged
        yield _gauge(
            "shadow_worker_seen_timestamp_seconds",
            "When the worker was last there; 0 for never.",
            state.get("seen", 0.0),
        )


def _by_signal(name: str, text: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{PREFIX}_drift_{name}", text, labels=["signal"])
    for signal, value in values.items():
        family.add_metric([signal], value)
    return family


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)
