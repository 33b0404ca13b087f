"""A cell: a process of its own, named by all that can change it, known from then on."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exporter.cache import environments
from exporter.matrix import jobs, work
from exporter.matrix.cells import digest_of
from exporter.matrix.jobs import cell_job, variant_job
from exporter.matrix.verdict import VERDICT, MadeVariant, read_verdict
from exporter.parity.status import Status
from tests.golden import made
from tests.matrix import toy


def wrong_weight(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == "W2")
    values = numpy_helper.to_array(tensor).copy()
    values[3, 4] += np.float32(0.5)
    tensor.CopyFrom(numpy_helper.from_array(values, "W2"))


def test_a_cell_is_judged_once_and_then_known(tmp_path: Path):
    held = toy.matrix(tmp_path)
    first, *_ = held.space.cells()
    at, file = toy.place(tmp_path), toy.made_file(tmp_path)
    verdict = toy.judged(held, first, at, file)
    assert verdict.status is Status.PASS and not verdict.known
    assert verdict.page.startswith(verdict.folder) and (at.folder / verdict.page).is_file()
    assert 0 < verdict.seconds < verdict.total_seconds
    path = at.folder / verdict.folder / VERDICT
    written = path.stat().st_mtime_ns
    again = toy.judged(held, first, toy.place(tmp_path, run="two"), file)
    assert again.known and path.stat().st_mtime_ns == written
    # Half a verdict is none: it was cut off, and is judged anew.
    path.write_text(path.read_text()[:40])
    assert not toy.judged(held, first, at, file).known


def test_a_file_that_is_wrong_fails_and_names_the_layer(tmp_path: Path):
    held = toy.matrix(tmp_path)
    first, *_ = held.space.cells()
    at = toy.place(tmp_path)
    verdict = toy.judged(held, first, at, toy.made_file(tmp_path, wrong_weight))
    assert verdict.status is Status.FAIL and verdict.state == "moved"
    assert verdict.first is not None and verdict.first.module == "second"
    assert verdict.strain is not None and verdict.strain > 1
    # The file as it should be is another cell.
    assert toy.judged(held, first, at, toy.made_file(tmp_path)).status is Status.PASS


def test_all_that_can_change_a_cell_is_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    held = toy.matrix(tmp_path)
    cells = list(held.space.cells())
    text = toy.TEXT + "  onnxruntime: [1.30.0, 1.31.1]\n  case: [one, two]\n"
    more = toy.matrix(tmp_path, text)
    names = [digest_of(cell_job(held, cell).parts) for cell in cells]
    names += [digest_of(cell_job(more, cell).parts) for cell in more.space.cells()]
    assert len(set(names)) == len(names) == 4 + 16
    monkeypatch.setattr(jobs, "code_digest", lambda: "other code")
    assert digest_of(cell_job(held, cells[0]).parts) not in names
    before = variant_job(held, cells[0], trust=False).name
    yaml = tmp_path / "made.yaml"
    yaml.write_text(yaml.read_text().replace("seed: 2", "seed: 3"))
    path = tmp_path / "toy.yaml"
    path.write_text(toy.TEXT)
    assert variant_job(jobs_matrix(path), cells[0], trust=False).name != before


def jobs_matrix(path: Path):
    from exporter.matrix.load import load_matrix

    return load_matrix(path)


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("print('ready', flush=True); import os; os.abort()", Status.FAIL, "signal 6"),
        ("print('ready', flush=True); raise SystemExit('broken')", Status.FAIL, "broken"),
        ("import os; os.abort()", Status.NOT_RUN, "environment does not start: signal 6"),
        ("import no_such_module", Status.NOT_RUN, "no_such_module"),
        ("print('ready', flush=True); import os; os.kill(os.getpid(), 9)", Status.NOT_RUN, "9"),
        ("print('ready', flush=True); import os; os.kill(os.getpid(), 15)", Status.NOT_RUN, "15"),
        ("print('ready', flush=True); import os; os.kill(os.getpid(), 11)", Status.FAIL, "11"),
        ("pass", Status.NOT_RUN, "does not start"),
        ("import time; time.sleep(60)", Status.NOT_RUN, "within 2 s"),
    ],
)
def test_a_process_that_ends_is_a_sentence_and_what_was_not_run_is_tried_again(
    code: str, status: Status, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    held = toy.matrix(tmp_path)
    first, *_ = held.space.cells()
    at, file = toy.place(tmp_path), toy.made_file(tmp_path)
    if "sleep" in code:
        at = replace(at, timeout_s=2.0)
    monkeypatch.setattr(work, "_CODE", code + "  # {0}")
    verdict = toy.judged(held, first, at, file)
    assert verdict.status is status and said in verdict.reason, verdict.reason
    kept = read_verdict(at.folder / verdict.folder / VERDICT)
    assert kept is not None and kept.status is status
    assert toy.judged(held, first, at, file).known is (status is Status.FAIL)


def test_an_environment_that_cannot_be_made_says_why_and_is_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tried = []

    def started(command: list[str], seconds: float = 0) -> subprocess.CompletedProcess[str]:
        tried.append(command)
        return subprocess.CompletedProcess(command, 1, "", "no such release: 9.9.9")

    monkeypatch.setattr(environments, "started", started)
    held = toy.matrix(tmp_path, toy.TEXT + "  onnxruntime: [9.9.9]\n")
    file, at = toy.made_file(tmp_path), toy.place(tmp_path, run="poisoned")
    found = [toy.judged(held, cell, at, file) for cell in held.space.cells()]
    assert [verdict.status for verdict in found] == [Status.NOT_RUN] * 4
    assert all("no such release: 9.9.9" in verdict.reason for verdict in found)
    assert len(tried) == 1
    # A healthy one beside it goes on.
    healthy = toy.matrix(tmp_path)
    assert toy.judged(healthy, next(healthy.space.cells()), at, file).status is Status.PASS


def test_a_file_that_could_not_be_made_is_what_its_cells_say(tmp_path: Path):
    held = toy.matrix(tmp_path)
    first, *_ = held.space.cells()
    file = MadeVariant(digest="x", status=Status.FAIL, reason="PyTorch and the file differ")
    at = toy.place(tmp_path)
    verdict = toy.judged(held, first, at, file)
    assert verdict.status is Status.FAIL and "PyTorch and the file differ" in verdict.reason
    assert verdict.page == "", "a link to nothing"
    page = at.folder / "files" / "x" / "run" / "report.html"
    page.parent.mkdir(parents=True)
    page.write_text("")
    assert at.folder / toy.judged(held, first, at, file).page == page
    other = replace(toy.place(tmp_path), code="another version")
    assert toy.judged(held, first, other, toy.made_file(tmp_path)).status is Status.NOT_RUN


@pytest.mark.parametrize("what", ["gone", "other bytes", "whole"])
def test_what_was_made_is_made_anew_where_it_is_not_there_any_more(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What an earlier start wrote of it is no answer of a process that ended without one."""
    held, at = toy.matrix(tmp_path), toy.place(tmp_path)
    first, *_ = held.space.cells()
    toy.put_files(held, tmp_path, at.folder)
    if what == "gone":
        (tmp_path / "model.onnx").unlink()
    if what == "other bytes":
        made.write_onnx(tmp_path, changed_model())
    ended = []
    monkeypatch.setattr(work, "_run", lambda *given: ended.append(given) or "it ended: signal 6")
    found = work.make(at, variant_job(held, first, trust=False))
    assert (found.status, len(ended)) == (
        (Status.PASS, 0) if what == "whole" else (Status.NOT_RUN, 1)
    )


def changed_model() -> onnx.ModelProto:
    model = made.model()
    wrong_weight(model)
    return model
