"""Which worker takes a cell, and which is none for it."""

from __future__ import annotations

import itertools
import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from distributed import Client

from exporter import cli
from exporter.matrix import cell_process, work
from exporter.matrix import engine as engines
from exporter.matrix.engine import Engine
from exporter.matrix.jobs import PYTHON, cell_job, this_python
from exporter.matrix.load import load_matrix
from exporter.matrix.run import Cells
from exporter.matrix.verdict import CellVerdict, written
from exporter.parity.status import Status
from exporter.report.progress import Progress
from tests.matrix import toy
from tests.matrix.test_lost import cluster, free_port, verdicts

HEAD = "name: m\npipelines: [made.yaml]\n"
ON_CUDA = f"{HEAD}axes: {{provider: [cpu, cuda], threads: [1, 2, 3]}}\n"


def ran(folder: Path, text: str, **options) -> dict:
    held = toy.matrix(folder, text)
    toy.put_files(held, folder, folder / "out")
    options = {"workers": 2, "processes": False, **options}
    with Engine(folder / "out", folder / "environments", **options) as running:
        return Cells(held, running, Progress(quiet=True), trust=False)(held.space.cells())


def test_cells_on_a_device_do_not_share_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two workers of one machine with one device: one cell at a time is on it."""
    times, lock = [], threading.Lock()

    def answered(place, folder, requirements, module, result):
        said = json.loads((folder / "cell.json").read_text())
        began = time.monotonic()
        time.sleep(0.2)
        with lock:
            times.append((said["provider"], began, time.monotonic()))
        written(CellVerdict(status=Status.PASS), result)
        return ""

    monkeypatch.setattr(engines, "present_providers", lambda: ("cpu", "cuda"))
    monkeypatch.setattr(work, "_run", answered)
    found = ran(tmp_path, ON_CUDA)
    assert [verdict.status for verdict in found.values()] == [Status.PASS] * 6
    on_device = sorted((began, ended) for provider, began, ended in times if provider == "cuda")
    assert len(on_device) == 3
    assert all(ended <= after for (_, ended), (after, _) in itertools.pairwise(on_device))
    # Both workers were at work: others ran beside it.
    every = sorted((began, ended) for _, began, ended in times)
    assert any(after < ended for (_, ended), (after, _) in itertools.pairwise(every))


def test_without_a_device_its_cells_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engines, "present_providers", lambda: ("cpu",))
    monkeypatch.setattr(
        work, "_run", lambda *given: written(CellVerdict(status=Status.PASS), given[-1]) or ""
    )
    found = ran(tmp_path, ON_CUDA)
    for cell, verdict in found.items():
        if cell["provider"] == "cuda":
            assert (verdict.status, verdict.reason) == (Status.NOT_RUN, "no worker has cuda")
        else:
            assert verdict.status is Status.PASS


def test_needs_are_met_by_one_worker_and_not_by_two_together():
    offers = [{"cuda": 1.0}, {"avx512f": 1.0}]
    assert engines._can(offers, {"cuda": 1}) and engines._can(offers, {})
    assert not engines._can(offers, {"cuda": 1, "avx512f": 1}), "they would wait for ever"
    assert (
        engines.lacking(offers, {"cuda": 1, "avx512f": 1}) == "no worker has all of cuda, avx512f"
    )
    assert engines.lacking(offers, {"tpu": 1, "cuda": 1}) == "no worker has tpu"


@pytest.mark.slow
def test_cells_whose_workers_have_all_gone_are_not_run_and_a_second_start_goes_on(tmp_path: Path):
    text = f"{HEAD}axes: {{threads: [1, 2, 3, 4], level: [disable, all]}}\n"
    with cluster(tmp_path) as (address, running):
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=120)  # else none of them is there for 3 s
        end = time.monotonic() + 150

        def kill() -> None:
            while len(verdicts(tmp_path)) < 4 and time.monotonic() < end:
                time.sleep(0.02)
            for worker in running[1:]:
                worker.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        found = ran(tmp_path, text, address=address, patience_s=3)
        killer.join()
        lost = [verdict for verdict in found.values() if verdict.status is Status.NOT_RUN]
        assert (
            len(found) == 8
            and lost
            and all(verdict.reason == "no worker was there for 3 s" for verdict in lost)
        )
        assert {verdict.status for verdict in found.values()} == {Status.NOT_RUN, Status.PASS}
    with cluster(tmp_path, workers=1) as (address, _):
        again = ran(tmp_path, text, address=address, patience_s=60)
    assert {verdict.status for verdict in again.values()} == {Status.PASS}
    known = {cell for cell, verdict in again.items() if verdict.known}
    assert known >= {cell for cell, verdict in found.items() if verdict.status is Status.PASS}


@pytest.mark.parametrize(
    ("package", "release", "said"),
    [
        ("numpy", "1.0", "has numpy"),
        ("onnxruntime-qnn", "1.31.1", "has onnxruntime-qnn not at all"),
    ],
)
def test_a_worker_with_other_packages_does_not_answer_for_these(package, release, said, tmp_path):
    held = toy.matrix(tmp_path)
    cell = next(held.space.cells())
    at, file = toy.place(tmp_path), toy.made_file(tmp_path)
    other = replace(at, packages={**this_python(), package: release})
    verdict = toy.judged(held, cell, other, file)
    assert verdict.status is Status.NOT_RUN and said in verdict.reason, verdict.reason
    assert toy.judged(held, cell, at, file).status is Status.PASS
    # In an environment of its own only the Python is the worker's.
    assert work._stranger(other, ["onnxruntime==1.30.0"], ()) == ""
    python = replace(at, packages={**this_python(), PYTHON: "3.1.0"})
    assert "python" in work._stranger(python, ["onnxruntime==1.30.0"], ())


def test_a_device_is_in_the_name_of_what_runs_on_it(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(work, "_NVIDIA", tmp_path)
    on_cpu, nobody_knows = work.processor(), work.processor("cuda")
    assert work.platform.node() in nobody_knows
    (tmp_path / "gpus" / "0").mkdir(parents=True)
    (tmp_path / "version").write_text("NVRM version: NVIDIA 570.1\nGCC version: 12\n")
    information = tmp_path / "gpus" / "0" / "information"
    names = {nobody_knows}
    for model in ("T4", "H100"):
        information.write_text(f"Model: \t {model}\nIRQ: 5\n")
        names.add(work.processor("cuda"))
    assert len(names) == 3 and work.processor() == on_cpu


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("{fast: {use_tf32: 1}}", "write 'tf32: true'"),
        ("{fast: {tf32: 1}}", "tf32 is true or false"),
        ("{fast: {arena_extend_strategy: kSameAsRequested}}", "'cpu' stands in no cell"),
    ],
)
def test_options_that_a_provider_would_not_get_are_told(options: str, said: str, tmp_path, capsys):
    toy.matrix(tmp_path)
    text = f"{HEAD}axes: {{provider: [cpu, cuda], provider_options: {options}}}\n"
    (tmp_path / "toy.yaml").write_text(text)
    assert cli.main(["matrix", str(tmp_path / "toy.yaml"), "--github"]) == 2
    assert said in capsys.readouterr().err


def test_tf32_and_options_reach_the_provider_they_are_for(tmp_path: Path):
    options = "{none: {}, fast: {tf32: true, do_copy_in_default_stream: 0}}"
    text = f"{HEAD}axes: {{provider: [cpu, cuda], provider_options: {options}}}\n"
    held = toy.matrix(tmp_path, text)
    found = {
        (cell["provider"], cell["provider_options"]): cell_job(held, cell).run
        for cell in held.space.cells()
    }
    assert set(found) == {("cpu", "none"), ("cuda", "none"), ("cuda", "fast")}
    assert [run["tf32"] for run in found.values()] == [False, False, True]
    assert found["cuda", "fast"]["options"] == {"do_copy_in_default_stream": 0}
    alone = load_matrix_of(tmp_path, f"{HEAD}axes: {{provider_options: {{none: {{}}}}}}\n")
    assert len(list(alone.space.cells())) == 1


def load_matrix_of(folder: Path, text: str):
    (folder / "toy.yaml").write_text(text)
    return load_matrix(folder / "toy.yaml")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError("too much")])
def test_what_a_machine_lacks_is_no_failure_of_the_file(error, tmp_path, monkeypatch):
    def fails(*given):
        raise error

    monkeypatch.setattr(cell_process, "_checked", fails)
    verdict = cell_process._judged({}, tmp_path)
    assert verdict.status is Status.NOT_RUN and type(error).__name__ in verdict.reason


def test_an_earlier_report_is_no_answer_of_a_start_that_has_none(tmp_path, monkeypatch, capsys):
    toy.matrix(tmp_path)
    monkeypatch.chdir(tmp_path)
    names = ("matrix.html", "matrix.md", "matrix.json", "matrix.xml")
    (tmp_path / "out").mkdir()
    for name in names:
        (tmp_path / "out" / name).write_text("all pass")
    words = ["matrix", "toy.yaml", "--output-dir", "out"]
    assert cli.main([*words, "--scheduler", f"tcp://127.0.0.1:{free_port()}"]) == 2
    assert "nobody answers" in capsys.readouterr().err
    assert not [name for name in names if (tmp_path / "out" / name).exists()]
