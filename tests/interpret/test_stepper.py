"""One walk of a captured program: whatever is beside it, everybody sees the same values."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import exporter
from exporter.core.tensors import COMPARED
from exporter.debugging.torch_values import boundary, region_of, truth_of
from exporter.execution.deployment import Deployment
from exporter.execution.lockstep import Lockstep
from exporter.graph.program import Op, Program
from exporter.graph.taps import plan_taps
from exporter.interpret.evaluate import call, to_array
from exporter.interpret.run_program import run_program, run_with_truth, values_of, walk_taps
from exporter.interpret.stepper import Stepper, behind, last_uses, start_values
from tests.support.toys import Toy, floats, index, make_toy, mixed, mixed_case, spec

PACKAGE = Path(exporter.__file__).parent
INPUTS = {
    "x": np.random.default_rng(5).standard_normal((3, 9, 16)).astype(np.float32),
    "ids": np.random.default_rng(6).integers(0, 9, (3, 9)),
}


class Odd(nn.Module):
    """Integers that decide, numbers that are drawn, ops with several results."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Embedding(9, 16)
        self.gru = nn.GRU(16, 8, batch_first=True, bidirectional=True)
        self.out = nn.Linear(16, 40)

    def forward(self, x: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
        x = x + self.rows(ids) + 0.1 * torch.randn_like(x)
        x, _ = self.gru(x)
        left, right = x.chunk(2, -1)
        best, place = torch.cat([right, left], -1).max(-1)
        top, places = torch.topk(x + 0.1 * torch.randn_like(x), 3, dim=-1)
        return self.out(x).log_softmax(-1), best, place, places, top.sum(-1)


@cache
def odd() -> Toy:
    draw = torch.Generator().manual_seed(1)
    return make_toy(
        Odd(),
        {
            "x": torch.randn(2, 7, 16, generator=draw),
            "ids": torch.randint(0, 9, (2, 7), generator=draw),
        },
        (floats("x", "batch", "frames", 16), spec("ids", "int64", "batch", "frames")),
        (
            floats("y", "batch", "frames", 40),
            floats("best", "batch", "frames"),
            spec("place", "int64", "batch", "frames"),
            spec("places", "int64", "batch", "frames", 3),
            floats("top", "batch", "frames"),
        ),
    )


PROGRAMS = {
    "mixed": lambda: (mixed(), dict(mixed_case().inputs)),
    "odd": lambda: (odd(), INPUTS),
}


@pytest.fixture(params=sorted(PROGRAMS))
def toy(request: pytest.FixtureRequest) -> tuple[Toy, dict[str, np.ndarray]]:
    return PROGRAMS[request.param]()


def walked(program: Program, inputs: dict[str, np.ndarray], **policy: Any) -> dict[str, Any]:
    """Copies of all values, by store and name."""
    torch.manual_seed(0)
    stepper = Stepper(program, start_values(program, inputs), **policy)
    found: dict[str, Any] = {"plain": {}, "free": {}, "local": {}}
    for op, value in stepper.steps():
        if op.kind != "tensor":
            continue
        found["plain"][op.name] = to_array(value).copy()
        found["free"][op.name] = to_array(stepper.read_free(op.name)).copy()
        if "cuts" in policy:
            found["local"][op.name] = to_array(stepper.read_local(op.name)).copy()
    return found


def shaken(op: Op, drawn: Any, plain: Any, exact: Any, generator: torch.Generator) -> Any:
    return call(op, lambda name: drawn.get(name, plain[name]))


def policies(program: Program) -> dict[str, dict[str, Any]]:
    names = [op.name for op in program.ops]
    return {
        "free": {"free": names},
        "free, draws held": {"free": names, "hold_draws": True},
        "local": {"cuts": names[::2]},
        "local without cuts": {"cuts": ()},
        "both": {"free": names, "cuts": names[::3], "multiply": nn.functional.linear},
        "drawn": {"free": names, "draw": shaken, "draws": 2},
        "some": {"wanted": names[: len(names) // 2], "free": names[:3]},
    }


def test_whatever_is_beside_it_float32_is_the_same(toy: Any):
    made, inputs = toy
    alone = walked(made.program, inputs)["plain"]
    for label, policy in policies(made.program).items():
        found = walked(made.program, inputs, **policy)["plain"]
        assert found and found.keys() <= alone.keys()
        assert (found.keys() == alone.keys()) is (label != "some")
        for name, value in found.items():
            assert np.array_equal(value, alone[name]), (label, name)


def test_local_values_without_cuts_are_the_free_ones(toy: Any):
    made, inputs = toy
    names = [op.name for op in made.program.ops]
    hold = {"hold_draws": True}
    free = walked(made.program, inputs, free=names, **hold)["free"]
    local = walked(made.program, inputs, cuts=(), **hold)["local"]
    both = walked(made.program, inputs, free=names, cuts=(), multiply=nn.functional.linear, **hold)
    assert any(value.dtype == np.float64 for value in local.values())
    for name, value in free.items():
        assert np.array_equal(local[name], value), name
        assert np.array_equal(both["local"][name], both["free"][name]), name


def test_behind_a_cut_local_values_start_from_float32():
    program, inputs = mixed().program, dict(mixed_case().inputs)
    names = [op.name for op in program.ops]
    everywhere = walked(program, inputs, free=names, cuts=names)
    for op in program.ops:
        if op.target == "aten.linear.default":
            x, *weights = op.refs()
            given = [torch.from_numpy(everywhere["plain"][x])]
            given += [program.tensors[program.weights[name]] for name in weights]
            exact = nn.functional.linear(*(value.double() for value in given)).numpy()
            apart = {s: np.abs(everywhere[s][op.name] - exact).max() for s in ("local", "free")}
            assert apart["local"] < 1e-13 < apart["free"]


def test_every_reader_of_the_program_sees_the_same(toy: Any):
    made, inputs = toy
    program = made.program

    def seeded(function: Any, *args: Any) -> Any:
        torch.manual_seed(0)
        return function(*args)

    plain = walked(program, inputs)["plain"]
    outputs = {
        label: plain[n] for n, label in zip(program.outputs, program.output_names, strict=True)
    }
    ran, (beside, _) = seeded(run_program, program, inputs), seeded(run_with_truth, program, inputs)
    taps: Iterator[Any] = walk_taps(program, inputs)
    torch.manual_seed(0)
    for values in taps:
        if values.op.name in plain:
            assert np.array_equal(values.reference, plain[values.op.name])
    kept, _ = seeded(values_of, program, inputs, list(plain))
    assert all(np.array_equal(to_array(kept[name]), value) for name, value in plain.items())
    for label, value in outputs.items():
        assert np.array_equal(ran[label], value) and np.array_equal(beside[label], value)


class Placed(nn.Module):
    """Positions that a simplifier folds into a constant of the file."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        angles = torch.arange(16, dtype=torch.float32) / 7.0
        return (self.second(self.first(x) + torch.sin(angles) * torch.exp(-angles)),)


@cache
def placed() -> Toy:
    x = (floats("x", "frames", 16),)
    return make_toy(
        Placed(), {"x": torch.randn(5, 16)}, x, (floats("y", "frames", 16),), simplified=True
    )


@pytest.mark.parametrize("made", [mixed, placed])
def test_the_debugger_s_truth_is_that_of_the_layer_walk(made: Any):
    made, inputs = made(), dict(mixed_case().inputs)
    if made is placed():
        inputs["x"] = inputs["x"][0]
    graph = index(made.model)
    planned = plan_taps(made.program, graph)
    walk = Lockstep(made.program, graph, planned, deployment=Deployment(threads=1), budget=1 << 24)
    layers = {v.planned.tap.name: (np.array(v.truth_local), v.exact) for v in walk.walk(inputs)}
    cut = {t.onnx_name for t in planned if t.fate == COMPARED and not t.constant}
    pair: Any = SimpleNamespace(program=made.program, planned=planned, cut=cut)
    stops = boundary(pair)
    names = [t.tap.name for t in planned]
    reference, _ = values_of(made.program, inputs, [op.name for op in made.program.ops])
    reference |= start_values(made.program, inputs)
    assert {op.name for op in region_of(pair, names, stops).ops} >= set(names)
    truth = truth_of(pair, names, reference, stops)
    assert len(layers) > 5
    assert made is mixed() or any(tap.constant for tap in planned)
    for name, (value, exact) in layers.items():
        assert np.array_equal(to_array(truth.values[name]), value), name
        assert (name in truth.exact) is exact


def test_margins_know_the_indices_that_come_as_a_second_result():
    found = {v.op.name: v.margin for v in walk_taps(odd().program, INPUTS) if v.margin}
    places = set(odd().program.outputs[2:4])
    assert places <= found.keys()


def test_only_what_was_asked_for_is_computed():
    program = mixed().program
    first = next(op.name for op in program.ops if op.target == "aten.layer_norm.default")
    stepper = Stepper(program, start_values(program, mixed_case().inputs), wanted=[first])
    assert {op.name for op, _ in stepper.steps()} == behind(program, [first]) & {
        op.name for op in program.ops
    }


def test_nothing_is_held_behind_the_last_reader(toy: Any):
    made, inputs = toy
    program = made.program
    names = [op.name for op in program.ops]
    start = start_values(program, inputs)
    stepper = Stepper(program, start, free=names, cuts=names[::2], draw=shaken, draws=1)
    for _ in stepper.steps():
        pass
    ends = {*program.outputs, *program.weights}
    assert set(stepper.plain) == ends
    for store in (stepper.free, stepper.local, *stepper.drawn):
        assert set(store) <= set(program.outputs)
    released = [name for held in last_uses(program).values() for name in held]
    assert len(released) == len(set(released))


_HOME = ("exporter.interpret.evaluate", "exporter.interpret.stepper")
ONLY_IN = {
    # One op in float64, and when its value is dropped: who needs these walks a program.
    "call_double": {"interpret/evaluate.py", "interpret/stepper.py", "interpret/format_cost.py"},
    "last_uses": {"interpret/stepper.py"},
    # One op in float32: of these none walks a program (a draw, and a move, of one op).
    "call": {
        "interpret/evaluate.py",
        "interpret/stepper.py",
        "interpret/float32_cost.py",
        "execution/stored_form.py",
    },
}


def second_interpreters(files: dict[str, str]) -> list[str]:
    """Places outside of the stepper that evaluate ops of a program."""
    found = []
    for path, source in files.items():
        for node in ast.walk(ast.parse(source)):
            names: list[str] = []
            line = getattr(node, "lineno", 0)
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith(_HOME):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.FunctionDef):
                names = [node.name] if node.name != "call" else []
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                # `target.call(inputs)` is another thing of the same name.
                names = [node.func.attr] if node.func.attr != "call" else []
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Call):
                # resolve(op.target)(*args)
                names = ["call"] if getattr(node.func.func, "id", "") == "resolve" else []
            bad = [name for name in names if path not in ONLY_IN.get(name, {path})]
            found += [f"{path}:{line}: {name}" for name in bad]
    return found


def test_no_second_interpreter_grows():
    files = {
        str(path.relative_to(PACKAGE)): path.read_text(encoding="utf-8")
        for path in PACKAGE.rglob("*.py")
    }
    assert len(files) > 200
    assert not second_interpreters(files)


@pytest.mark.parametrize(
    "source",
    [
        "from exporter.interpret.evaluate import call",
        "from exporter.interpret.evaluate import to_array, call_double",
        "from exporter.interpret import evaluate\nevaluate.call_double(op, values.get)",
        "from exporter.interpret import stepper\nlast = stepper.last_uses(program)",
        "def last_uses(program): ...",
        "for op in program.ops:\n    values[op.name] = resolve(op.target)(*op.args)",
    ],
)
def test_a_second_interpreter_is_found(source: str):
    assert second_interpreters({"debugging/own.py": source})
    assert not second_interpreters({"debugging/own.py": "target.call(inputs)\nself.call(1)"})
