"""Windows of any size compute the same taps; one piece that stops leaves the others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from exporter.core.tensors import COMPARED, PlannedTap
from exporter.execution import onnx_windows
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import WindowRun
from exporter.execution.onnx_windows import OnnxWindows
from exporter.graph.taps import plan_taps
from exporter.interpret.evaluate import call, to_array, to_tensor
from tests.faults.editor import Editor
from tests.support.toys import index, mixed, mixed_case

INPUTS = mixed_case().inputs
DEPLOYMENT = Deployment(threads=1)


def planned(model: onnx.ModelProto) -> list[PlannedTap]:
    found = plan_taps(mixed().program, index(model))
    return [tap for tap in found if tap.fate == COMPARED and not tap.constant]


def reference() -> dict[str, np.ndarray]:
    """Values of all ops in float32, by ONNX name."""
    program = mixed().program
    values = {name: program.tensors[key] for name, key in program.weights.items()}
    values |= {name: to_tensor(INPUTS[name]) for name in program.inputs}
    found = {}
    for op in program.ops:
        values[op.name] = call(op, values.__getitem__)
        if op.kind != "tensors":
            found[program.onnx_name(op.name)] = to_array(values[op.name])
    return found


def walked(
    model: onnx.ModelProto,
    size: int,
    *,
    supply: Callable[[str], np.ndarray] | None = None,
    sessions: dict[tuple, WindowRun] | None = None,
) -> tuple[dict[str, np.ndarray], OnnxWindows]:
    names = [tap.onnx_name for tap in planned(model)]
    taps = frozenset(names)
    windows = OnnxWindows(
        index(model),
        INPUTS,
        DEPLOYMENT,
        taps=taps,
        forced=taps if supply else frozenset(),
        supply=supply,
        sessions=sessions,
    )
    found: dict[str, np.ndarray] = {}
    for start in range(0, len(names), size):
        here = names[start : start + size]
        found |= windows.advance(here, last=start + size >= len(names))
    return found, windows


@pytest.mark.parametrize("size", [1, 2, 5, 17])
@pytest.mark.parametrize("forced", [False, True])
def test_windows_of_any_size_give_what_one_window_gives(size: int, forced: bool):
    model = mixed().model
    supply = reference().__getitem__ if forced else None
    whole, _ = walked(model, 1000, supply=supply)
    found, _ = walked(model, size, supply=supply)
    assert found.keys() == whole.keys() == {tap.onnx_name for tap in planned(model)}
    for name, value in whole.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)


def test_forced_values_are_the_graph_s_own_and_not_what_was_fed():
    supplied = reference()
    found, _ = walked(mixed().model, 7, supply=lambda name: supplied[name] + 0)
    floats = [n for n, v in found.items() if v.dtype == np.float32]
    assert any(not np.array_equal(found[name], supplied[name]) for name in floats)
    for name in floats:
        np.testing.assert_allclose(found[name], supplied[name], atol=1e-5, err_msg=name)


def test_every_piece_reads_what_is_fed():
    """A piece whose input is off by one shows it, and nobody else does."""
    supplied = reference()
    tap = next(tap for tap in planned(mixed().model) if tap.tap.op == "aten.relu.default")
    clean, _ = walked(mixed().model, 1000, supply=supplied.__getitem__)
    wrong = {**supplied, tap.onnx_name: supplied[tap.onnx_name] + 1}
    found, _ = walked(mixed().model, 1000, supply=wrong.__getitem__)
    moved = [name for name in clean if not np.array_equal(clean[name], found[name])]
    readers = [op for op in mixed().program.ops if tap.tap.name in op.refs()]
    assert [op.name for op in readers] == moved


def test_sessions_are_built_once_for_many_cases():
    sessions: dict[tuple, WindowRun] = {}
    walked(mixed().model, 10, sessions=sessions)
    held = dict(sessions)
    assert held
    walked(mixed().model, 10, sessions=sessions)
    assert sessions == held


def test_no_more_sessions_are_kept_than_fit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnx_windows, "_KEPT_SESSIONS", 3)
    sessions: dict[tuple, WindowRun] = {}
    clean, _ = walked(mixed().model, 1000)
    for _ in range(2):
        found, _ = walked(mixed().model, 1, sessions=sessions)
        assert len(sessions) == 3
        for name, value in clean.items():
            np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)


def stopping() -> tuple[onnx.ModelProto, str]:
    """A file in which the second layer's product has the wrong size when it runs."""
    editor = Editor(mixed().model, mixed().program)
    product = editor.behind(editor.tap("second", "linear"), "MatMul")
    editor.insert(product, 0, "Slice", [0], [31], [2])
    return editor.model, editor.tap("second", "linear")


def test_a_piece_that_stops_is_named_and_the_others_are_still_compared():
    model, broken = stopping()
    found, windows = walked(model, 1000, supply=reference().__getitem__)
    assert list(windows.stopped) == [broken]
    assert "MatMul" in windows.stopped[broken]
    others = {tap.onnx_name for tap in planned(model)} - {broken}
    assert found.keys() == others
    clean, _ = walked(mixed().model, 1000, supply=reference().__getitem__)
    for name in others:
        np.testing.assert_allclose(found[name], clean[name], atol=1e-6, err_msg=name)


def test_a_free_run_that_stops_has_nothing_behind_that_place():
    model, broken = stopping()
    found, windows = walked(model, 5)
    assert "MatMul" in windows.stopped[""]
    assert broken not in found
    assert found  # windows before it
