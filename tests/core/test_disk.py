"""What a disk refuses is told with path and remedy, and before the work."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from exporter.core import disk
from exporter.core.disk import disk_error, writable_folder
from exporter.core.errors import ConfigError, StageError
from exporter.core.files import open_regular, read_text, replacing, write_text

_NUMBERS = [
    *(errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO, errno.ENAMETOOLONG),
    *(errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EFBIG, errno.EPERM, errno.ESTALE),
]


@pytest.mark.parametrize("number", _NUMBERS)
def test_an_error_of_the_disk_has_path_and_remedy(number: int):
    told = disk_error(OSError(number, os.strerror(number), "/some/where"))
    assert told is not None
    assert told.where == "/some/where"
    assert os.strerror(number) in told.problem
    assert told.remedy


def test_what_a_stage_was_stopped_by_is_found():
    error = StageError("export", "no")
    error.__cause__ = RuntimeError("I/O error: No space left on device (os error 28)")
    told = disk_error(error)
    assert told is not None and "No space left" in told.problem


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no space left on device"),
        OSError("no number"),
        FileNotFoundError(errno.ENOENT, "gone", str(Path(disk.__file__).parent / "template")),
        ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
    ],
)
def test_what_is_no_error_of_the_disk_stays_what_it_is(error: Exception):
    assert disk_error(error) is None


def test_what_was_told_apart_already_keeps_its_words():
    error = ConfigError("no such file")
    error.__cause__ = OSError(errno.EACCES, "no", "/x")
    assert disk_error(error) is None


def test_a_write_that_fails_says_to_which_file(tmp_path: Path):
    def fill() -> None:
        with replacing(tmp_path / "a.txt"):
            raise OSError(errno.ENOSPC, "full")  # as a stream says it: without a name

    with pytest.raises(OSError, match="full") as caught:
        fill()
    assert caught.value.filename == str(tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_made_and_left_empty(tmp_path: Path):
    writable_folder(tmp_path / "a" / "b", "--output-dir")
    assert not list((tmp_path / "a" / "b").iterdir())


@pytest.mark.parametrize("name", ["file/below", "file", "x" * 300, "loop/a", "nul\0"])
def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, name: str):
    write_text(tmp_path / "file", "")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(disk.UserInputError, match="--output-dir: "):
        writable_folder(tmp_path / name, "--output-dir")


def test_a_disk_that_is_full_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=disk.LEAST_FREE - 1))
    with pytest.raises(disk.UserInputError, match="bytes are free"):
        writable_folder(tmp_path, "--output-dir")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=disk.LEAST_FREE))
    writable_folder(tmp_path, "--output-dir")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_regular_file_is_not_read(tmp_path: Path, kind: str):
    path = tmp_path / "a"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/zero")
    with pytest.raises(disk.UserInputError, match="not a file that can be read"):
        open_regular(path)


def test_a_link_to_a_regular_file_is_read(tmp_path: Path):
    write_text(tmp_path / "a", "text")
    (tmp_path / "b").symlink_to("a")
    assert read_text(tmp_path / "b") == "text"


def test_a_name_as_long_as_the_system_allows_can_be_written(tmp_path: Path):
    path = write_text(tmp_path / ("x" * 255), "text")
    assert path.read_text() == "text"
