"""There is one second opinion, everybody asks it, and overrides count there as anywhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exporter.core.tensors import Arrays
from exporter.interpret.run_program import run_program
from exporter.judge.outputs import judge_outputs, output_places, second_opinion
from exporter.judge.second_opinion import SecondOpinion, judge_again
from exporter.parity.compare import measure
from exporter.parity.measurement import Distance
from exporter.parity.status import Status
from exporter.parity.tolerance import LimitOverride, Policy
from exporter.parity.verdict import judge
from tests.support.toys import WIDTH, Toy, floats, make_toy, mixed_case

PACKAGE = Path(__file__).resolve().parents[2] / "exporter"
CASE = mixed_case()
OVERRIDES = {
    "by layer": ("second", True),
    "by a pattern of layers": ("seco*", True),
    "by value": ("linear_1", True),
    "of another layer": ("first", False),
    "none": ("", False),
}


def policy(pattern: str) -> Policy:
    held = LimitOverride(pattern=pattern, factor=60.0, reason="why") if pattern else None
    return Policy(overrides=(held,) if held else ())


class Two(nn.Module):
    """Two layers; what the second one gives is the output."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


@cache
def two() -> Toy:
    both = [floats(name, "batch", "frames", WIDTH) for name in ("x", "y")]
    return make_toy(Two(), {"x": torch.randn(3, 7, WIDTH)}, (both[0],), (both[1],))


@cache
def values() -> tuple[Arrays, np.ndarray]:
    """What PyTorch gives, taken as exact, and what a file gives that is a little off."""
    plain = run_program(two().program, CASE.inputs)["y"]
    rng = np.random.default_rng(0)
    wrong = plain + (rng.standard_normal(plain.shape) * np.abs(plain).max() * 3e-6).astype("f4")
    return {"reference": plain, "truth": plain.astype(np.float64)}, wrong


@pytest.mark.parametrize("kind", OVERRIDES)
def test_an_override_counts_in_a_second_opinion(kind: str):
    toy = two()
    (name,) = toy.program.outputs
    pattern, passes = OVERRIDES[kind]
    right, wrong = values()
    measured = measure(name, **right, actual=wrong)
    first = judge(measured, Policy(), layer="second")
    assert first.status is Status.FAIL
    opinion = SecondOpinion(toy.program, CASE.inputs, policy(pattern), [name])
    again, verdict = opinion.on(name, measured, first)
    assert (verdict.status is Status.PASS) is passes
    assert again.reference is not None and again.reference.max_abs  # PyTorch's own was 0 here
    cost = Distance(elements=1, max_abs=0.0, rms=0.0)
    one = judge_again(measured, cost, policy(pattern), layer="second")[1]
    assert (one.status is Status.PASS) is passes


def test_only_a_failure_that_rests_on_a_distance_is_asked_about():
    toy = two()
    (name,) = toy.program.outputs
    right, wrong = values()
    wide = policy("second")
    opinion = SecondOpinion(toy.program, CASE.inputs, wide, [name])
    lost = measure(name, **right, actual=wrong[:1])
    for held in (lost, measure(name, **right, actual=np.full_like(wrong, np.nan))):
        verdict = judge(held, Policy(), layer="second")
        assert verdict.status is Status.FAIL
        assert opinion.on(name, held, verdict) == (held, verdict)
    good = measure(name, **right, actual=right["reference"])
    verdict = judge(good, Policy())
    assert opinion.on(name, good, verdict) == (good, verdict)


@pytest.mark.parametrize("kind", ["by layer", "of another layer", "none"])
def test_an_override_of_a_layer_counts_for_the_outputs_that_it_gives(kind: str):
    """It did for the value inside of the file, and not for the same value as an output."""
    toy = two()
    pattern, passes = OVERRIDES[kind]
    held = policy(pattern)
    right, wrong = values()
    both = {key: {"y": value} for key, value in right.items()}
    results = judge_outputs(
        "a -> b",
        CASE,
        toy.outputs,
        **both,
        expected={},
        actual={"y": wrong},
        policy=held,
        places=output_places(toy.program),
    )
    assert (results[0].verdict.status is Status.PASS) is passes
    (again,) = second_opinion(
        toy.program, [replace(results[0], verdict=_failed(results[0]))], [CASE], held
    )
    assert (again.verdict.status is Status.PASS) is passes


def _failed(result):
    return replace(result.verdict, status=Status.FAIL, strain=2.0)


def calls(path: Path, *names: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            yield node


def test_nobody_else_gives_one():
    files = sorted(PACKAGE.rglob("*.py"))
    here = {
        str(path.relative_to(PACKAGE))
        for path in files
        if any(calls(path, "float32_cost", "with_cost"))
    }
    assert here == {"judge/second_opinion.py"}
    asking = [path for path in files if any(calls(path, "SecondOpinion", "judge_again"))]
    assert len(asking) >= 6  # layers, outputs, graph or kernel, debugging twice, goldens


def test_whoever_judges_says_of_which_layer():
    for folder in ("judge", "debugging", "flows", "golden"):
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            if "from exporter.parity.verdict import" not in path.read_text(encoding="utf-8"):
                continue
            for call in calls(path, "judge"):
                said = {keyword.arg for keyword in call.keywords}
                assert "layer" in said, f"{path.name}:{call.lineno} forgets the layer"
