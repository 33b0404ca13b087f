"""Dask: who runs jobs, on which worker, again when a worker is lost, never for a verdict."""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import dask.config
import psutil
from distributed import Client, Future, KilledWorker, LocalCluster, as_completed

from exporter.core.errors import UserInputError
from exporter.execution.providers import present_providers
from exporter.matrix import work
from exporter.matrix.jobs import CellJob, VariantJob, code_digest
from exporter.matrix.verdict import Verdict, not_run
from exporter.matrix.work import Place
from exporter.report.environment import cpu_flags, usable_cores

LOST_TIMES = 3
"""How often a cell is run again because its worker was lost."""
_GIB = 1 << 30
_MANY = 1 << 20


class Asked(Protocol):
    """Told as cells end."""

    def __call__(self, done: int, total: int, remaining_s: float | None) -> None: ...


class SchedulerLostError(UserInputError):
    """The scheduler has ended, or cannot be reached any more."""


class Engine:
    """A cluster that runs jobs; a context manager.

    Args:
        address: of a scheduler; None: a cluster of this machine's own.
        workers: of the own cluster; None: as many as cores and memory allow.
        memory_gib: what one cell takes at most.
        processes: False runs the own cluster's workers in this process, for tests.

    Raises:
        UserInputError: the scheduler cannot be reached.
    """

    def __init__(
        self,
        place: Path,
        environments: Path,
        *,
        address: str | None = None,
        workers: int | None = None,
        memory_gib: float = 2.0,
        timeout_s: float = 1800.0,
        processes: bool = True,
    ) -> None:
        self.place = Place(
            folder=place,
            environments=environments,
            run=uuid.uuid4().hex[:8],
            code=code_digest(),
            timeout_s=timeout_s,
        )
        self._address = address
        self._workers = workers or workers_of(memory_gib)
        self._processes = processes
        self._stack = contextlib.ExitStack()
        self._files: dict[str, Future] = {}

    def __enter__(self) -> Engine:
        _be_quiet()
        self._stack.enter_context(
            dask.config.set(
                {
                    "distributed.scheduler.allowed-failures": LOST_TIMES,
                    "distributed.worker.daemon": False,
                    "distributed.comm.timeouts.connect": "10s",
                }
            )
        )
        try:
            self._client = self._stack.enter_context(self._connected())
        except (OSError, TimeoutError, ValueError) as error:
            self._stack.close()
            raise UserInputError(
                f"--scheduler: nobody answers at {self._address}",
                remedy="start one: dask scheduler; and workers: dask worker tcp://HOST:8786",
            ) from error
        return self

    def _connected(self) -> Client:
        if self._address is not None:
            return Client(self._address, timeout="10s", set_as_default=False)
        cluster = self._stack.enter_context(
            LocalCluster(
                n_workers=self._workers,
                threads_per_worker=1,
                processes=self._processes,
                resources=local_resources(),
                protocol="tcp://",
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                memory_limit=0,  # cells are processes of their own; see memory_gib
                silence_logs=logging.CRITICAL,
            )
        )
        return Client(cluster, set_as_default=False)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def dashboard(self) -> str:
        """Where the cluster shows itself."""
        return str(self._client.dashboard_link)

    def offers(self) -> dict[str, float]:
        """The most that any one worker has, by resource."""
        found: dict[str, float] = {}
        for worker in self._client.scheduler_info(n_workers=-1)["workers"].values():
            for name, amount in worker.get("resources", {}).items():
                found[name] = max(found.get(name, 0.0), amount)
        return found

    def ask(
        self,
        jobs: Sequence[tuple[VariantJob, CellJob, Mapping[str, int]]],
        told: Asked = lambda done, total, remaining_s: None,
    ) -> Iterator[tuple[CellJob, Verdict]]:
        """Run jobs, and yield each with its verdict as it ends.

        Raises:
            SchedulerLostError: the scheduler went away; what has ended is kept.
        """
        offers, futures = self.offers(), {}
        for variant, job, needs in jobs:
            lacking = [name for name, count in needs.items() if offers.get(name, 0) < count]
            if lacking:
                yield job, not_run(f"no worker has {', '.join(lacking)}")
                continue
            futures[self._submitted(variant, job, needs)] = job
        began, total = time.monotonic(), len(futures)
        told(0, total, None)
        for done, future in enumerate(self._ended(futures), start=1):
            yield futures[future], self._verdict(future)
            future.release()
            each = (time.monotonic() - began) / done
            told(done, total, each * (total - done))

    def _submitted(self, variant: VariantJob, job: CellJob, needs: Mapping[str, int]) -> Future:
        made = self._files.get(variant.name)
        if made is None:
            key = f"file-{self.place.run}-{variant.name}"
            made = self._client.submit(work.make, self.place, variant, key=key, pure=False)
            self._files[variant.name] = made
        return self._client.submit(
            work.judge,
            self.place,
            job,
            made,
            key=f"cell-{uuid.uuid4().hex}",
            resources=dict(needs) or None,
            retries=0,
            pure=False,
        )

    def _ended(self, futures: Mapping[Future, CellJob]) -> Iterator[Future]:
        """Futures as they end; a scheduler that is silent ends all of them."""
        waiting = as_completed(list(futures), loop=self._client.loop)
        left = len(futures)
        while left:
            if self._client.status != "running":
                raise self._lost()
            try:
                future = next(waiting)
            except Exception as error:
                raise self._lost() from error
            if future.status in ("cancelled", "lost", "pending"):
                raise self._lost()
            left -= 1
            yield future

    def _lost(self) -> SchedulerLostError:
        return SchedulerLostError(
            f"the scheduler{f' at {self._address}' if self._address else ''} has gone",
            remedy="start it, and this command, once more: cells that are known are not run again",
        )

    def _verdict(self, future: Future) -> Verdict:
        if future.status == "finished":
            return future.result()
        error: Any = future.exception()
        if isinstance(error, KilledWorker):
            return not_run(f"its worker was lost {LOST_TIMES + 1} times")
        if isinstance(error, UserInputError):
            return not_run(error.problem)
        return not_run(f"its worker stopped: {type(error).__name__}: {error}")


def _be_quiet() -> None:
    """What Dask says of workers and schedulers that go is said by verdicts, in our words."""
    for name in ("distributed", *logging.Logger.manager.loggerDict):
        if name.split(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)


def workers_of(memory_gib: float) -> int:
    """Workers for this machine: no more than cores, and than cells fit into free memory."""
    fit = int(psutil.virtual_memory().available / (memory_gib * _GIB))
    return max(1, min(usable_cores(), fit))


def local_resources() -> dict[str, int]:
    """What each worker of this machine has: its SIMD extensions, its devices but for the CPU."""
    devices = {name: 1 for name in present_providers() if name != "cpu"}
    return {**dict.fromkeys(cpu_flags(), _MANY), **devices}
