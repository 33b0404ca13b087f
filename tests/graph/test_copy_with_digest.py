"""A copy and its digest, whatever the sizes of the pieces and however the system copies."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

import exporter.graph.copy_with_digest as copied
from exporter.graph.copy_with_digest import copy_and_digest


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 20_000])
@pytest.mark.parametrize("system", [True, False], ids=["system", "by hand"])
def test_the_copy_is_equal_and_its_digest_is_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, system: bool
):
    monkeypatch.setattr(copied, "_PIECE", 4096)
    monkeypatch.setattr(copied, "_CHUNK", 1000)
    if not system:

        def refuse(*_: object) -> int:
            raise OSError("not between these file systems")

        monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    data = os.urandom(size)
    (tmp_path / "from").write_bytes(data)
    (tmp_path / "to").write_bytes(b"an older and longer file" * 5000)
    digest = copy_and_digest(tmp_path / "from", tmp_path / "to")
    assert (tmp_path / "to").read_bytes() == data
    assert digest.hexdigest() == hashlib.sha256(data).hexdigest()


def test_the_digest_is_of_what_was_written_and_not_of_what_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = copied._copy

    def damaged(source: int, target: int, begin: int, count: int) -> int:
        done = real(source, target, begin, count)
        os.pwrite(target, b"!", begin)
        return done

    monkeypatch.setattr(copied, "_copy", damaged)
    (tmp_path / "from").write_bytes(b"weights")
    digest = copy_and_digest(tmp_path / "from", tmp_path / "to")
    assert digest.hexdigest() == hashlib.sha256(b"!eights").hexdigest()


def test_what_cannot_be_written_is_said(tmp_path: Path):
    (tmp_path / "from").write_bytes(b"weights")
    with pytest.raises(OSError):
        copy_and_digest(tmp_path / "from", tmp_path / "no such folder" / "to")
