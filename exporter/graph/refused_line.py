"""The line of the user's code that a capture was refused for, and the smallest change of it.

torch names an axis that was frozen and seldom the line that froze it. It is the line that asked for
a size as a Python number, and it is seen while the trace runs: torch then notes that the size
equals that number.
"""

from __future__ import annotations

import contextlib
import linecache
import re
import traceback
from collections.abc import Iterator
from typing import Any

from torch.fx.experimental.symbolic_shapes import ShapeEnv

from exporter.models.user_code import is_users

_STEPS = (
    "a loop over an axis is written out, once for each step of the example: take a recurrent layer"
    " of torch.nn or operators on the whole axis, or export one step and hand on what it keeps as"
    " 'states'"
)
_CHANGES = (
    (re.compile(r"\bfor\b.*\bin\b|\bwhile\b|\.unbind\("), _STEPS),
    (
        re.compile(r"\.tolist\(|\.item\(|\.numpy\("),
        "keep it a tensor: leave .item(), .tolist() out",
    ),
    (
        re.compile(r"\bif\b|\belse\b|\bassert\b"),
        "one way of a branch is kept, that of the example: compute both and choose with"
        " torch.where, or give the choice to the constructor",
    ),
    (re.compile(r"\blen\("), "write X.shape[0] for len(X)"),
    (re.compile(r"\bint\("), "leave int() out: a size is a whole number, and // divides it"),
    (
        re.compile(r"\brepeat_interleave\(|\bnonzero\(|\bmasked_select\(|\bunique\("),
        "how much comes out depends on values: give the length as an input, or keep all and mask",
    ),
    (
        re.compile(r"\.(?:split|chunk|tensor_split)\("),
        "the number of parts is fixed by the example: reshape, or slice with sizes of the graph",
    ),
    (re.compile(r"\[[^\]]*:[^\]]*\]"), "do not cut to a number that is read: mask what is beyond"),
)
"""What of a line keeps a trace from following, with the change that helps; the first one counts."""


class FrozenSizes:
    """Sizes that a trace took for Python numbers, with the lines that asked for them."""

    def __init__(self) -> None:
        self._found: list[tuple[int, bool, str]] = []

    def note(self, guard: Any) -> None:
        """Remember a condition of torch's, if it says that a size is a number."""
        if type(guard).__name__ != "Equality":
            return
        sides = sorted(guard.args, key=lambda side: bool(side.is_Integer))
        if not sides[1].is_Integer or not sides[0].free_symbols:
            return
        for frame in reversed(traceback.extract_stack()):
            if is_users(frame.filename) and frame.lineno:
                line = f"{frame.filename}:{frame.lineno}"
                self._found.append((int(sides[1]), bool(sides[0].is_Symbol), line))
                return

    def line_of(self, size: int) -> str:
        """``file:line`` that froze an axis at a size; "" when none was seen."""
        own = [line for value, plain, line in self._found if plain and value == size]
        others = [line for _, plain, line in self._found if not plain]
        return next(iter([*own, *others]), "")


@contextlib.contextmanager
def frozen_sizes() -> Iterator[FrozenSizes]:
    """Watch a trace for sizes that become numbers; torch's function is put back afterwards."""
    frozen = FrozenSizes()
    logged = ShapeEnv._log_guard

    def noted(self: ShapeEnv, prefix: str, guard: Any, *args: Any, **kwargs: Any) -> None:
        if prefix == "eval":
            frozen.note(guard)
        logged(self, prefix, guard, *args, **kwargs)

    # torch's own signature names arguments that are only handed on here.
    setattr(ShapeEnv, "_log_guard", noted)  # noqa: B010
    try:
        yield frozen
    finally:
        ShapeEnv._log_guard = logged


def change_of(place: str) -> str:
    """The line at ``file:line`` and the smallest change of it that helps; "" when none is known."""
    file, _, number = place.rpartition(":")
    code = linecache.getline(file, int(number)).strip() if number.isdigit() else ""
    suggestion = next((change for pattern, change in _CHANGES if pattern.search(code)), "")
    return f"in '{code[:100]}', {suggestion}" if suggestion else ""
