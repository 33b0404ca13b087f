"""What a float32 run decided and drew, so that a float64 run of the same code does the same.

A mask, an index or a count that is computed from floats may hang on rounding, and every later
shape on it. Numbers that are drawn at random are others in another precision. So the float32 run
is watched while it runs, op by op, and the float64 run takes from it, in the same order:

    values that are no floats, computed from floats     x > 0, argmax, topk's indices, x.long()
    values that are drawn                               randn, bernoulli, dropout that is on
    numbers that leave a tensor (``.item()``)           only when asked to: see ``Replay.numbers``
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exporter.interpret.control_flow import OpMode

SEED = 0
"""Of the numbers that a run draws."""

_OFF_BY_ARGUMENT = ("scaled_dot_product", "lstm", "gru", "rnn")
"""Seeded by their tag, for a dropout of their own that is off in eval."""


class DecisionsDifferError(RuntimeError):
    """The float64 run does not take the way of the float32 run."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One op that decided or drew: its name, and what it gave (a tuple for several results).

    ``drawn`` says that its floats were drawn.
    """

    op: str
    values: tuple[Any, ...]
    drawn: bool = False


@dataclass(slots=True)
class Decisions:
    """All decisions of one run, in order. ``draws`` names the ops that drew numbers."""

    taken: list[Decision] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    draws: list[str] = field(default_factory=list)


class Recording(OpMode):
    """Watches a run and notes its decisions; changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.decisions = Decisions()

    def op(self, func: Any, args: Any, kwargs: Any) -> Any:
        result = func(*args, **kwargs)
        if is_drawn(func, args):
            self.decisions.draws.append(str(func))
            self._note(func, result, drawn=True)
        elif isinstance(result, Tensor) and result.is_floating_point():
            pass
        elif isinstance(result, float):
            self.decisions.numbers.append(result)
        elif decides(func, args, kwargs, result):
            self._note(func, result, drawn=False)
        return result

    def _note(self, func: Any, result: Any, *, drawn: bool) -> None:
        values = tuple(
            value.detach().clone() if isinstance(value, Tensor) else value
            for value in _parts(result)
        )
        kept = values if drawn else tuple(None if _floating(v) else v for v in values)
        self.decisions.taken.append(Decision(str(func), kept, drawn))


class Replay:
    """Hands a run's decisions out again.

    Args:
        numbers: also hand out the floats that left a tensor: where they decide (``if x.max() >
            limit``), a run with its own would take another way.
    """

    def __init__(self, decisions: Decisions, *, numbers: bool = False) -> None:
        self._taken = iter(decisions.taken)
        self._numbers = iter(decisions.numbers) if numbers else None
        self._left = len(decisions.taken)

    def instead(self, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
        """What an op gave in the float64 run, with the float32 run's decisions in it.

        Raises:
            DecisionsDifferError: another op decides here than in the float32 run, or otherwise
                shaped.
        """
        drawn = is_drawn(func, args)
        if isinstance(result, float):
            return result if self._numbers is None else next(self._numbers, result)
        if not drawn and not decides(func, args, kwargs, result):
            return result
        taken = next(self._taken, None)
        self._left -= 1
        if taken is None or taken.op != str(func):
            other = "nothing more" if taken is None else taken.op
            raise DecisionsDifferError(f"{func} decides, where float32 had {other}")
        parts = list(_parts(result))
        if len(parts) != len(taken.values):
            raise DecisionsDifferError(f"{func} gives {len(parts)} values, not {len(taken.values)}")
        for index, (value, kept) in enumerate(zip(parts, taken.values, strict=True)):
            if isinstance(kept, Tensor):
                parts[index] = _taken_over(func, value, kept)
            elif kept is not None:
                parts[index] = kept
        return parts[0] if not isinstance(result, (tuple, list)) else type(result)(parts)

    def finish(self) -> None:
        """Raise ``DecisionsDifferError`` when the float32 run had decided more."""
        if self._left:
            raise DecisionsDifferError(f"{self._left} decisions of float32 did not come up")


def _taken_over(func: Any, value: Any, kept: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        raise DecisionsDifferError(f"{func} gives no tensor")
    if func._schema.is_mutable and value.shape == kept.shape:
        return value.copy_(kept)
    # The shape of what is found (``nonzero``) hangs on the decision itself.
    if value.dim() != kept.dim():
        raise DecisionsDifferError(f"{func} decides in {value.dim()} axes, {kept.dim()} before")
    return kept.double() if kept.is_floating_point() else kept.clone()


def is_drawn(func: Any, args: Any) -> bool:
    """True for a call that draws random numbers."""
    if torch.Tag.nondeterministic_seeded not in getattr(func, "tags", ()):
        return False
    name = str(func)
    if any(kind in name for kind in _OFF_BY_ARGUMENT):
        return False
    if "dropout" in name:
        return not (len(args) > 1 and (args[1] == 0.0 or False in args[1:]))
    return True


def decides(func: Any, args: Any, kwargs: Any, tensor_value: Any) -> bool:
    """True when something that is no float comes from floats."""
    if not any(_discrete(value) for value in _parts(tensor_value)):
        return False
    values = list(_flat((args, tuple(kwargs.values()))))
    if func._schema.is_mutable:
        # Floats written into integers; what is written to in place of itself decides nothing.
        return any(_floating(value) for value in values[1:]) and not _floating(values[0])
    return any(_floating(value) for value in values)


def _parts(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _discrete(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() and not value.is_complex()
    return isinstance(value, (bool, int))


def _floating(value: Any) -> bool:
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _flat(item)
    else:
        yield value


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """All generators that a model may draw from start at ``seed``; they are put back."""
    python, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)
