"""Sizes that are chosen to break a file: which are tried, and what a size that stops it means."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from exporter.core.tensors import Axis, TensorSpec
from exporter.graph.guards import Guard
from exporter.judge import sweep as sweeping

AXES = (Axis(name="batch"), Axis(name="frames", minimum=4))
SPEC = TensorSpec(name="x", dtype="float32", shape=("batch", "frames", 8), axes=AXES)
EXAMPLE = {"batch": 3, "frames": 40}
FRAMES = ("Mul", ("size", "x", 0), ("size", "x", 1))


def swept(monkeypatch: Any, most: int, *, stops: Any) -> sweeping.Swept:
    """A sweep of a program that rests on ``batch * frames <= most``, and stops at some sizes."""
    guard = Guard(condition=("Le", FRAMES, most), source="", by_model=True)
    program = SimpleNamespace(guards=(guard,), fallback="")

    def run(subject: Any, make: Any, at: dict[str, int]) -> Any:
        case = SimpleNamespace(name=f"{at['batch']} x {at['frames']}")
        return SimpleNamespace(case=case, stopped="stops" if stops(at) else "")

    monkeypatch.setattr(sweeping, "_run", run)
    subject: Any = SimpleNamespace(program=program, inputs=(SPEC,), module=None)
    sizes: Any = SimpleNamespace(example=EXAMPLE, make=None)
    return sweeping.sweep(subject, sizes, lambda _: [])


def test_beyond_what_it_rests_on_a_program_that_stops_has_a_limit(monkeypatch: Any):
    found = swept(monkeypatch, 1000, stops=lambda at: at["batch"] * at["frames"] > 1000)
    assert not found.runs and found.beyond == ("batch 26, frames 40", "batch 3, frames 334")
    assert "does not take batch 26, frames 40" in " ".join(found.notes([]))


def test_at_any_other_size_it_is_not_the_module(monkeypatch: Any):
    found = swept(monkeypatch, 1000, stops=lambda at: at["frames"] == 41)
    assert found.runs and not found.beyond


def test_what_is_broken_far_away_alone_is_said(monkeypatch: Any):
    found = swept(monkeypatch, 10**7, stops=lambda _: False)
    assert not found.beyond and len(found.far) == 1 and "10000000" in found.far[0]
