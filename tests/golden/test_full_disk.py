"""A disk that fills while a golden is being recorded: the system's own errors, not faked ones."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter import cli
from exporter.golden import record
from exporter.golden.store import read_golden
from tests.support import toy_project


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel refuses every write beyond ``size`` (EFBIG); Python ignores the signal."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """The disk of ``folder`` has no free byte (ENOSPC)."""
    filler = folder / "filler"
    with filler.open("wb") as stream, contextlib.suppress(OSError):
        while True:
            os.write(stream.fileno(), bytes(1 << 12))
    try:
        yield
    finally:
        filler.unlink()


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    yaml = toy_project.project(tmp_path / "toy")
    run = [str(yaml), "--trust", "--output-dir", str(tmp_path / "out"), "--quiet"]
    return ["golden", "record", *run, "--reason", "a test"]


def recorded(
    words: list[str],
    golden: Path,
    full: contextlib.AbstractContextManager[None],
    monkeypatch: pytest.MonkeyPatch,
) -> int:
    """Record into ``golden``, whose disk is full from when the golden is written."""
    write = record.write_golden

    def on_a_full_disk(*held, **options):
        with full:
            return write(*held, **options)

    monkeypatch.setattr(record, "write_golden", on_a_full_disk)
    try:
        return cli.main([*words, "--golden-dir", str(golden)])
    finally:
        monkeypatch.undo()


def left_in(golden: Path) -> list[Path]:
    return [path for path in golden.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_a_file_that_grows_beyond_its_limit(tmp_path: Path, words, monkeypatch, capsys):
    full = files_of_at_most(64)
    golden = tmp_path / "golden"
    assert recorded(words, golden, full, monkeypatch) == 2
    told = capsys.readouterr().err
    assert "File too large" in told and "ulimit -f" in told and str(golden) in told
    assert not left_in(golden)
    assert cli.main([*words, "--golden-dir", str(golden)]) == 0
    held = read_golden(golden / "toy")
    assert recorded(words, golden, files_of_at_most(64), monkeypatch) == 2
    assert read_golden(golden / "toy").digest == held.digest


@pytest.mark.slow
def test_a_disk_without_a_free_byte(tmp_path: Path, words, monkeypatch, capsys):
    golden = tmp_path / "golden"
    golden.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(golden)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root only; the limit of files is tried above")
    try:
        assert recorded(words, golden, filled(golden), monkeypatch) == 2
        told = capsys.readouterr().err
        assert "No space left on device" in told and str(golden) in told
        assert not left_in(golden)
        assert cli.main([*words, "--golden-dir", str(golden)]) == 0
        held = read_golden(golden / "toy")
        assert recorded(words, golden, filled(golden), monkeypatch) == 2
        assert read_golden(golden / "toy").digest == held.digest
    finally:
        subprocess.run(["umount", str(golden)], check=True)
