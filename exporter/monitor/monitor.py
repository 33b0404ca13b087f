"""What watches a service from inside its process; the served request pays for a copy and no more.

    SpeechRunner.run ── served ──> a queue of bounded size ──> one thread: signals, drift, spool
    attach ──> another thread: replays at the start and on a schedule
    Prometheus ──> http port ──> metrics

Whatever goes wrong in here is counted and never reaches the request.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from prometheus_client import start_http_server

from exporter.core.errors import ExportVerifyError, UserInputError
from exporter.core.files import write_text
from exporter.core.tensors import Arrays
from exporter.execution.deployment import Deployment
from exporter.execution.ort_session import ORT_VERSION
from exporter.graph.segment_split import WAVEFORM
from exporter.monitor.drift import FALSE_ALARMS, Drift, plan_tests
from exporter.monitor.log import RequestLog
from exporter.monitor.metrics import DriftMetrics, Metrics, SpoolMetrics
from exporter.monitor.pace import Pace
from exporter.monitor.recorded import read_recorded
from exporter.monitor.replay import Replayed, replay
from exporter.monitor.signals import SIGNALS, signals_of
from exporter.monitor.spool import MOST_BYTES, SERVICE, Spool, SpoolFullError
from exporter.monitor.waiting import Served, WaitingRequests

DAY_S = 24 * 3600.0
LOG_EVERY = 20
"""Recordings from one row of a log to the next, where no alarm comes or goes."""
_LOGGER = logging.getLogger("exporter.monitor")


class Service(Protocol):
    """What is watched: ``SpeechRunner``, or whatever serves a file in the same way."""

    path: Path
    sample_rate_hz: int
    deployment: Deployment

    @property
    def provider(self) -> str:
        """The provider that its sessions have."""
        ...

    def run_arrays(self, feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Outputs by name, without telling the monitor."""
        ...


class Monitor:
    """Watches one service.

    Args:
        golden: folder of the golden, beside which 'monitor record' has put what is replayed.
        port: of an HTTP server for Prometheus; 0 takes a free one, None starts none (the registry
            is ``metrics.registry``).
        address: that it listens on; only this machine by default.
        replay_every_s: seconds from one replay to the next; 0 for the one at the start only.
        log: a file for JSON lines, read by 'monitor report'; bounded, see ``RequestLog``.
        spool: a folder for requests that 'monitor shadow' judges, their audio included; without
            it no audio leaves the process.
        shadow_per_hour: how many requests go there. spool_bytes: what may wait there.
        signals_per_minute: of how many recordings signals are taken at most; bounds the cost.
        false_alarms: probability of any drift alarm in the service's life while its input is that
            of the reference.

    Raises:
        GoldenError: the golden, or what lies beside it, cannot be used.
        UserInputError: a number makes no sense.
    """

    def __init__(
        self,
        golden: str | Path,
        *,
        port: int | None = None,
        address: str = "127.0.0.1",
        replay_every_s: float = DAY_S,
        log: str | Path | None = None,
        spool: str | Path | None = None,
        shadow_per_hour: float = 20.0,
        spool_bytes: int = MOST_BYTES,
        signals_per_minute: float = 60.0,
        false_alarms: float = FALSE_ALARMS,
    ) -> None:
        given = {
            "replay_every_s": replay_every_s,
            "shadow_per_hour": shadow_per_hour,
            "signals_per_minute": signals_per_minute,
        }
        for name, value in given.items():
            if not 0 <= value < math.inf:
                raise UserInputError(f"{name} is {value}", remedy="give a number, 0 or more")
        self.recorded = read_recorded(golden)
        self.metrics = Metrics()
        tests = plan_tests(self.recorded.reference, SIGNALS, false_alarms)
        self._drift = Drift(tests, false_alarms) if tests else None
        self._spool = Spool(Path(spool), most_bytes=spool_bytes) if spool is not None else None
        self._for_signals = Pace(signals_per_minute / 60 if self._drift else 0.0)
        self._for_shadow = Pace(shadow_per_hour / 3600 if self._spool else 0.0)
        self._waiting = WaitingRequests()
        self._alarms: tuple[str, ...] = ()
        if self._drift is not None:
            self.metrics.add(DriftMetrics(self._drift))
        if self._spool is not None:
            self.metrics.add(SpoolMetrics(self._spool))
        self.last: Replayed | None = None
        self._every_s = replay_every_s
        self._log = RequestLog(Path(log)) if log is not None else None
        self._service: Service | None = None
        self._ended = threading.Event()
        self._replayed = threading.Event()
        self._threads: list[threading.Thread] = []
        self._address, self._wanted_port = address, port
        self._server: Any = None

    @property
    def port(self) -> int | None:
        """The port that Prometheus asks; None where there is no server."""
        return None if self._server is None else self._server.server_port

    def attach(self, service: Service) -> None:
        """Begin to watch; the first replay begins at once, beside the requests.

        Raises:
            UserInputError: it watches another service, or the port is taken.
        """
        if self._service is not None:
            raise UserInputError("this monitor has a runner", remedy="make a Monitor for each")
        self._service = service
        self.metrics.served_by(
            service.path.name,
            self.recorded.golden.pipeline,
            self.recorded.golden.digest,
            service.provider,
            ORT_VERSION,
        )
        if self._wanted_port is not None:
            self._serve()
        if self._spool is not None:
            served = {"model": str(service.path.absolute())}
            write_text(self._spool.folder / SERVICE, json.dumps(served))
        self._start(self._replay_loop, "replay", service)
        if self._drift is not None or self._spool is not None:
            self._start(self._watch_loop, "watch", service)

    def served(self, feeds: Arrays, outputs_served: Arrays) -> None:
        """Take note of a request; called by the service, never raises, never waits."""
        self.metrics.requests.inc()
        wanted = self._for_signals.due(), self._for_shadow.due()
        if any(wanted) and not self._waiting.put(feeds, outputs_served, wanted):
            self.metrics.dropped("queue_full")

    def drain(self, timeout_s: float) -> bool:
        """Wait until every request that was taken note of is dealt with; False if it is not."""
        return self._waiting.drain(timeout_s)

    def wait(self, timeout_s: float | None = None) -> Replayed | None:
        """Wait for the first replay, for whoever serves nothing before it; None if it failed."""
        self._replayed.wait(timeout_s)
        return self.last

    def close(self) -> None:
        """End the threads and the server; the service may go on."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _serve(self) -> None:
        try:
            self._server, _ = start_http_server(
                self._wanted_port or 0, addr=self._address, registry=self.metrics.registry
            )
        except OSError as error:
            raise UserInputError(
                f"port {self._wanted_port} on {self._address}: {error.strerror}",
                remedy="give a free port, or None and serve metrics.registry yourself",
            ) from error

    def _start(self, target: Callable[[Service], None], name: str, service: Service) -> None:
        thread = threading.Thread(
            target=target, args=(service,), name=f"export-verify-{name}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def _watch_loop(self, service: Service) -> None:
        while not self._ended.is_set():
            item = self._waiting.get(0.2)
            if item is None:
                continue
            for_signals, for_shadow = item.wanted
            if for_signals:
                self._take_signals(item, service.sample_rate_hz)
            if for_shadow:
                self._keep(item)

    def _take_signals(self, item: Served, sample_rate_hz: int) -> None:
        drift = self._drift
        if drift is None:
            return
        try:
            drift.add(signals_of(item.inputs[WAVEFORM], sample_rate_hz, item.outputs))
        except Exception as error:  # noqa: BLE001 - a monitor must not end its service
            _LOGGER.warning("the signals of a recording: %s", error)
            self.metrics.failed("signals")
            return
        alarms = drift.alarms
        if alarms != self._alarms or drift.count % LOG_EVERY == 0:
            rounded = {name: float(f"{value:.4g}") for name, value in drift.evalues.items()}
            self._note(
                {
                    "kind": "drift",
                    "recordings": drift.count,
                    "alarms": list(alarms),
                    "threshold": drift.threshold,
                    "evalues": rounded,
                    "beyond": drift.shares,
                }
            )
        self._alarms = alarms

    def _keep(self, item: Served) -> None:
        if self._spool is None:
            return
        try:
            self._spool.add(item.inputs, item.outputs)
        except SpoolFullError:
            self.metrics.dropped("spool_full")
        except Exception as error:  # noqa: BLE001 - a monitor must not end its service
            _LOGGER.warning("a request cannot be kept: %s", error)
            self.metrics.dropped("spool_failed")

    def _replay_loop(self, service: Service) -> None:
        # Also the only replay of a monitor that makes one at its start has to end at some time.
        self.metrics.replay_due(time.time() + 2 * (self._every_s or DAY_S))
        while True:
            self._replay(service)
            self.metrics.replay_due(time.time() + 2 * (self._every_s or math.inf))
            self._replayed.set()
            if self._ended.wait(self._every_s or None):
                return

    def _replay(self, service: Service) -> None:
        try:
            replayed_run = replay(
                self.recorded,
                service.path,
                service.deployment,
                provider=service.provider,
                outputs_of=service.run_arrays,
            )
        except Exception as error:  # noqa: BLE001 - a monitor must not end its service
            _LOGGER.warning("the replay stopped: %s", error)
            self.last = None
            self.metrics.failed("replay")
            self.metrics.replay_ended("not_run", 1, time.time())
            self._note({"kind": "replay", "state": "not_run", "reason": str(error)})
            return
        self.last = replayed_run
        self.metrics.replayed(replayed_run, time.time())
        self._note({"kind": "replay", **replay_row(replayed_run)})

    def _note(self, row: Mapping[str, object]) -> None:
        if self._log is not None:
            try:
                self._log.add(row)
            except (OSError, ValueError, ExportVerifyError) as error:
                _LOGGER.warning("the log cannot be written: %s", error)
                self.metrics.failed("log")


def replay_row(replayed_run: Replayed) -> dict[str, Any]:
    """A replay as a row of a log."""
    first = next((case.first for case in replayed_run.outcome.cases if case.first), None)
    return {
        "state": replayed_run.outcome.state.value.replace(" ", "_"),
        "exit_code": replayed_run.exit_code,
        "strain": replayed_run.strain,
        "seal": replayed_run.seal.text,
        "seal_intact": replayed_run.seal.intact,
        "seal_changes": list(replayed_run.seal.changes),
        "provider": replayed_run.provider,
        "onnxruntime": replayed_run.runtime,
        "first_layer": None if first is None else first.module or first.tap,
        "reason": "" if first is None else first.reason,
        "cases": {case.case: case.state.value for case in replayed_run.outcome.cases},
    }
