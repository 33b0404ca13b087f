"""One process at a time works in an output folder, and of one pipeline only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from exporter.core.errors import UserInputError
from exporter.core.files import part_in, write_text
from exporter.core.output_folder import LOCK, OWNER, WAIT_VARIABLE, output_folder

_HOLD = """
import sys
from pathlib import Path
from exporter.core.output_folder import output_folder
with output_folder(Path(sys.argv[1]), pipeline="a", say=print):
    print("held", flush=True)
    sys.stdin.read()
"""


def _silent(text: str) -> None:
    raise AssertionError(text)


def _enter(folder: Path, pipeline: str = "a", *, writes: bool = True) -> list[str]:
    said: list[str] = []
    with output_folder(folder, pipeline=pipeline, say=said.append, writes=writes):
        pass
    return said


def _holder(folder: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    return child


def test_the_folder_says_whose_it_is_and_the_lock_goes(tmp_path: Path):
    with output_folder(tmp_path / "out", pipeline="a", say=_silent):
        assert (tmp_path / "out" / LOCK).exists()
        assert json.loads((tmp_path / "out" / OWNER).read_text())["pid"] == os.getpid()
    assert [path.name for path in (tmp_path / "out").iterdir()] == [OWNER]


def test_a_second_process_is_refused_in_time_and_told_by_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    child = _holder(tmp_path)
    monkeypatch.setenv(WAIT_VARIABLE, "0.2")
    with pytest.raises(UserInputError, match=f"process {child.pid} on ") as caught:
        _enter(tmp_path)
    assert caught.value.remedy is not None and "--output-dir" in caught.value.remedy
    child.kill()
    child.wait()
    _enter(tmp_path)


def test_a_second_process_waits_for_the_first(tmp_path: Path):
    child = _holder(tmp_path)
    assert child.stdin is not None
    threading.Timer(0.5, child.stdin.close).start()
    began = time.monotonic()
    said = _enter(tmp_path)
    assert time.monotonic() - began > 0.3
    assert len(said) == 1 and f"waiting for process {child.pid}" in said[0]
    child.wait()


def test_two_threads_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(WAIT_VARIABLE, "0")
    found: list[BaseException] = []

    def second() -> None:
        try:
            _enter(tmp_path)
        except UserInputError as error:
            found.append(error)

    with output_folder(tmp_path, pipeline="a", say=_silent):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert found


def test_one_thread_may_enter_twice_by_any_name(tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path / "out")
    (tmp_path / "out").mkdir()
    with (
        output_folder(tmp_path / "out", pipeline="a", say=_silent),
        output_folder(tmp_path / "link", pipeline="a", say=_silent),
    ):
        pass


@pytest.mark.parametrize("running", [False, True])
def test_a_folder_of_another_pipeline_is_refused(tmp_path: Path, running: bool):
    _enter(tmp_path)
    child = _holder(tmp_path) if running else None
    with pytest.raises(UserInputError, match="of the pipeline 'a', not of 'b'"):
        _enter(tmp_path, "b")
    _enter(tmp_path) if child is None else child.kill()
    if child is not None:
        child.wait()


def test_what_killed_writers_left_goes(tmp_path: Path):
    write_text(part_in(tmp_path), "half")
    write_text(tmp_path / "download.part", "somebody else's")
    _enter(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [OWNER, "download.part"]


def test_who_only_reads_makes_and_changes_nothing(tmp_path: Path):
    assert not _enter(tmp_path / "out", writes=False)
    assert not (tmp_path / "out").exists()
    _enter(tmp_path, writes=False)
    assert not list(tmp_path.iterdir())


def test_who_only_reads_waits_for_who_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(WAIT_VARIABLE, "0")
    child = _holder(tmp_path)
    with pytest.raises(UserInputError, match="is using this folder"):
        _enter(tmp_path, writes=False)
    child.kill()
    child.wait()


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "soon", "1e99"])
def test_a_wait_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str):
    monkeypatch.setenv(WAIT_VARIABLE, text)
    with pytest.raises(UserInputError, match="no number of seconds"):
        _enter(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pipeline": 3}', "\udc80" * 3])
def test_an_owner_that_cannot_be_read(tmp_path: Path, text: str):
    (tmp_path / OWNER).write_bytes(text.encode("utf-8", "surrogateescape"))
    if text == '{"pipeline": 3}':
        with pytest.raises(UserInputError, match="another|of the pipeline"):
            _enter(tmp_path)
        return
    assert not _enter(tmp_path)


def test_a_pipe_in_the_place_of_the_owner_is_refused_and_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / OWNER)
    with pytest.raises(UserInputError, match="a pipe"):
        _enter(tmp_path)
