"""Effects of errors, all at once, against what an error does when it is put in."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from exporter.graph.program import Program, from_exported
from exporter.interpret.evaluate import call
from exporter.interpret.flipped import Flips
from exporter.interpret.propagated import _with_gradients, propagate, targets_of
from exporter.interpret.stepper import start_values


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.front = nn.Linear(6, 12)
        self.back = nn.Linear(12, 5)
        self.recurrent = nn.LSTM(12, 12, batch_first=True)

    def forward(self, x):
        y = torch.tanh(self.front(x))
        y, _ = self.recurrent(y)
        logits = self.back(y)
        return logits, logits.argmax(dim=-1)


@pytest.fixture(scope="module")
def program() -> Program:
    torch.manual_seed(0)
    exported = torch.export.export(Net().eval(), (torch.zeros(2, 7, 6),)).run_decompositions({})
    return from_exported(exported, ("logits", "tokens"))


@pytest.fixture(scope="module")
def inputs(program: Program) -> dict[str, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(2, 7, 6)).astype(np.float32)
    return {program.inputs[0]: x}


def run(program: Program, inputs: dict, moved: dict[str, np.ndarray]) -> np.ndarray:
    """The logits when errors are put in."""
    values = start_values(program, inputs)
    with torch.no_grad():
        for op in program.ops:
            values[op.name] = call(op, values.__getitem__)
            if op.name in moved:
                values[op.name] = values[op.name] + torch.from_numpy(moved[op.name])
    return values[program.outputs[0]].numpy()


def errors_of(program: Program, inputs: dict, size: float) -> dict[str, np.ndarray]:
    """An error at every value of the layers."""
    values = start_values(program, inputs)
    rng = np.random.default_rng(1)
    found = {}
    with torch.no_grad():
        for op in program.ops:
            values[op.name] = call(op, values.__getitem__)
            value = values[op.name]
            if isinstance(value, torch.Tensor) and value.is_floating_point() and value.dim() == 3:
                noise = rng.normal(size=tuple(value.shape)) * size
                found[op.name] = noise.astype(np.float32)
    return found


def test_the_prediction_is_what_an_error_does(program: Program, inputs: dict):
    errors = errors_of(program, inputs, 1e-3)
    assert len(errors) > 3
    found = propagate(program, inputs, errors, targets_of(program), directions=256)
    plain = run(program, inputs, {})
    scale = np.sqrt(np.mean(plain.astype(np.float64) ** 2))
    for name, predicted in zip(found.layers, found.damage, strict=True):
        apart = run(program, inputs, {name: errors[name]}) - plain
        measured = np.sqrt(np.mean(apart.astype(np.float64) ** 2)) / scale
        # The logits count twice: as an output, and as what the tokens rest on; once here.
        assert predicted == pytest.approx(measured, rel=0.25, abs=1e-7), name


def test_a_shift_of_a_decision_has_its_sign(program: Program, inputs: dict):
    errors = errors_of(program, inputs, 1e-3)
    name = program.outputs[0]
    rows = propagate(
        program, inputs, {name: errors[name]}, targets_of(program), directions=1, decisions=4
    )
    assert rows.margins.shape == (4,)
    assert (np.diff(rows.margins) >= 0).all()
    before, after = run(program, inputs, {}), run(program, inputs, {name: errors[name]})
    order = np.argsort(-before.reshape(-1, 5), axis=1)[:, :2]
    lines = np.arange(len(order))

    def gaps(logits: np.ndarray) -> np.ndarray:
        flat = logits.reshape(-1, 5).astype(np.float64)
        return flat[lines, order[:, 0]] - flat[lines, order[:, 1]]

    nearest = np.argsort(gaps(before))[:4]
    moved = (gaps(after) - gaps(before))[nearest]
    assert rows.shifts[:, 0] == pytest.approx(moved, rel=1e-2, abs=1e-6)


def test_a_decision_that_is_an_output_matters(program: Program, inputs: dict):
    flips = Flips(program, inputs)
    assert flips.matters(program.outputs[1], 3)


class Masked(nn.Module):
    """The mark of a row counts where its second half is no copy of its first."""

    def forward(self, x):
        front = torch.tanh(x)
        marks = front[:, :1] > 0.0
        chosen = torch.where(marks, front[:, 1:3], front[:, 3:])
        return chosen.argmax(dim=-1), marks.sum()


def test_only_what_is_behind_a_decision_is_run_again(monkeypatch: pytest.MonkeyPatch):
    exported = torch.export.export(Masked().eval(), (torch.zeros(3, 5),)).run_decompositions({})
    program = from_exported(exported, ("tokens", "count"))
    rows = [[0.1, 1, 0, 0, 1], [0.1, 1, 0, 1, 0], [-0.1, 0, 1, 1, 0]]
    inputs = {program.inputs[0]: np.array(rows, np.float32)}
    flips = Flips(program, inputs)
    called: list[str] = []

    def counted(op: Any, read: Any) -> Any:
        called.append(op.target)
        return call(op, read)

    monkeypatch.setattr("exporter.interpret.stepper.call", counted)
    (marks,) = [op.name for op in program.ops if op.target.startswith("aten.gt.")]
    (tokens,) = [op.name for op in program.ops if op.target.startswith("aten.argmax.")]
    # The count of the marks sees every mark.
    assert [flips.matters(marks, n) for n in range(3)] == [True] * 3
    assert [flips.matters(tokens, n) for n in range(3)] == [True] * 3
    assert called.count("aten.tanh.default") == 2  # once for each decision, not for each element
    alone = replace(program, outputs=program.outputs[:1], output_names=("tokens",))
    flips = Flips(alone, inputs)
    assert [flips.matters(marks, n) for n in range(3)] == [True, False, True]


class Segmented(nn.Module):
    """Whether there is a mark decides what the network sees, as a VAD's segments do."""

    def forward(self, x):
        heard = (x[:, 0] > 0.0).any()
        return torch.cos(x * heard.float()).argmax(dim=-1)


def test_what_changes_marks_and_no_segment_runs_no_network(monkeypatch: pytest.MonkeyPatch):
    exported = torch.export.export(Segmented().eval(), (torch.zeros(3, 4),)).run_decompositions({})
    program = from_exported(exported, ("tokens",))
    called: list[str] = []

    def counted(op: Any, read: Any) -> Any:
        called.append(op.target)
        return call(op, read)

    monkeypatch.setattr("exporter.interpret.stepper.call", counted)
    (marks,) = [op.name for op in program.ops if op.target.startswith("aten.gt.")]
    rows = np.array([[0.1, 1, 2, 3], [0.2, 3, 2, 0], [-0.1, 2, 0, 1]], np.float32)
    flips = Flips(program, {program.inputs[0]: rows})
    assert [flips.matters(marks, n) for n in range(3)] == [False] * 3
    assert called.count("aten.cos.default") == 1
    rows[1, 0] = -0.2  # one mark is left: without it the network hears nothing
    flips = Flips(program, {program.inputs[0]: rows})
    assert [flips.matters(marks, n) for n in range(3)] == [True, False, False]


def test_parts_that_torch_takes_a_deviation_into_have_gradients():
    """``std`` becomes these in a program; as they are, a backward pass stops at them."""
    names = ("prims.var.default", "prims.broadcast_in_dim.default")
    program: Any = SimpleNamespace(ops=[SimpleNamespace(target=name) for name in names])
    table = _with_gradients(program)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    meant = torch.ops.prims.broadcast_in_dim(torch.ops.prims.var(x, (1,), 1.0), (3, 4), (0,))
    held = x.clone().requires_grad_()
    found = table[names[1]](table[names[0]](held, (1,), 1.0), (3, 4), (0,))
    assert torch.equal(found.detach(), meant)
    (gradient,) = torch.autograd.grad(found.sum(), held)
    assert bool((gradient != 0).any())
