"""What errors inside a program do to what comes out of it: all of them at once, by backward passes.

    inputs -> op -> op + e_1 -> op -> op + e_2 -> ... -> targets t

To first order the targets move by sum_l J_l e_l. For a direction v_j at the targets one backward
pass gives J_l^T v_j of every l, and with it

    a_jl = v_j . J_l e_l

Random directions: mean_j a_jl^2 is the squared length of J_l e_l, and A^T A / k holds every pair's
interaction as well (Hutchinson's estimator). A direction that is one difference of two candidates
of a decision: a_jl is how far the layer moves that decision, with its sign.

Where errors are injected on the way forward, the program is linearised where the lowered file is,
not where PyTorch is. What is large is beyond the first order: ``Alone`` asks a run of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exporter.graph.program import Op, Program, Ref
from exporter.graph.repairs.fourier_ops import FOURIER
from exporter.graph.repairs.sequence_ops import OWN_TARGETS, differentiable
from exporter.interpret.allowed_ops import resolve
from exporter.interpret.margins import choice_of, decides
from exporter.interpret.stepper import behind, forward

_WITH_GRADIENTS: dict[str, Callable[..., Any]] = {
    # A gradient ends at these, and the error of a layer does not.
    **dict.fromkeys(("aten.detach.default", "aten.detach_.default"), lambda value: value),
    **{target: differentiable(target) for target in OWN_TARGETS},
    **FOURIER,
}
_NEAREST = 48
"""Of each decision, so many elements with the smallest margins are looked at."""
_EQUAL = ("aten.eq.", "aten.ne.")
_FLOATS = ("float32", "float64", "float16", "bfloat16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What matters of a program.

    Attributes:
        values: names of floating values: outputs, and what decisions that are output rest on.
        decisions: names of ops that decide, and whose decision reaches an output.
    """

    values: tuple[str, ...]
    decisions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What the errors of layers do, on one case.

    Attributes:
        layers: names, in the order of the columns.
        spread: [k, L], of random directions at the targets, each target in units of its own rms:
            sqrt(mean over k) is the relative error that a layer's error makes at the targets.
        shifts: [m, L], of the decisions with the smallest margins: how far each layer moves the
            distance between the first and the second candidate.
        margins: [m], the distances themselves.
    """

    layers: tuple[str, ...]
    spread: np.ndarray
    shifts: np.ndarray
    margins: np.ndarray

    @property
    def damage(self) -> np.ndarray:
        """[L]: relative rms error at the targets, layer by layer."""
        return np.sqrt(np.mean(np.square(self.spread), axis=0))


def targets_of(program: Program) -> Targets:
    """The floating outputs, and the sources of decisions that outputs depend on."""
    ops = {op.name: op for op in program.ops}
    floating = [n for n in program.outputs if n in ops and ops[n].dtype in _FLOATS]
    whole = [n for n in program.outputs if n in ops and n not in floating]
    values, decisions = list(floating), []
    needed = behind(program, whole) - behind(program, floating)
    for op in program.ops:
        # Whether two numbers are the same is asked of lengths and marks, not of what is rounded.
        if op.name not in needed or not decides(op) or op.target.startswith(_EQUAL):
            continue
        source = _source(op, ops)
        if source is None:
            continue
        decisions.append(op.name)
        values.append(source)
    return Targets(values=tuple(dict.fromkeys(values)), decisions=tuple(decisions))


def _source(op: Op, ops: Mapping[str, Op]) -> str | None:
    """The floating value that a decision is taken on, where it is computed."""
    choice = choice_of(op, ops.get)
    names = [choice.source] if choice else [a.name for a in op.args[:2] if isinstance(a, Ref)]
    held = [name for name in names if name in ops and ops[name].dtype in _FLOATS]
    return held[0] if held else None


def propagate(
    program: Program,
    inputs: Mapping[str, np.ndarray],
    errors: Mapping[str, np.ndarray],
    targets: Targets,
    *,
    directions: int,
    injected: Collection[str] = (),
    decisions: int = 0,
    counts: Callable[[str, int, float], bool] = lambda name, index, gap: True,
    seed: int = 0,
    at: Mapping[str, str] | None = None,
) -> Effects:
    """Find what every error does at the targets.

    Args:
        errors: value of the program -> its own error, of its shape.
        at: of errors that are named otherwise, their values.
        directions: random ones, k. decisions: how many of the smallest margins, m.
        injected: values whose errors are added on the way forward. Where they turn a decision and
            a value is of another size, what its error does is NaN.
        counts: whether an element of a decision, at this distance, is one to look at.
    """
    layers = tuple(errors)
    value_of = {name: name for name in layers} | dict(at or {})
    values = frozenset(value_of.values())
    added = {name: errors[name] for name in injected if name in errors}
    held, ends = _forward(program, inputs, values, targets, added)
    places = [n for n, name in enumerate(layers) if value_of[name] in held]
    column_of = {name: n for n, name in enumerate(held)}
    columns = [column_of[value_of[layers[n]]] for n in places]
    moves = [torch.from_numpy(np.array(errors[layers[n]], np.float32)) for n in places]

    def project(goal: Tensor) -> np.ndarray:
        row = np.zeros(len(layers))
        if goal.requires_grad and held:
            found = torch.autograd.grad(
                goal, list(held.values()), retain_graph=True, allow_unused=True
            )
            for place, column, move in zip(places, columns, moves, strict=True):
                gradient = found[column]
                if gradient is not None and gradient.numel() != move.numel():
                    row[place] = float("nan")
                elif gradient is not None:
                    flat = gradient.reshape(-1)
                    row[place] = float(torch.dot(flat, move.to(flat.dtype).reshape(-1)))
        return row

    generator = torch.Generator().manual_seed(seed)
    floating = [ends[n] for n in targets.values if n in ends and ends[n].numel()]
    rows = [project(_random(floating, generator)) for _ in range(directions)]
    picked: list[Tensor] = []
    for name, index, gap in sorted(_gaps(program, targets, ends), key=lambda held: held[2].item()):
        if len(picked) < decisions and counts(name, index, gap.item()):
            picked.append(gap)
    shifts = [project(gap) for gap in picked]
    margins = np.array([float(gap.detach()) for gap in picked])
    return Effects(
        layers=layers,
        spread=np.array(rows).reshape(len(rows), len(layers)),
        shifts=np.array(shifts).reshape(len(shifts), len(layers)),
        margins=margins,
    )


class Alone:
    """What errors do by themselves on one case: a run with them, held against one without."""

    def __init__(self, program: Program, inputs: Mapping[str, np.ndarray], targets: Targets):
        self._program, self._inputs, self._names = program, inputs, targets.values
        self._needed = behind(program, targets.values)
        self._plain = self._run({})
        self.runs = 1

    def effect_of(self, errors: Mapping[str, np.ndarray]) -> float:
        """Relative rms error at the targets, in the units of ``Effects``; inf where it is none.

        A target of another size stands behind a decision that went another way; it is left out.
        """
        self.runs += 1
        total = 0.0
        for name, value in self._run(errors).items():
            plain = self._plain[name]
            if value.shape != plain.shape or not plain.numel():
                continue
            size = float(plain.square().mean().clamp_min(1e-60))
            total += float((value - plain).square().mean()) / size
        return total**0.5 if np.isfinite(total) else float("inf")

    def _run(self, errors: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}

        def take(op: Op, value: Any, _: Mapping[str, Any]) -> Any:
            if op.name in errors and isinstance(value, Tensor):
                value = _moved(value, errors[op.name])
            if op.name in self._names and isinstance(value, Tensor):
                found[op.name] = value.double()
            return value

        with torch.no_grad():
            forward(self._program, self._inputs, self._needed, take)
        return found


def _moved(value: Tensor, error: np.ndarray) -> Tensor:
    """A value with an error, which has no place where an earlier one has turned a decision."""
    if value.shape != error.shape:
        return value
    return value + torch.from_numpy(np.array(error)).to(value.dtype)


def _forward(
    program: Program,
    inputs: Mapping[str, np.ndarray],
    values: frozenset[str],
    targets: Targets,
    injected: Mapping[str, np.ndarray],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Run the program with gradients; returns the values with errors, and what targets need."""
    wanted = {*targets.values, *targets.decisions}
    needed = behind(program, wanted)
    ops = {op.name: op for op in program.ops}
    wanted |= {s for n in targets.decisions for s in ops[n].refs()}
    held: dict[str, Tensor] = {}
    ends: dict[str, Tensor] = {}

    def take(op: Op, value: Any, _: Mapping[str, Any]) -> Any:
        if op.name in values and isinstance(value, Tensor) and value.is_floating_point():
            if op.name in injected:
                value = _moved(value, injected[op.name])
            if not value.requires_grad:
                value = value.detach().requires_grad_()
            held[op.name] = value
        if op.name in wanted and isinstance(value, Tensor):
            ends[op.name] = value
        return value

    with torch.enable_grad():
        forward(program, inputs, needed, take, _with_gradients(program))
    return held, ends


def _with_gradients(program: Program) -> dict[str, Callable[..., Any]]:
    """What has to be computed another way; torch's own parts are what they are made of."""
    parts = {op.target for op in program.ops if op.target.startswith("prims.")}
    return _WITH_GRADIENTS | {name: resolve(name).impl_aten for name in parts}


def _random(values: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    total = torch.zeros(())
    for value in values:
        scale = value.detach().double().square().mean().sqrt().clamp_min(1e-30)
        draw = torch.randn(value.shape, generator=generator, dtype=torch.float32)
        weight = draw / (float(scale) * value.numel() ** 0.5)
        total = total + (value.float() * weight).sum()
    return total


def _gaps(
    program: Program, targets: Targets, ends: Mapping[str, Tensor]
) -> list[tuple[str, int, Tensor]]:
    """Differences of the two best candidates, one per element of every decision."""
    ops = {op.name: op for op in program.ops}
    found: list[tuple[str, int, Tensor]] = []
    for name in targets.decisions:
        op = ops[name]
        choice = choice_of(op, ops.get)
        source = _source(op, ops)
        if source is None or source not in ends or not ends[source].numel():
            continue
        value = ends[source].float()
        if choice is not None:
            flat = value.flatten() if choice.axis is None else value.movedim(choice.axis, -1)
            if flat.shape[-1] < 2:
                continue
            flat = -flat if choice.lowest else flat
            best = torch.topk(flat, 2, dim=-1).values
            gap = (best[..., 0] - best[..., 1]).flatten()
        else:
            sides = [ends.get(a.name) if isinstance(a, Ref) else a for a in op.args[:2]]
            if any(side is None for side in sides):
                continue
            left, right = (torch.as_tensor(side) for side in sides)
            gap = (left - right).float().abs().flatten()
        smallest = gap.detach().topk(min(_NEAREST, gap.numel()), largest=False).indices
        found += [(name, int(index), gap[index]) for index in smallest]
    return found
