"""Dask: who runs jobs, on which worker, again when a worker is lost, never for a verdict."""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from exporter.matrix.verdict import CellVerdict, not_run
from exporter.matrix.work import Workspace
from exporter.report.environment import cpu_flags, usable_cores

LOST_TIMES = 3
"""How often a cell is run again because its worker was lost."""
PATIENCE_S = 120.0
"""How long cells wait while no worker is there that could take them."""
_LOOK_S, _TAKE_S, _START_S = 0.05, 10.0, 30.0
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
        patience_s: how long cells wait for a worker that could take them.

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
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.place = Workspace(
            folder=place,
            environments=environments,
            run=uuid.uuid4().hex[:8],
            code=code_digest(),
            timeout_s=timeout_s,
        )
        self._address = address
        self._workers = workers or workers_of(memory_gib)
        self._processes, self._patience_s = processes, patience_s
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
        simd, devices = local_resources()
        cluster: Any = self._stack.enter_context(
            LocalCluster(
                n_workers=1 if devices else self._workers,
                threads_per_worker=1,
                processes=self._processes,
                resources={**simd, **devices},
                protocol="tcp://",
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                memory_limit=0,  # cells are processes of their own; see memory_gib
                silence_logs=logging.CRITICAL,
            )
        )
        if devices:
            # One worker has them: cells that need the whole of a device do not share it.
            options = {**cluster.new_spec["options"], "resources": simd}
            cluster.new_spec = {**cluster.new_spec, "options": options}
            cluster.scale(self._workers)
            with contextlib.suppress(TimeoutError):  # they may be slow to come
                cluster.wait_for_workers(self._workers, timeout=_START_S)
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

    def offers(self) -> list[Mapping[str, float]]:
        """What each worker has, by resource."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return [worker.get("resources", {}) for worker in workers]

    def ask(
        self,
        jobs: Sequence[tuple[VariantJob, CellJob, Mapping[str, int]]],
        told: Asked = lambda done, total, remaining_s: None,
    ) -> Iterator[tuple[CellJob, CellVerdict]]:
        """Run jobs, and yield each with its verdict as it ends.

        Raises:
            SchedulerLostError: the scheduler went away; what has ended is kept.
        """
        offers, futures = self.offers(), {}
        for variant, job, needs in jobs:
            if offers and not _can(offers, needs):
                yield job, not_run(lacking(offers, needs))
                continue
            futures[self._submitted(variant, job, needs)] = (job, needs)
        began, total = time.monotonic(), len(futures)
        told(0, total, None)
        for done, (future, verdict) in enumerate(self._ended(futures), start=1):
            yield futures[future][0], verdict
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

    def _ended(
        self, futures: Mapping[Future, tuple[CellJob, Mapping[str, int]]]
    ) -> Iterator[tuple[Future, CellVerdict]]:
        """Futures as they end, each with its verdict; also those that no worker can take any more.

        Raises:
            SchedulerLostError: it is silent.
        """
        waiting = as_completed(list(futures), loop=self._client.loop)
        left = {future: needs for future, (_, needs) in futures.items()}
        patience = _Patience(self._patience_s)
        while left:
            if self._client.status != "running":
                raise self._lost()
            ended = [future for future in waiting.next_batch(block=False) if future in left]
            for future in ended:
                verdict = self._verdict(future)
                if verdict is None:
                    waiting.add(future)
                    continue
                del left[future]
                yield future, verdict
            if ended:
                continue
            try:
                exhausted = patience.exhausted(left, self.offers)
            except Exception as error:
                raise self._lost() from error
            for future, why in exhausted:
                del left[future]
                future.cancel()
                yield future, not_run(why)
            time.sleep(_LOOK_S)

    def _lost(self) -> SchedulerLostError:
        return SchedulerLostError(
            f"the scheduler{f' at {self._address}' if self._address else ''} has gone",
            remedy="start it, and this command, once more: cells that are known are not run again",
        )

    def _verdict(self, future: Future) -> CellVerdict | None:
        """Of a future that has ended; None: its worker took the result along, it is run again."""
        if future.status not in ("error", "cancelled"):
            try:
                return future.result(timeout=_TAKE_S)
            except Exception as error:
                if future.status not in ("error", "cancelled"):
                    if isinstance(error, TimeoutError):
                        return None
                    raise
        if future.status == "cancelled":
            raise self._lost()
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


def local_resources() -> tuple[dict[str, int], dict[str, int]]:
    """What this machine has: its SIMD extensions, of every worker; its devices, of one worker."""
    devices = {name: 1 for name in present_providers() if name != "cpu"}
    return dict.fromkeys(cpu_flags(), _MANY), devices


def _can(offers: Sequence[Mapping[str, float]], needs: Mapping[str, int]) -> bool:
    """Whether one worker has all that is needed."""
    return any(all(offer.get(n, 0) >= count for n, count in needs.items()) for offer in offers)


def lacking(offers: Sequence[Mapping[str, float]], needs: Mapping[str, int]) -> str:
    """What no worker has."""
    each = [n for n, count in needs.items() if not _can(offers, {n: count})]
    if each:
        return f"no worker has {', '.join(each)}"
    return f"no worker has all of {', '.join(needs)}"


class _Patience:
    """Until when cells wait for a worker that could take them."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._looked = seconds, 0.0
        self._able: dict[frozenset[tuple[str, int]], float] = {}

    def exhausted(
        self,
        left: Mapping[Future, Mapping[str, int]],
        offers: Callable[[], Sequence[Mapping[str, float]]],
    ) -> list[tuple[Future, str]]:
        """Those that have waited for too long, each with what was lacking."""
        now = time.monotonic()
        if now - self._looked < min(1.0, self._seconds / 4):
            return []
        self._looked, there = now, offers()
        waiting = []
        for future, needs in left.items():
            kind = frozenset(needs.items())
            if self._able.setdefault(kind, now) == now or _can(there, needs):
                self._able[kind] = now
            elif now - self._able[kind] > self._seconds:
                what = lacking(there, needs) if there else "no worker was there"
                waiting.append((future, f"{what} for {self._seconds:g} s"))
        return waiting
