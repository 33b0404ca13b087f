"""What a large error does is beyond the first order, and is asked of a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from exporter.graph.program import Program, from_exported
from exporter.interpret.propagated import Alone, Effects, propagate, targets_of
from exporter.lowering.choice import choose, predicted
from exporter.lowering.effects import effects_of
from exporter.lowering.layers import Layer, by_layer


class Magnitudes(nn.Module):
    """Two parts of a spectrum to their magnitude: near zero an error adds whatever its sign is."""

    def forward(self, x):
        real, imaginary = x * 2.0, x * 3.0
        return torch.sqrt(real * real + imaginary * imaginary)


@pytest.fixture(scope="module")
def program() -> Program:
    exported = torch.export.export(Magnitudes(), (torch.zeros(1, 400),)).run_decompositions({})
    return from_exported(exported, ("y",))


@pytest.fixture(scope="module")
def inputs(program: Program) -> dict[str, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(1, 400)).astype(np.float32)
    return {program.inputs[0]: x}


def layer_of(program: Program) -> Layer:
    """The first product."""
    name = program.ops[0].name
    return Layer(name=name, nodes=(), kinds=(), taps=(name,), module="", weights=0)


def error(size: float) -> np.ndarray:
    return (size * np.random.default_rng(1).normal(size=(1, 400))).astype(np.float32)


def measured(program: Program, inputs: dict[str, np.ndarray], held: np.ndarray) -> float:
    """Of the outputs with and without the error in the real part."""
    x = inputs[program.inputs[0]].astype(np.float64)
    plain = np.sqrt((2 * x) ** 2 + (3 * x) ** 2)
    moved = np.sqrt((2 * x + held) ** 2 + (3 * x) ** 2)
    return float(np.sqrt(np.mean((moved - plain) ** 2) / np.mean(plain**2)))


def test_a_large_error_is_what_a_run_says(program: Program, inputs: dict[str, np.ndarray]):
    layer, held = layer_of(program), error(20.0)
    targets = targets_of(program)
    meant = measured(program, inputs, held)
    first = propagate(program, inputs, {layer.name: held}, targets, directions=64)
    assert first.damage[0] != pytest.approx(meant, rel=0.2)
    found, runs = effects_of(program, inputs, [layer], {layer.name: held}, targets, directions=64)
    assert found.damage[0] == pytest.approx(meant, rel=1e-4)
    assert runs == 1 + 64 + 2


def test_a_small_error_takes_no_run(program: Program, inputs: dict[str, np.ndarray]):
    layer, held = layer_of(program), error(0.005)
    found, runs = effects_of(
        program, inputs, [layer], {layer.name: held}, targets_of(program), directions=64
    )
    assert runs == 1 + 64
    assert found.damage[0] == pytest.approx(measured(program, inputs, held), rel=0.3)


def test_nothing_put_in_does_nothing(program: Program, inputs: dict[str, np.ndarray]):
    alone = Alone(program, inputs, targets_of(program))
    assert alone.effect_of({}) == 0.0
    assert alone.effect_of({layer_of(program).name: np.full((1, 400), np.nan)}) == float("inf")


def test_what_is_no_number_is_one_layers_alone():
    """On silence a magnitude has no gradient; forty other layers have one."""
    names = tuple(f"tap{n}" for n in range(41))
    rows = np.ones((8, 41))
    rows[:, 0] = np.nan
    effects = Effects(layers=names, spread=rows, shifts=2.0 * rows, margins=np.ones(8))
    layers = [
        Layer(name=f"layer{n}", nodes=(), kinds=(), taps=taps, module="", weights=0)
        for n, taps in enumerate([*((name,) for name in names), names[1:3], ("elsewhere",)])
    ]
    found = by_layer(layers, effects)
    assert np.isnan(found.damage[0])
    assert found.damage[1:41] == pytest.approx(1.0)
    assert found.damage[41:].tolist() == [2.0, 0.0]
    assert np.isfinite(found.shifts[:, 1:]).all()


def test_what_a_layer_reads_is_rounded_by_it(program: Program, inputs: dict[str, np.ndarray]):
    """The layer behind the first product does what rounding the product does, and nothing else."""
    first, second = program.ops[0].name, program.ops[2].name
    assert first in program.ops[2].refs()
    reader = Layer(
        name=second, nodes=(), kinds=(), taps=(second,), module="", weights=0, reads=(first,)
    )
    nothing = {name: np.zeros((1, 400), np.float32) for name in (first, second)}
    for size in (0.005, 20.0):
        casts = {first: error(size)}
        found, _ = effects_of(
            program,
            inputs,
            [layer_of(program), reader],
            nothing,
            targets_of(program),
            directions=64,
            casts=casts,
        )
        meant = measured(program, inputs, casts[first])
        assert found.damage == pytest.approx([0.0, meant], rel=0.3)


class Chosen(nn.Module):
    """As much of a signal as is loud."""

    def forward(self, x):
        loud = x * 2.0
        rows = torch.nonzero(loud > 1.0).flatten()
        return (x[rows] * 3.0).relu()


def test_an_error_behind_a_decision_that_turned_has_no_place():
    x = torch.tensor([0.0, 0.3, 0.9, 0.6])
    exported = torch.export.export(Chosen(), (x,)).run_decompositions({})
    program = from_exported(exported, ("y",))
    first, last = program.ops[0].name, program.outputs[0]
    errors = {first: np.full(4, 1.5, np.float32), last: np.full(2, 0.1, np.float32)}
    inputs = {program.inputs[0]: x.numpy()}
    found = propagate(
        program, inputs, errors, targets_of(program), directions=4, injected=[first, last]
    )
    place = found.layers.index(last)
    assert np.isnan(found.spread[:, place]).all()
    alone = Alone(program, inputs, targets_of(program))
    assert np.isfinite(alone.effect_of(errors))
    # Such a layer stays.
    gain = np.ones(2)
    assert place not in choose([found], gain, 1e9).lowered
    assert np.isfinite(predicted([found], gain).error)
