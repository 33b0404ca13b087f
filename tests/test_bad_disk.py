"""Commands on a bad disk: exit 2 with path and remedy, at once, and nothing outside is changed."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from exporter.cli import main
from exporter.core.files import write_text
from tests.support.tiny_run import TinyRun

ROOT = Path(__file__).resolve().parents[1]
PIPELINE = str(ROOT / "pipelines" / "silero_vad_tiny.yaml")
WRITERS = {
    "run": ["run", PIPELINE],
    "verify": ["verify", PIPELINE, "--onnx", __file__],
    "golden record": ["golden", "record", PIPELINE, "--reason", "test"],
    "golden check": ["golden", "check", PIPELINE],
}


def _refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    began = time.monotonic()
    code = main(list(words))
    said = capsys.readouterr().err
    assert code == 2, said
    assert said.startswith("error: ") and "\n  " in said, "a remedy on a line of its own"
    assert time.monotonic() - began < 5
    return said


@pytest.mark.parametrize("place", ["file", "file/below", "loop", "x" * 300])
@pytest.mark.parametrize("command", WRITERS)
def test_an_output_folder_that_cannot_be_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, place: str
):
    write_text(tmp_path / "file", "kept")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    folder = tmp_path / place
    if place == "file":  # click's own words
        assert main([*WRITERS[command], "--output-dir", str(folder)]) == 2
        return
    golden = ["--golden-dir", str(tmp_path)] if command.startswith("golden") else []
    said = _refused(capsys, *WRITERS[command], "--output-dir", str(folder), *golden)
    assert str(folder) in said
    assert (tmp_path / "file").read_text() == "kept"


def _raising(number: int):
    def refuse(path: Path, *args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    return refuse


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize("command", WRITERS)
def test_a_disk_that_refuses_is_told_before_anything_heavy_is_imported(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    number: int,
):
    monkeypatch.setattr(Path, "write_bytes", _raising(number))
    # Whoever imports a flow now has come too far.
    for name in ("run", "verify", "golden"):
        monkeypatch.setitem(sys.modules, f"exporter.flows.{name}", None)
    said = _refused(capsys, *WRITERS[command], "--output-dir", str(tmp_path / "out"))
    assert os.strerror(number) in said and str(tmp_path / "out") in said


def test_a_golden_folder_that_cannot_be_written_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_text(tmp_path / "file", "kept")
    words = [*WRITERS["golden record"], "--output-dir", str(tmp_path / "out")]
    said = _refused(capsys, *words, "--golden-dir", str(tmp_path / "file" / "golden"))
    assert "--golden-dir" in said


@pytest.mark.parametrize("kind", ["device", "link", "pipe", "folder", "below a file"])
def test_junit_takes_the_place_of_a_regular_file_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_run: TinyRun, kind: str
):
    run = tmp_path / "run"
    shutil.copytree(tiny_run.folder, run)
    kept = write_text(tmp_path / "kept", "kept")
    place = tmp_path / "junit.xml"
    if kind == "device":
        place = Path("/dev/full")
    elif kind == "link":
        place.symlink_to(kept)
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place = kept / "junit.xml"
    before = os.lstat(place if kind != "below a file" else kept)
    _refused(capsys, "report", str(run), "--junit", str(place))
    assert os.lstat(place if kind != "below a file" else kept) == before
    assert kept.read_text() == "kept"


def test_junit_goes_into_a_folder_that_is_made(tmp_path: Path, tiny_run: TinyRun):
    run = tmp_path / "run"
    shutil.copytree(tiny_run.folder, run)
    main(["report", str(run), "--quiet", "--junit", str(tmp_path / "new" / "junit.xml")])
    assert (tmp_path / "new" / "junit.xml").read_text().startswith("<?xml")


def test_a_link_in_the_place_of_the_shipped_file_keeps_its_certificate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_run: TinyRun
):
    elsewhere, out = tmp_path / "released.onnx", tmp_path / "out"
    shutil.copy(tiny_run.model_path, elsewhere)
    out.mkdir()
    (out / "model.onnx").symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    said = _refused(capsys, *WRITERS["run"], "--output-dir", str(out))
    assert "symbolic link" in said
    assert elsewhere.read_bytes() == before and (out / "model.onnx").is_symlink()


@pytest.mark.parametrize("name", ["program", "verify", "golden_check", "debug"])
def test_a_link_in_the_place_of_a_folder_is_not_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
):
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir()
    out.mkdir()
    (out / name).symlink_to(elsewhere)
    assert "symbolic link" in _refused(capsys, *WRITERS["run"], "--output-dir", str(out))
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("count", ["100000", "0", "-1", "nan", "1e3", "1025"])
def test_a_number_of_threads_that_no_library_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], count: str
):
    words = [*WRITERS["run"], "--output-dir", str(tmp_path), "--threads", count]
    assert main(words) == 2
    assert "--threads" in capsys.readouterr().err
