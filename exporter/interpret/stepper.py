"""The one walk of a captured program: op by op in float32, and in float64 beside it.

Everybody who needs values of the program asks a :class:`Stepper`, so that all see the same ones::

    plain   float32: the program as it is
    free    float64 beside it, from the inputs on                      an error that has added up
    local   float64 that starts again from float32 at every cut        what one layer adds
    drawn   further values that are as correct as float32's            what rounding may cost

Integers and booleans are decisions that float32 has taken: all of them go on with these. Numbers
that are drawn at random are drawn anew in float64, unless ``hold_draws``; float32 draws the same
ones whoever is beside it. A value is dropped behind the last op that reads it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exporter.graph.program import Op, Program
from exporter.interpret.allowed_ops import moves_elements, resolve
from exporter.interpret.decisions import is_drawn
from exporter.interpret.evaluate import (
    call,
    call_double,
    is_floating,
    keep_decisions,
    operands_of,
    to_tensor,
    widen,
)
from exporter.interpret.linear_change import Multiply, add_change
from exporter.interpret.margins import Margin, choice_of, margin_of
from exporter.interpret.sliced_linear import SLICED_OPS, LinearSlices, operands

Values = dict[str, Any]
Draw = Callable[[Op, Values, Values, Values, torch.Generator], Any]
"""``draw(op, drawn, plain, exact, generator)``: the op's value in one draw, ``None`` for the exact
one. ``drawn`` holds this draw's values so far, ``plain`` float32's, ``exact`` float64's."""


def start_values(program: Program, inputs: Mapping[str, np.ndarray]) -> Values:
    """Inputs and weights of a program by name; inputs are copied."""
    values: Values = {name: to_tensor(inputs[name]) for name in program.inputs}
    return values | {name: program.tensors[key] for name, key in program.weights.items()}


def forward(
    program: Program,
    inputs: Mapping[str, np.ndarray],
    needed: Collection[str],
    then: Callable[[Op, Any, Values], Any],
    instead: Mapping[str, Callable[..., Any]] | None = None,
    given: Mapping[str, Any] | None = None,
) -> Values:
    """One run in float32 in which values may be changed on the way; returns the outputs.

    Args:
        needed: names of the ops that are computed (see :func:`behind`).
        given: values of ops that are not computed, and that those read which are.
        then: ``(op, its value, the values so far) -> the value that the run goes on with``.
        instead: by target, what computes an op in place of what it was captured as.
    """
    values = start_values(program, inputs) | dict(given or {})
    last = last_uses(program)
    for index, op in enumerate(program.ops):
        if op.name in needed:
            own = (instead or {}).get(op.target)
            if own is None:
                value = call(op, values.__getitem__)
            else:
                args, kwargs = operands_of(op, values.__getitem__)
                value = own(*args, **kwargs)
            values[op.name] = then(op, value, values)
        for name in last.get(index, ()):
            values.pop(name, None)
    return values


class Stepper:
    """The values of a program while it is walked.

    Args:
        program: what is walked.
        values: of inputs and weights, from :func:`start_values`; becomes ``plain``.
        wanted: names of values that the walk is for; nothing else is computed. None for all.
        free: names of values that are wanted from a free float64 run. wide: float64 values of
            inputs, for that run.
        cuts: names behind which ``local`` starts again from float32; None for no local values.
        fed: ``(name, float32 value) -> the value that local ones go on with behind a cut``.
        multiply: ``x @ weight.T``. With it local values of linear layers are computed that way,
            and free ones from the local ones.
        sliced: linear ops whose float64 values are not held where they take more than ``budget``
            bytes; they come by rows, from ``slices``.
        hold_draws: float64 takes the random numbers that float32 has drawn.
        draw, draws: how one of so many further values of an op is made. They start again at the
            cuts where there are any.
    """

    def __init__(
        self,
        program: Program,
        values: Values,
        *,
        wanted: Iterable[str] | None = None,
        free: Iterable[str] = (),
        wide: Mapping[str, np.ndarray] | None = None,
        cuts: Collection[str] | None = None,
        fed: Callable[[str, Any], Any] | None = None,
        multiply: Multiply | None = None,
        sliced: Collection[str] = frozenset(),
        budget: int = 0,
        hold_draws: bool = False,
        draw: Draw | None = None,
        draws: int = 0,
    ):
        self.program = program
        self.plain = values
        self.free: Values = {name: to_tensor(array) for name, array in (wide or {}).items()}
        self.local: Values = {}
        self.drawn: list[Values] = [{} for _ in range(draws)]
        self.slices: dict[str, LinearSlices] = {}
        self._free_names = behind(program, free)
        self._needed = None if wanted is None else behind(program, wanted) | self._free_names
        self._cuts = cuts
        self._fed = fed
        self._multiply = multiply
        self._sliced, self._budget = sliced, budget
        self._hold_draws = hold_draws
        self._draw = draw
        self._generators = [torch.Generator().manual_seed(seed) for seed in range(draws)]
        self._ops = {op.name: op for op in program.ops}
        self._last = last_uses(program)
        self._weights: Values = {}

    def steps(self) -> Iterator[tuple[Op, Any]]:
        """Every op that is needed, with its float32 value; valid until the next is asked for."""
        for index, op in enumerate(self.program.ops):
            if self._needed is None or op.name in self._needed:
                with torch.no_grad():
                    value = self.float32(op)
                    self.float64(op)
                yield op, value
                self.restart(op.name)
            self.release(index)

    def float32(self, op: Op) -> Any:
        """Compute ``plain`` of an op; what it reads must be there."""
        value = self.plain[op.name] = call(op, self.plain.__getitem__)
        return value

    def float64(self, op: Op) -> bool:
        """Compute all others of an op behind ``float32``; True when local has only moved bits."""
        value = self.plain[op.name]
        self._weights.clear()
        drawn = is_drawn(resolve(op.target), op.args)
        if not is_floating(value) or (drawn and self._hold_draws):
            self._hand_on(op.name, widen(value) if drawn else value)
            return False
        with _own_numbers() if drawn else contextlib.nullcontext():
            return self._computed(op, value)

    def restart(self, name: str) -> None:
        """Behind a cut everybody goes on with float32's value."""
        if self._cuts is not None and name in self._cuts:
            for store in (self.local, *self.drawn):
                store.pop(name, None)

    def release(self, index: int, *, float32: bool = True) -> tuple[str, ...]:
        """Drop what nobody reads behind the op at ``index``; gives the names.

        Args:
            float32: False leaves float32's values to the caller.
        """
        names = self._last.get(index, ())
        for name in names:
            for store in (self.free, self.local, self.slices, *self.drawn):
                store.pop(name, None)
            if float32:
                self.plain.pop(name, None)
        return names

    def read_free(self, name: str) -> Any:
        """The free float64 value; where there is none, float32's."""
        if name in self.slices:
            return self.slices[name].whole()
        return self.free[name] if name in self.free else self._widened(name)

    def read_local(self, name: str) -> Any:
        """What a piece reads: float32's value at a cut, else the piece's own float64 value."""
        if name in self.local:
            return self.local[name]
        value = self._widened(name)
        return value if self._fed is None else self._fed(name, value)

    def is_moved(self, name: str) -> bool:
        """True when the local value is float32's own, bit for bit."""
        return self.local.get(name) is self.plain[name]

    def margin(self, op: Op, *, local: bool = False) -> Callable[..., Margin] | None:
        """Computes the float64 margins of a decision (:func:`margin_of`); None for other ops."""
        truth, slices = (self.read_local, {}) if local else (self.read_free, self.slices)
        return margin_of(op, self.plain.__getitem__, truth, slices, self._ops.get)

    def _hand_on(self, name: str, value: Any) -> None:
        if self._cuts is not None:
            self.local[name] = value
        if name in self._free_names:
            self.free[name] = value

    def _computed(self, op: Op, value: Any) -> bool:
        if op.name in self._sliced and 2 * 8 * value.numel() > self._budget:
            self.slices[op.name] = self._by_rows(op, value)
            return False
        moved = False
        if self._cuts is not None:
            moved = moves_elements(op.target) and all(self._is_exact(name) for name in op.refs())
            self.local[op.name] = value if moved else self._local_value(op, value)
        if op.name in self._free_names:
            self.free[op.name] = self._free_value(op, value)
        if self._draw is not None:
            self._draw_all(self._draw, op, value)
        return moved

    def _local_value(self, op: Op, value: Any) -> Any:
        if self._multiply is None or op.target not in SLICED_OPS:
            return keep_decisions(call_double(op, self.read_local), value)
        x, weight, bias = operands(op)
        product = self._multiply(widen(self.read_local(x)), widen(self.read_local(weight)))
        return product if bias is None else product.add_(widen(self.read_local(bias)))

    def _free_value(self, op: Op, value: Any) -> Any:
        changed = None
        if self._multiply is not None and op.name in self.local and op.target in SLICED_OPS:
            x, weight, _ = operands(op)
            if weight in self.program.weights:
                changed = add_change(
                    self.local[op.name],
                    widen(self.read_free(x)),
                    self.read_local(x),
                    self.plain[weight],
                    self._multiply,
                )
        if changed is not None:
            return changed
        return keep_decisions(call_double(op, self.read_free), value)

    def _draw_all(self, draw: Draw, op: Op, value: Any) -> None:
        exact = self.free if self._cuts is None else self.local
        for store, generator in zip(self.drawn, self._generators, strict=True):
            new = draw(op, store, self.plain, exact, generator)
            if new is not None:
                store[op.name] = keep_decisions(new, value)

    def _by_rows(self, op: Op, value: Tensor) -> LinearSlices:
        x, weight, bias = operands(op)
        return LinearSlices(
            wide=widen(self.read_free(x)),
            local=widen(self.read_local(x)),
            weight=self._widened(weight),
            bias=None if bias is None else self._widened(bias),
            rows=max(1, self._budget // (4 * 8 * value.shape[-1])),
        )

    def _widened(self, name: str) -> Any:
        """A float32 value; of a weight in float64, widened once for all who read it here."""
        if name not in self.program.weights:
            return self.plain[name]
        if name not in self._weights:
            self._weights[name] = widen(self.plain[name])
        return self._weights[name]

    def _is_exact(self, name: str) -> bool:
        return name not in self.local or self.local[name] is self.plain[name]


def behind(program: Program, names: Iterable[str]) -> frozenset[str]:
    """Everything that ``names`` depend on, and themselves."""
    needed = set(names)
    for op in reversed(program.ops) if needed else ():
        if op.name in needed:
            needed.update(op.refs())
    return frozenset(needed)


def last_uses(program: Program) -> dict[int, tuple[str, ...]]:
    """Index of an op -> values that nobody reads behind it and that are not outputs.

    What indices were chosen from is read once more, when the indices are judged.
    """
    ops = {op.name: op for op in program.ops}
    final: dict[str, int] = {}
    for index, op in enumerate(program.ops):
        final[op.name] = index
        choice = choice_of(op, ops.get)
        for name in (*op.refs(), *(() if choice is None else (choice.source,))):
            final[name] = index
    released: dict[int, list[str]] = {}
    for name, index in final.items():
        if name not in program.outputs and name not in program.weights:
            released.setdefault(index, []).append(name)
    return {index: tuple(names) for index, names in released.items()}


@contextlib.contextmanager
def _own_numbers() -> Iterator[None]:
    """What is drawn here does not change what float32 draws next."""
    with torch.random.fork_rng(devices=[]):
        yield
