"""Files are written whole or not at all, and nothing but regular ones is replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporter.core.errors import UserInputError
from exporter.core.files import clear_parts, replacing, write_text


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with replacing(path, synced=True) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]  # noqa: PTH208


def test_what_raises_leaves_the_old_file_and_no_part(tmp_path: Path):
    path = write_text(tmp_path / "a.txt", "old")

    def interrupted() -> None:
        with replacing(path) as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_two_writers_do_not_write_into_one_part(tmp_path: Path):
    path = tmp_path / "a.txt"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
    assert path.read_text() == "1"


@pytest.mark.parametrize("kind", ["a folder", "a symbolic link", "a pipe"])
def test_what_is_no_regular_file_stays(tmp_path: Path, kind: str):
    path, elsewhere = tmp_path / "a", write_text(tmp_path / "b", "kept")
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(elsewhere)
    with pytest.raises(UserInputError, match=f"this is {kind}"):
        write_text(path, "gone")
    assert elsewhere.read_text() == "kept"
    assert path.is_symlink() == (kind == "a symbolic link")


def test_a_device_is_not_replaced():
    with pytest.raises(UserInputError, match="this is a device"):
        write_text(Path("/dev/full"), "gone")


def test_what_a_killed_writer_left_goes(tmp_path: Path):
    kept = write_text(tmp_path / "model.onnx", "kept")
    (tmp_path / "model.onnx.12ab34cd.part").write_text("half")
    (tmp_path / "folder.part").mkdir()
    clear_parts(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.part", kept.name]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system names no open files")
@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_a_file_that_is_exchanged_behind_its_check_is_not_the_one_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    """What is given to libraries by name is the very file that was looked at."""
    import safetensors.torch
    import torch

    from exporter.models import weights

    path = tmp_path / f"held.{kind}"
    other = tmp_path / "other"
    save = torch.save if kind == "pt" else safetensors.torch.save_file
    save({"w": torch.ones(3)}, path)
    save({"w": torch.zeros(3)}, other)
    checked = weights.open_regular

    def exchanged(given: Path):
        stream = checked(given)
        other.replace(given)
        return stream

    monkeypatch.setattr(weights, "open_regular", exchanged)
    read = weights.read_pt if kind == "pt" else weights.read_safetensors
    assert read(path)["w"].tolist() == [1.0, 1.0, 1.0]
    assert not other.exists()


def test_a_private_file_is_its_owners_from_the_first_byte_on(tmp_path):
    path = tmp_path / "private.bin"
    with replacing(path, private=True) as part:
        assert part.stat().st_mode & 0o777 == 0o600
        part.write_bytes(b"spoken")
    assert path.stat().st_mode & 0o777 == 0o600 and path.read_bytes() == b"spoken"
