"""The cache folder: what is put is what is taken, and everything else is found out."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import filelock._unix
import pytest

from exporter.cache.entry import MANIFEST, sealed, unsealed
from exporter.cache.store import Store
from tests.cache.filled import FILES, holds, key, put, write_files

MORE = 1 << 30
ENTRY = sum(len(content) + 1 for content in FILES.values())


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache", MORE)


def test_what_is_put_is_taken_elsewhere(store, tmp_path):
    put(store, tmp_path / "one")
    found = store.take(key("a"), tmp_path / "two")
    assert found.entry is not None and found.problem == ""
    assert holds(tmp_path / "two")
    assert found.entry.facts == {"nodes": 3}
    assert found.entry.label == "pipeline a"
    assert found.entry.bytes == ENTRY
    assert not any(path.is_symlink() for path in (tmp_path / "two").rglob("*"))


def test_another_key_is_a_miss_and_makes_no_folder(store, tmp_path):
    assert store.take(key("a"), tmp_path / "two").entry is None
    assert not store.root.exists()
    put(store, tmp_path / "one")
    assert store.take(key("b"), tmp_path / "two").entry is None
    assert not (tmp_path / "two").exists()


def test_files_that_are_replaced_outside_leave_the_entry_as_it_is(store, tmp_path):
    out = tmp_path / "out"
    put(store, out)
    write_files(out, "something else")
    assert store.take(key("a"), out).entry is not None
    assert holds(out)
    write_files(out, "something else")
    assert store.take(key("a"), tmp_path / "again").entry is not None


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def edit(change):
    def tamper(folder: Path) -> None:
        content = json.loads((folder / MANIFEST).read_text())
        change(content)
        (folder / MANIFEST).write_text(json.dumps(content))

    return tamper


def edit_and_seal(change):
    def tamper(folder: Path) -> None:
        content = unsealed((folder / MANIFEST).read_text())
        change(content)
        (folder / MANIFEST).write_text(sealed(content))

    return tamper


TAMPERED = {
    "one bit of a file": lambda folder: flip(folder / "model.onnx"),
    "one bit of the weights": lambda folder: flip(folder / "model.onnx.data"),
    "a file that was cut": lambda folder: os.truncate(folder / "model.onnx", 10),
    "a file that grew": lambda folder: (folder / "model.onnx").open("ab").write(b"x"),
    "a file that is gone": lambda folder: (folder / "program" / "ops.json").unlink(),
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "half a manifest": lambda folder: os.truncate(folder / MANIFEST, 100),
    "an edited manifest": edit(lambda held: held["facts"].update(nodes=4)),
    "a manifest without seal": edit(lambda held: held.pop("seal")),
    "a manifest that is a list": lambda folder: (folder / MANIFEST).write_text("[]"),
    "a manifest without end": lambda folder: (folder / MANIFEST).write_text("[" * 100_000),
    "another format": edit_and_seal(lambda held: held.update(format=99)),
    "another key": edit_and_seal(lambda held: held.update(key=key("b"))),
    "other parts": edit_and_seal(lambda held: held["parts"].update(weights="b")),
    "a path that leads out": edit_and_seal(
        lambda held: held["files"].update({"../x": held["files"]["model.onnx"]})
    ),
    "files without digests": edit_and_seal(lambda held: held.update(files={"model.onnx": {}})),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_tampered_entry_is_said_thrown_away_and_made_again(store, tmp_path, what):
    entry = put(store, tmp_path / "one")
    TAMPERED[what](entry.folder)
    found = store.take(key("a"), tmp_path / "two")
    assert found.entry is None
    assert found.problem.startswith(f"the cached entry {key('a')[:12]} was thrown away: ")
    assert "\n" not in found.problem
    assert not (tmp_path / "two").exists()
    assert not entry.folder.exists()
    assert store.take(key("a"), tmp_path / "two").problem == ""
    put(store, tmp_path / "one")
    assert store.take(key("a"), tmp_path / "two").entry is not None


def test_writing_into_a_file_that_was_taken_is_found_at_the_next_run(store, tmp_path):
    put(store, tmp_path / "one")
    store.take(key("a"), tmp_path / "two")
    flip(tmp_path / "two" / "model.onnx")
    found = store.take(key("a"), tmp_path / "three")
    # Where the file system shares blocks and not files, the entry has stayed as it was.
    if (tmp_path / "two" / "model.onnx").stat().st_nlink > 1:
        assert "model.onnx is not the file that was stored" in found.problem
    else:
        assert found.entry is not None


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    store = Store(tmp_path / "cache", 2 * ENTRY)
    for number, name in enumerate("abc"):
        entry = put(store, tmp_path / "out", name)
        os.utime(entry.folder / MANIFEST, (number, number))
        if name == "b":
            assert store.take(key("a"), tmp_path / "again").entry is not None
    # "a" was taken after "b" was stored.
    assert {entry.label for entry in store.entries()} == {"pipeline a", "pipeline c"}
    assert sum(entry.bytes for entry in store.entries()) <= store.limit


def test_the_entry_that_was_just_stored_stays(tmp_path):
    store = Store(tmp_path / "cache", ENTRY)
    put(store, tmp_path / "out", "a")
    put(store, tmp_path / "out", "b")
    assert [entry.label for entry in store.entries()] == ["pipeline b"]


def test_what_is_larger_than_the_limit_is_not_stored(tmp_path):
    store = Store(tmp_path / "cache", ENTRY - 1)
    folder = write_files(tmp_path / "out")
    done = store.put(key("a"), folder, list(FILES), parts={}, label="", facts={}, digests={})
    assert isinstance(done, str) and "more than the cache may hold" in done
    assert not store.root.exists()


def test_an_entry_that_is_being_read_stays(tmp_path):
    store = Store(tmp_path / "cache", ENTRY)
    put(store, tmp_path / "out", "a")
    with store._held(key("a")):
        put(store, tmp_path / "out", "b")
        assert len(store.entries()) == 2
        gone = store.clear()
        assert (gone.entries, gone.in_use) == (1, 1)
    assert store.clear().entries == 1


def test_clear_takes_entries_and_nothing_else(store, tmp_path):
    put(store, tmp_path / "out", "a")
    put(store, tmp_path / "out", "b")
    mine = store.root / "entries" / "notes of mine"
    mine.mkdir()
    (store.root / "parts" / "mine").mkdir()
    gone = store.clear()
    assert (gone.entries, gone.bytes, gone.in_use) == (2, 2 * ENTRY, 0)
    assert store.entries() == []
    assert mine.is_dir() and (store.root / "parts" / "mine").is_dir()
    assert holds(tmp_path / "out", "b")


def test_an_unreadable_entry_goes_at_the_next_trim(store, tmp_path):
    entry = put(store, tmp_path / "out", "a")
    (entry.folder / MANIFEST).unlink()
    put(store, tmp_path / "out", "b")
    assert not entry.folder.exists()


def test_a_proof_is_read_back_and_goes_with_its_entry(store, tmp_path):
    assert store.read_proof(key("a"), "p") is None
    store.write_proof(key("a"), "p", {"x": 1})  # there is no entry to keep it with
    assert store.read_proof(key("a"), "p") is None
    entry = put(store, tmp_path / "out")
    store.write_proof(key("a"), "p", {"x": 1})
    assert store.read_proof(key("a"), "p") == {"x": 1}
    assert store.take(key("a"), tmp_path / "two").entry is not None
    assert not (tmp_path / "two" / "proofs").exists()
    path = entry.folder / "proofs" / "p.json"
    path.write_text(path.read_text().replace("1", "2"))
    assert store.read_proof(key("a"), "p") is None


def test_a_folder_for_backups_to_leave_out(store, tmp_path):
    put(store, tmp_path / "out")
    assert (store.root / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172")


def test_a_root_that_is_a_file_is_an_error_of_the_system(tmp_path):
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(OSError):
        put(Store(tmp_path / "cache", MORE), tmp_path / "out")


def test_a_file_system_without_locks_serves_all_the_same(monkeypatch, store, tmp_path):
    def none(_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(filelock._unix, "lock_fd_nonblocking", none)
    put(store, tmp_path / "one")
    assert store.take(key("a"), tmp_path / "two").entry is not None
    with store._held(key("a")) as mine:
        assert mine
        assert store.clear().in_use == 1
    assert store.clear().entries == 1
    assert list((store.root / "parts").iterdir()) == []


def test_an_entry_that_somebody_holds_for_too_long_is_as_none(monkeypatch, store, tmp_path):
    put(store, tmp_path / "one")
    monkeypatch.setattr("exporter.cache.store._LONGEST", 0.1)
    with store._held(key("a")):
        assert store.take(key("a"), tmp_path / "two").entry is None
    assert store.take(key("a"), tmp_path / "two").entry is not None
