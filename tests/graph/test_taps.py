"""The fate of every tap in a file: compared, fused into a named one, or missing. Never guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporter.core.errors import ArtifactError
from exporter.core.tensors import COMPARED, FUSED, MISSING
from exporter.graph.taps import count_fates, plan_taps, read_taps, tap_ops, write_taps
from tests.support.toys import index, mixed


def renamed(name: str, other: str):
    """The clean file with one value called otherwise, as a tool would that rebuilds nodes."""
    from tests.faults.editor import Editor

    editor = Editor(mixed().model, mixed().program)
    for node in editor.graph.node:
        node.input[:] = [other if value == name else value for value in node.input]
        node.output[:] = [other if value == name else value for value in node.output]
    return editor.model


def test_every_tensor_and_size_of_the_program_is_a_tap():
    program = mixed().program
    assert {op.name for op in tap_ops(program)} == {
        op.name for op in program.ops if op.kind != "tensors" and op.dtype
    }
    assert len(tap_ops(program)) > 20


def test_an_export_of_our_own_has_all_of_them():
    planned = plan_taps(mixed().program, index(mixed().model))
    counts = count_fates(planned)
    assert counts[MISSING] == 0
    assert counts[COMPARED] + counts[FUSED] == len(planned)
    assert [t.onnx_name for t in planned if t.output] == ["kept", "best", "y"] or {
        t.onnx_name for t in planned if t.output
    } == {"y", "kept", "best"}


def test_a_renamed_value_is_fused_into_the_next_one_and_said():
    name = next(op.name for op in mixed().program.ops if op.module == "first")
    planned = {t.tap.name: t for t in plan_taps(mixed().program, index(renamed(name, "other")))}
    assert planned[name].fate == FUSED
    assert planned[planned[name].into or ""].fate == COMPARED
    assert planned[planned[name].into or ""].tap.op == "aten.relu.default"


def test_a_value_behind_which_nothing_is_left_is_missing():
    planned = {t.onnx_name: t for t in plan_taps(mixed().program, index(renamed("best", "other")))}
    assert planned["best"].fate == MISSING
    assert planned["best"].into is None


def test_the_map_comes_back(tmp_path: Path):
    planned = plan_taps(mixed().program, index(mixed().model))
    write_taps(planned, tmp_path / "taps.json")
    assert read_taps(tmp_path / "taps.json") == {t.onnx_name: t.tap for t in planned}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"taps": [{"name": "x"}]}', '{"taps": 3}'])
def test_a_damaged_map_is_said(tmp_path: Path, text: str):
    (tmp_path / "taps.json").write_text(text)
    with pytest.raises(ArtifactError, match="tap map cannot be read"):
        read_taps(tmp_path / "taps.json")


def test_a_missing_map_is_said(tmp_path: Path):
    with pytest.raises(ArtifactError, match="run the pipeline again"):
        read_taps(tmp_path / "taps.json")


def test_an_interrupted_write_leaves_the_old_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    planned = plan_taps(mixed().program, index(mixed().model))
    write_taps(planned[:3], tmp_path / "taps.json")

    def dumps(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(json, "dumps", dumps)
    with pytest.raises(KeyboardInterrupt):
        write_taps(planned, tmp_path / "taps.json")
    assert len(read_taps(tmp_path / "taps.json")) == 3
