"""What the formats that a file holds cost: float64 PyTorch, stored where the file stores.

    float16        each value and weight moves by up to u of itself
    8 bits, 4 ...  by up to half a step of its grid: the file's own, or the one that the values'
                   range gives where the file takes it from them

Nothing comes from the file but formats and steps, and no step counts that is far larger than the
values need: a wrong scale does not widen its own limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exporter.core.tensors import COMPARED, PlannedTap
from exporter.graph.grids import Grid, QuantisedWeight
from exporter.graph.node_formats import NOTHING, Held, HeldPrecision
from exporter.graph.program import Op, Program, Ref
from exporter.graph.repairs.sequence_ops import OWN_TARGETS
from exporter.interpret.allowed_ops import moves_elements
from exporter.interpret.evaluate import call_double, is_floating, widen
from exporter.interpret.float32_cost import draw_costs
from exporter.interpret.margins import sources_of
from exporter.interpret.stepper import Draw, Values
from exporter.parity.measurement import Distance
from exporter.parity.tolerance import FORMATS, natural_scale

DRAWS = 4
CALIBRATED = 4.0
"""A static step may be this many times as large as the values of a case need: it was made for
louder ones. Beyond, it is a coarser format than it says."""
_SPARED = 2.0
"""A weight's step may be twice as large as needed: quantisers leave a bit unused that their
products could overflow with."""
_CLIPPED = 0.01
"""Share of the values that may lie outside of a grid: it was calibrated on others. More of them,
and it is no grid for these."""
_RECURRENT = OWN_TARGETS | {"aten.lstm.input", "aten.gru.input", "aten.rnn_tanh.input"}
_FED_BACK = 2.0
"""Quantised at every step, the hidden state costs about as much as its weights do."""
_STORED = ("float16", "bfloat16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What the formats of a file cost on one case, by name of the program's values.

    ``local``: of the piece by itself; ``free``: of everything in front of it as well.
    """

    local: Mapping[str, Distance]
    free: Mapping[str, Distance]


def held_of_ops(
    program: Program, precision: HeldPrecision, planned: Sequence[PlannedTap]
) -> dict[str, Held]:
    """What the piece holds in which each op of a program is computed; ops of plain pieces lack."""
    if not precision.formats:
        return {}
    known = {tap.tap.name: tap for tap in planned}
    names = {tap.tap.name: tap.onnx_name for tap in planned}
    precisions: dict[str, Held] = {}
    users: dict[str, str] = {}
    for op in reversed(program.ops):
        tap = known.get(op.name)
        if tap is not None and tap.fate == COMPARED:
            precisions[op.name] = precision.of(tap.onnx_name)
        else:
            behind = tap.into if tap is not None and tap.into else users.get(op.name, "")
            precisions[op.name] = precisions.get(behind, NOTHING)
            if behind in names:
                users.setdefault(op.name, behind)
        for name in op.refs():
            users[name] = op.name
    return {name: what for name, what in precisions.items() if what.formats}


def held_by_kind(program: Program, precision: HeldPrecision) -> dict[str, Held]:
    """The same for a file whose values cannot be told apart: by what its nodes hold in all.

    A weight counts as quantised where the file has a quantised one of as many elements; values
    that two activations are computed from, where it quantises with constant scales throughout.
    """
    whole = precision.whole
    if not whole.formats:
        return {}
    sizes = {weight.elements for weight in whole.weights}
    stored = bool(set(_STORED) & set(whole.formats))
    precisions: dict[str, Held] = {}
    for op in program.ops:
        weights = [program.tensors[program.weights[n]] for n in op.refs() if n in program.weights]
        quantised = any(weight.numel() in sizes for weight in weights)
        if quantised or stored or (precision.static and not moves_elements(op.target)):
            activations = whole.activations and (quantised or precision.static)
            precisions[op.name] = replace(whole, activations=activations)
    return precisions


def held_costs(
    program: Program,
    inputs: Mapping[str, np.ndarray],
    precisions: Mapping[str, Held],
    planned: Sequence[PlannedTap],
) -> Costs:
    """Draw the costs of one case at every compared tap, and at all that decisions rest on."""
    if not precisions:
        return Costs(local={}, free={})
    names = [tap.tap.name for tap in planned if tap.fate == COMPARED]
    ops = {op.name: op for op in program.ops}
    wanted = {*names, *(name for op in program.ops for name in sources_of(op, ops.get))}
    stored = {tap.tap.name: tap.onnx_name for tap in planned if tap.fate == COMPARED}
    draw = _drawing(program, precisions, stored)
    return Costs(
        local=draw_costs(program, inputs, wanted, draw, draws=DRAWS, cuts=frozenset(names)),
        free=draw_costs(program, inputs, wanted, draw, draws=DRAWS),
    )


def output_costs(
    program: Program,
    inputs: Mapping[str, np.ndarray],
    precisions: Mapping[str, Held],
    planned: Sequence[PlannedTap] = (),
) -> dict[str, Distance]:
    """The same at the outputs alone, by public name."""
    if not precisions:
        return {}
    stored = {tap.tap.name: tap.onnx_name for tap in planned if tap.fate == COMPARED}
    labels = dict(zip(program.outputs, program.output_names, strict=True))
    draw = _drawing(program, precisions, stored)
    costs = draw_costs(program, inputs, labels, draw, draws=DRAWS)
    return {labels[name]: cost for name, cost in costs.items()}


def _drawing(program: Program, precisions: Mapping[str, Held], stored: Mapping[str, str]) -> Draw:
    natural = {op.name: _natural(op) for op in program.ops}

    def draw(op: Op, drawn: Values, plain: Values, wide: Values, generator: torch.Generator) -> Any:
        def lookup(name: str) -> Any:
            return drawn[name] if name in drawn else wide.get(name, plain[name])

        here = precisions.get(op.name)
        if here is None:
            return call_double(op, lookup) if any(n in drawn for n in op.refs()) else None
        fed_back = _hidden(op)

        def fetch(name: str) -> Any:
            value = widen(lookup(name))
            if not is_floating(value) or not isinstance(value, Tensor):
                return value
            if name in program.weights:
                return _weight(value, here, generator, _FED_BACK if name in fed_back else 1.0)
            grids = here.sources.get(stored.get(name, name), ())
            if moves_elements(op.target) and not grids:
                return value
            return _value(value, here, grids, generator, natural.get(name, 0.0))

        result = call_double(op, fetch)
        grids = here.results if op.name in stored else ()
        if op.name not in stored and not moves_elements(op.target):
            grids = _nearest(result, here.inner)
        return _result(result, here, grids, generator, natural.get(op.name, 0.0))

    return draw


def _natural(op: Op) -> float:
    """The range that a quantiser takes for an op whatever its values are; 0.0 if there is none."""
    return 1.0 if op.target.startswith("aten.softmax") else natural_scale(op.target) or 0.0


def _hidden(op: Op) -> frozenset[str]:
    """Weights of a recurrent op that its own state is multiplied with."""
    if op.target not in _RECURRENT:
        return frozenset()
    lists = [arg for arg in op.args if isinstance(arg, tuple) and len(arg) > 2]
    refs = [arg for items in lists for arg in items if isinstance(arg, Ref)]
    return frozenset(ref.name for ref in refs[1::2])


def _weight(value: Tensor, precision: Held, generator: torch.Generator, times: float) -> Tensor:
    matching = [w for w in precision.weights if w.elements == value.numel()]
    if matching:
        step = torch.stack([_step(value, weight) for weight in matching]).amax(dim=0)
        return value + _uniform(value, generator) * step * times
    return _narrowed(value, precision, generator)


def _step(value: Tensor, weight: QuantisedWeight) -> Tensor:
    """Steps of a weight, [*shape]; never larger than its own range needs."""
    own = 2.0 * float(value.abs().max()) / (2**weight.bits - 1)
    if weight.steps is None or not weight.steps.size:
        return torch.full_like(value, own)
    own *= _SPARED
    steps = torch.from_numpy(np.ascontiguousarray(weight.steps, dtype=np.float64)).reshape(-1)
    axes = [axis for axis, size in enumerate(value.shape) if size == steps.numel()]
    if steps.numel() > 1 and axes:
        shape = [1] * value.dim()
        shape[axes[0]] = steps.numel()
        # Of a square weight nobody knows which way round it lies.
        rounded = steps.reshape(shape) if len(axes) == 1 else steps.max()
    else:
        rounded = steps.square().mean().sqrt()
    return rounded.clamp(max=own).expand_as(value)


def _value(
    value: Tensor,
    precision: Held,
    grids: tuple[Grid, ...],
    generator: torch.Generator,
    natural: float,
) -> Tensor:
    if not precision.activations or not value.numel():
        return _narrowed(value, precision, generator)
    for grid in grids:
        value = _on_grid(value, grid, generator, natural)
    if not grids:
        value = value + _uniform(value, generator) * (_range(value) / 255.0)
    return value


def _nearest(value: Any, grids: tuple[Grid, ...]) -> tuple[Grid, ...]:
    """The one of several grids that is made for such values; which is whose, no file says."""
    if not grids or not isinstance(value, Tensor):
        return ()
    size = math.log(max(_range(value), 1e-30))
    return (min(grids, key=lambda g: abs(math.log(max(g.ends[1] - g.ends[0], 1e-30)) - size)),)


def _result(
    value: Any, precision: Held, grids: tuple[Grid, ...], generator: torch.Generator, natural: float
) -> Any:
    if not isinstance(value, Tensor):
        return value
    for grid in grids:
        value = _on_grid(value, grid, generator, natural)
    return _narrowed(value, precision, generator)


def _on_grid(value: Tensor, grid: Grid, generator: torch.Generator, natural: float) -> Tensor:
    needed = max(_range(value), natural) / (grid.high - grid.low)
    low, high = grid.ends
    outside = float(((value < low) | (value > high)).double().mean()) if value.numel() else 0.0
    if outside <= _CLIPPED:
        value = value.clamp(low, high)
    step = min(grid.step, CALIBRATED * needed)
    return value + _uniform(value, generator) * step


def _range(value: Tensor) -> float:
    """From the smallest to the largest value, zero included, as quantisers take it."""
    finite = value[torch.isfinite(value)]
    if not finite.numel():
        return 0.0
    return max(float(finite.max()), 0.0) - min(float(finite.min()), 0.0)


def _narrowed(value: Tensor, precision: Held, generator: torch.Generator) -> Tensor:
    formats = [FORMATS[name] for name in precision.formats if name in _STORED]
    if not formats:
        return value
    coarsest = max(formats, key=lambda item: item.roundoff)
    moved = 2.0 * _uniform(value, generator) * (value.abs() * coarsest.roundoff)
    return torch.where(torch.isfinite(moved), value + moved, value)


def _uniform(value: Tensor, generator: torch.Generator) -> Tensor:
    """Between -0.5 and 0.5."""
    return torch.rand(value.shape, generator=generator, dtype=torch.float64) - 0.5
