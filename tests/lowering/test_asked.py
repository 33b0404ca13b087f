"""Which precision ``lower`` takes: what is asked for, never something else in silence."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from exporter.config.schema import Lowering
from exporter.core.errors import UserInputError
from exporter.core.lock import locked
from exporter.core.output_folder import LOCK
from exporter.flows import lower as flow
from exporter.flows.lower import LowerOptions, lower
from tests.lowering import toy


def asked(section: str | None, **how: Any) -> str:
    precision = None if section is None else Lowering.model_validate({"to": section})
    pipeline: Any = SimpleNamespace(precision=precision, where=lambda *keys: "p.yaml")
    return flow._precision(pipeline, LowerOptions(**how))


@pytest.mark.parametrize(
    ("section", "how", "to"),
    [
        (None, {"to": "int8"}, "int8"),
        (None, {"static": True}, "int8_static"),
        (None, {"to": "int8", "static": True}, "int8_static"),
        ("float16", {}, "float16"),
        ("float16", {"to": "int8"}, "int8"),
        ("float16", {"to": "int8", "static": True}, "int8_static"),
        ("int8", {"static": True}, "int8_static"),
        ("int8_static", {"static": True}, "int8_static"),
        ("int8_static", {"to": "int8"}, "int8"),
    ],
)
def test_what_is_asked_for_is_taken(section: str | None, how: dict[str, Any], to: str):
    assert asked(section, **how) == to


@pytest.mark.parametrize(
    ("section", "how", "said"),
    [
        (None, {}, "no precision"),
        (None, {"to": "float16", "static": True}, "--to says float16"),
        (None, {"to": "mixed", "static": True}, "--to says mixed"),
        ("float16", {"static": True}, "'precision' says float16"),
        ("int4", {"static": True}, "'precision' says int4"),
        ("int8", {"to": "int4", "static": True}, "--to says int4"),
    ],
)
def test_static_takes_no_other_precisions_place(
    section: str | None, how: dict[str, Any], said: str
):
    with pytest.raises(UserInputError, match=said):
        asked(section, **how)


def test_a_list_for_another_precision_is_said(tmp_path: Path):
    path = toy.project(tmp_path, "precision: {to: int8, keep_float32: [model.loud]}\n")
    ready = flow.prepare(path, flow.RunOptions(trust=True, output_dir=tmp_path / "out"))
    other = flow._Lowering(ready, "float16", LowerOptions(), flow.Progress(quiet=True))
    assert other._fixed() is None
    assert "is for int8" in other.notes[0]
    same = flow._Lowering(ready, "int8", LowerOptions(), flow.Progress(quiet=True))
    assert same._fixed() == ("model.loud",)
    assert not same.notes


def test_all_is_written_while_the_folder_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, out, taken = toy.project(tmp_path), tmp_path / "out", []

    class Done:
        def __init__(self, *given: Any):
            pass

        def run(self) -> Any:
            return self

        def done(self) -> Any:
            return SimpleNamespace(file=out / "lower" / "model.int8.onnx")

    def finished(*given: Any) -> None:
        with locked(out / LOCK) as free:
            taken.append(free)

    monkeypatch.setattr(flow, "_Lowering", Done)
    monkeypatch.setattr(flow, "_verified", lambda *given: None)
    monkeypatch.setattr(flow, "_finished", finished)
    lower(path, LowerOptions(to="int8"), output_dir=out, trust=True)
    assert taken == [False]
