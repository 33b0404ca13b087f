"""A golden on disk: whole or not at all, and no byte of it can change unseen."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest

from exporter.core.errors import GoldenError
from exporter.golden import store
from exporter.golden.store import MANIFEST, TamperedError, golden_bytes, read_golden, write_golden
from tests.golden import made


@pytest.fixture
def golden(tmp_path):
    return made.golden(tmp_path, made.pipeline(tmp_path))


def test_a_golden_comes_back_as_it_was(golden, tmp_path):
    held = write_golden(golden, tmp_path / "g")
    again = read_golden(tmp_path / "g")
    assert again.digest == held.digest != ""
    assert again.inputs == golden.inputs and again.nodes == golden.nodes
    assert again.taps == golden.taps and again.environment == golden.environment
    for left, right in zip(again.cases, golden.cases, strict=True):
        assert left.inputs == right.inputs
        for a, b in zip(left.outputs, right.outputs, strict=True):
            assert np.array_equal(a.values, b.values) and a.values.dtype == b.values.dtype
        for a, b in zip(left.taps, right.taps, strict=True):
            assert a.sketch.bits == b.sketch.bits and a.witness == b.witness
            assert a.sketch.shape == b.sketch.shape and a.limit_rms == b.limit_rms
            assert np.allclose(a.sketch.buckets, b.sketch.buckets, rtol=1e-7)


def test_the_same_golden_is_the_same_bytes(golden, tmp_path):
    assert (
        write_golden(golden, tmp_path / "a").digest == write_golden(golden, tmp_path / "b").digest
    )


def test_a_flipped_byte_anywhere_is_seen(golden, tmp_path):
    folder = tmp_path / "g"
    write_golden(golden, folder)
    flipped = 0
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        step = 1 if path.name == MANIFEST else max(1, len(whole) // 200)
        for position in range(0, len(whole), step):
            broken = bytearray(whole)
            broken[position] ^= 1 << (position % 8)
            path.write_bytes(broken)
            with pytest.raises(TamperedError):
                read_golden(folder)
            flipped += 1
        path.write_bytes(whole)
    assert flipped > 3000
    read_golden(folder)


@pytest.mark.parametrize("cut", [0, 1, 100])
def test_a_file_that_is_gone_or_cut_off_is_seen(golden, tmp_path, cut):
    folder = tmp_path / "g"
    write_golden(golden, folder)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        path.write_bytes(whole[:cut])
        with pytest.raises(TamperedError):
            read_golden(folder)
        if path.name != MANIFEST:
            path.unlink()
            with pytest.raises(TamperedError, match="not in the folder"):
                read_golden(folder)
        path.write_bytes(whole)


def test_another_format_and_no_golden_are_said(golden, tmp_path):
    with pytest.raises(GoldenError, match="no golden here"):
        read_golden(tmp_path / "nothing")
    folder = tmp_path / "g"
    write_golden(golden, folder)
    body = json.loads((folder / MANIFEST).read_text())
    del body["sha256"]
    (folder / MANIFEST).write_text(store._render({**body, "format": 99}))
    with pytest.raises(GoldenError, match="format 99"):
        read_golden(folder)


def test_a_manifest_cannot_name_a_file_elsewhere(golden, tmp_path):
    folder = tmp_path / "g"
    write_golden(golden, folder)
    body = json.loads((folder / MANIFEST).read_text())
    del body["sha256"]
    body["files"]["../clean.onnx"] = "0" * 64
    (folder / MANIFEST).write_text(store._render(body))
    with pytest.raises(GoldenError, match="names a file"):
        read_golden(folder)


def test_recording_again_leaves_no_old_files(golden, tmp_path):
    folder = tmp_path / "g"
    write_golden(golden, folder)
    moved = replace(golden, reason="again", cases=golden.cases[:1])
    write_golden(moved, folder)
    body = json.loads((folder / MANIFEST).read_text())
    assert sorted(path.name for path in folder.iterdir()) == sorted([*body["files"], MANIFEST])
    assert golden_bytes(folder) == sum(path.stat().st_size for path in folder.iterdir())


def second(golden):
    """Another golden of the same cases: every file differs."""
    taps = golden.taps
    cases = tuple(
        replace(case, taps=tuple(replace(tap, limit_rms=tap.limit_rms + 1) for tap in case.taps))
        for case in golden.cases
    )
    return replace(golden, reason="second", cases=cases, taps=taps, nodes=golden.nodes[1:])


def killed_at(step: int, golden, folder) -> bool:
    """Write in a child that kills itself before its ``step``-th system call; True if it died."""
    child = os.fork()
    if child == 0:
        calls = 0

        def counted(original):
            def call(*args, **kwargs):
                nonlocal calls
                calls += 1
                if calls == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*args, **kwargs)

            return call

        code = 1
        try:
            for name in ("replace", "fsync", "unlink"):
                setattr(os, name, counted(getattr(os, name)))
            write_golden(golden, folder)
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


def test_killed_at_any_point_the_old_golden_or_the_new_one_is_whole(golden, tmp_path):
    folder = tmp_path / "g"
    old = write_golden(golden, folder)
    new = write_golden(second(golden), tmp_path / "new").digest
    seen = []
    for step in range(1, 60):
        write_golden(golden, folder)
        died = killed_at(step, second(golden), folder)
        digest = read_golden(folder).digest
        assert digest in (old.digest, new)
        seen.append(digest == new)
        if not died:
            break
    # Old until the manifest is replaced, new ever after; both kinds of kill have happened.
    assert seen == sorted(seen) and seen.count(False) > 5 and seen.count(True) > 2
    assert not died


def test_what_a_kill_left_behind_is_cleared_by_the_next_recording(golden, tmp_path):
    folder = tmp_path / "g"
    write_golden(golden, folder)
    assert killed_at(4, second(golden), folder)
    write_golden(second(golden), folder)
    body = json.loads((folder / MANIFEST).read_text())
    assert sorted(path.name for path in folder.iterdir()) == sorted([*body["files"], MANIFEST])
