"""Five values per tap, the same in windows of any budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from exporter.core.tensors import COMPARED
from exporter.execution import lockstep as module
from exporter.execution.deployment import Deployment
from exporter.execution.lockstep import Lockstep
from exporter.graph.taps import plan_taps
from exporter.interpret.run_program import run_program
from tests.support.toys import index, mixed, mixed_case

FIELDS = ("reference", "truth_free", "truth_local", "free", "forced")


def walk(budget: int, *, simplified: bool = False) -> dict[str, dict[str, Any]]:
    toy = mixed(simplified=simplified)
    graph = index(toy.model)
    lockstep = Lockstep(
        toy.program,
        graph,
        plan_taps(toy.program, graph),
        deployment=Deployment(threads=1),
        budget=budget,
    )
    found = {}
    for values in lockstep.walk(mixed_case().inputs):
        kept = {field: getattr(values, field) for field in FIELDS}
        found[values.planned.tap.name] = {
            **{k: None if v is None else v.copy() for k, v in kept.items()},
            "fate": values.planned.fate,
            "exact": values.exact,
            "sliced": values.slices is not None,
            "op": values.planned.tap.op,
        }
    return found


def test_every_tap_comes_in_the_order_of_the_program():
    toy = mixed()
    names = [tap.tap.name for tap in plan_taps(toy.program, index(toy.model))]
    assert list(walk(1 << 24)) == names


@pytest.mark.parametrize("simplified", [False, True])
@pytest.mark.parametrize("budget", [1, 10_000, 40_000])
def test_the_budget_changes_nothing(budget: int, simplified: bool):
    whole = walk(1 << 24, simplified=simplified)
    found = walk(budget, simplified=simplified)
    assert found.keys() == whole.keys()
    for name, tap in whole.items():
        for field in FIELDS:
            left, right = tap[field], found[name][field]
            if field.startswith("truth") and right is None:
                assert found[name]["sliced"], name  # too large: its rows come in slices
                continue
            assert (left is None) is (right is None), (name, field)
            if left is None:
                continue
            tolerance = 1e-6 if field in ("free", "forced") else 0
            np.testing.assert_allclose(right, left, rtol=0, atol=tolerance, err_msg=name)


def test_a_window_stays_small_however_large_the_budget_is(monkeypatch: pytest.MonkeyPatch):
    ran: list[int] = []
    advance = module.OnnxWindows.advance

    def counted(self: Any, names: list[str], *, last: bool) -> dict[str, np.ndarray]:
        ran.append(len(names))
        return advance(self, names, last=last)

    monkeypatch.setattr(module.OnnxWindows, "advance", counted)
    whole = walk(1 << 40)
    one = len(ran)
    monkeypatch.setattr(module, "_WINDOW", 10_000)
    found = walk(1 << 40)
    assert one == 2  # one window, free and forced
    assert len(ran) - one > 4
    assert found.keys() == whole.keys()
    # Only the budget decides what is too large for float64.
    assert not any(tap["sliced"] for tap in found.values())
    for name, tap in whole.items():
        np.testing.assert_allclose(found[name]["free"], tap["free"], rtol=0, atol=1e-6)


def test_the_reference_is_the_float32_run_and_the_truths_are_float64():
    found, outputs = walk(1 << 24), run_program(mixed().program, mixed_case().inputs)
    names = dict(zip(mixed().program.output_names, mixed().program.outputs, strict=True))
    for label, value in outputs.items():
        assert np.array_equal(found[names[label]]["reference"], value)
    for tap in found.values():
        if tap["reference"].dtype == np.float32 and not tap["exact"]:
            assert tap["truth_free"].dtype == tap["truth_local"].dtype == np.float64


def test_the_local_truth_is_nearer_to_the_reference_than_the_free_one():
    """Errors do not add up where every piece starts from the reference."""
    found = walk(1 << 24)
    last = found[mixed().program.outputs[0]]
    local = np.abs(last["truth_local"] - last["reference"]).max()
    free = np.abs(last["truth_free"] - last["reference"]).max()
    assert 0 <= local < free / 3


def test_ops_that_only_move_are_exact_and_equal_bit_for_bit():
    found = {n: t for n, t in walk(1 << 24).items() if t["exact"] and t["fate"] == COMPARED}
    moved = [t for t in found.values() if t["reference"].dtype == np.float32]
    assert moved
    assert all(np.array_equal(t["reference"], t["forced"]) for t in moved)
    assert not any(t["op"] == "aten.linear.default" for t in moved)


def test_what_the_file_lost_has_no_onnx_value():
    lost = [t for t in walk(1 << 24, simplified=True).values() if t["fate"] != COMPARED]
    assert lost
    assert all(t["free"] is None and t["forced"] is None for t in lost)
