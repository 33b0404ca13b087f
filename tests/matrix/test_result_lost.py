"""A worker that goes when its cell has ended, and before anybody has its result."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.matrix import engine as engines
from exporter.matrix import work
from exporter.matrix.engine import Engine
from exporter.matrix.run import Cells
from exporter.matrix.verdict import CellVerdict, written
from exporter.parity.status import Status
from exporter.report.progress import Progress
from tests.matrix import toy


class Late:
    """``as_completed`` of which nobody takes what has ended before all workers have gone."""

    def __init__(self, real, stop):
        self.real, self.stop = real, stop

    def next_batch(self, block: bool):
        found = self.real.next_batch(block=block)
        if found and self.stop is not None:
            stop, self.stop = self.stop, None
            stop()
        return found

    def add(self, future):
        self.real.add(future)


def test_cells_whose_results_went_with_their_worker_wait_no_longer_than_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        work, "_run", lambda *given: written(CellVerdict(status=Status.PASS), given[-1]) or ""
    )
    monkeypatch.setattr(engines, "_TAKE_S", 1.0)
    held = toy.matrix(tmp_path)
    toy.put_files(held, tmp_path, tmp_path / "out")
    options = {"workers": 1, "processes": False, "patience_s": 1}
    with Engine(tmp_path / "out", tmp_path / "environments", **options) as running:
        cluster = running._client.cluster
        real = engines.as_completed
        monkeypatch.setattr(
            engines,
            "as_completed",
            lambda *args, **given: Late(real(*args, **given), lambda: stopped(cluster)),
        )
        found = Cells(held, running, Progress(quiet=True), trust=False)(held.space.cells())
    assert {verdict.reason for verdict in found.values()} == {"no worker was there for 1 s"}
    assert {verdict.status for verdict in found.values()} == {Status.NOT_RUN}


def stopped(cluster) -> None:
    cluster.scale(0)
    cluster.sync(cluster._correct_state)
