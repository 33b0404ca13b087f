"""What watches a service from inside its process; the served request pays for a copy and no more.

    SpeechRunner.run ── served ──> a queue of bounded size ──> one thread: signals, drift, spool
    attach ──> another thread: replays at the start and on a schedule
    Prometheus ──> http port ──> metrics

Whatever goes wrong in here is counted and never reaches the request.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from prometheus_client import start_http_server

from exporter.core.errors import UserInputError
from exporter.core.tensors import Arrays
from exporter.execution.deployment import Deployment
from exporter.execution.ort_session import ORT_VERSION
from exporter.monitor.log import Log
from exporter.monitor.metrics import Metrics
from exporter.monitor.recorded import read_recorded
from exporter.monitor.replay import Replayed, replay

DAY_S = 24 * 3600.0
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
        log: a file for JSON lines, read by 'monitor report'; bounded, see ``Log``.

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
    ) -> None:
        if not replay_every_s >= 0:
            raise UserInputError(
                f"replay_every_s is {replay_every_s}", remedy="give seconds, 0 or more"
            )
        self.recorded = read_recorded(golden)
        self.metrics = Metrics()
        self.last: Replayed | None = None
        self._every_s = replay_every_s
        self._log = Log(Path(log)) if log is not None else None
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
        self._start(self._replay_loop, "replay", service)

    def served(self, feeds: Arrays, found: Arrays) -> None:
        """Take note of a request; called by the service, never raises, never waits."""
        self.metrics.requests.inc()

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

    def _replay_loop(self, service: Service) -> None:
        while True:
            self._replay(service)
            self._replayed.set()
            if self._ended.wait(self._every_s or None):
                return

    def _replay(self, service: Service) -> None:
        try:
            found = replay(
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
        self.last = found
        self.metrics.replayed(found, time.time())
        self._note({"kind": "replay", **replay_row(found)})

    def _note(self, row: Mapping[str, object]) -> None:
        if self._log is not None:
            try:
                self._log.add(row)
            except OSError as error:
                _LOGGER.warning("the log cannot be written: %s", error)
                self.metrics.failed("log")


def replay_row(found: Replayed) -> dict[str, Any]:
    """A replay as a row of a log."""
    first = next((case.first for case in found.outcome.cases if case.first), None)
    return {
        "state": found.outcome.state.value.replace(" ", "_"),
        "exit_code": found.exit_code,
        "strain": found.strain,
        "seal": found.seal.text,
        "seal_intact": found.seal.intact,
        "seal_changes": list(found.seal.changes),
        "provider": found.provider,
        "onnxruntime": found.runtime,
        "first_layer": None if first is None else first.module or first.tap,
        "reason": "" if first is None else first.reason,
        "cases": {case.case: case.state.value for case in found.outcome.cases},
    }
