"""Why torch.export refused a module, as data: axes with limits, frozen axes, values as numbers.

torch says what it found in a block of "Suggested fixes", one line per axis:

    samples = Dim('samples', min=50, max=209)     the axis has limits
    frames = 12                                   it was frozen at the example's size
    frames = 4*_frames                            one that depends on another size
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

_LIMITS = re.compile(r"^\s*(\w+) = Dim\('\w+', ([^)]*)\)\s*$", re.MULTILINE)
_BOUND = re.compile(r"(min|max)=(\d+)")
_FIXED = re.compile(r"^\s*(\w+) = (\d+)\s*$", re.MULTILINE)
_RELATED = re.compile(r"^\s*(\w+) = (.*[A-Za-z_].*)$", re.MULTILINE)
_MULTIPLE = re.compile(r"^(\d+)\*_\w+$")
_FIXES = "Suggested fixes:"
_FROZEN = ("specialized it to be a constant", "Constraints violated", "ConstraintViolation")
_SOLVERS = ("torch.fx.experimental.symbolic_shapes", "torch.utils._sympy.solve")
"""Modules of torch that read conditions on sizes."""
_NO_FUNCTION = re.compile(
    r"No ONNX function found for <OpOverload\(op='([\w.]+)', overload='(\w+)'"
)
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What torch.export said.

    Attributes:
        limits: axis -> lowest and highest size (None: no limit on that side).
        frozen: axis -> the only size that the trace is good for.
        related: axis -> what it has to be, in torch's words.
        from_data: True when a number that is read from data decides what is computed.
        unsolved: True when torch stops over its own conditions on sizes, which it cannot solve.
    """

    limits: Mapping[str, tuple[int | None, int | None]] = field(default_factory=dict)
    frozen: Mapping[str, int] = field(default_factory=dict)
    related: Mapping[str, str] = field(default_factory=dict)
    from_data: bool = False
    unsolved: bool = False

    @property
    def only_limits(self) -> bool:
        """True when narrower axes would do."""
        return bool(self.limits) and not (self.frozen or self.related or self.from_data)

    @property
    def only_unproven(self) -> bool:
        """True when torch wants sizes to be in some relation, and nothing worse."""
        return bool(self.related or self.unsolved) and not (self.frozen or self.from_data)

    def remedy(self) -> str | None:
        """What a user can do, in the names of the YAML; None when torch gave no reason."""
        for axis, size in self.frozen.items():
            return (
                f"the model's code freezes '{axis}' at the example's {size}: write {size} for it in"
                " the shapes of 'inputs', or keep Python numbers (len, int, a test on a size) out"
                " of what depends on it"
            )
        for axis, relation in self.related.items():
            text = re.sub(r"\b_(\w+)", r"n", relation)
            step = _MULTIPLE.match(relation)
            if step:
                return (
                    f"the model only takes '{axis}' = {text}: write axes: {{{axis}: {{multiple_of:"
                    f" {step[1]}}}}}, or pad inside of it"
                )
            return f"the model only takes '{axis}' = {text}: correct its code, or pad inside of it"
        if self.from_data:
            return (
                "a number that is read from a tensor decides what is computed there: use a mask or"
                " torch.where, or give the number as an input"
            )
        if self.limits:
            axes = ", ".join(f"{axis}: {{{_words(*ends)}}}" for axis, ends in self.limits.items())
            return f"the model does not take every size; write axes: {{{axes}}}"
        return None


def refusal_of(error: BaseException, axes: Collection[str]) -> Refusal:
    """Read what torch.export raised.

    Args:
        error: what it raised. axes: names of the axes that users know.
    """
    fixes = str(error).partition(_FIXES)[2]
    limits: dict[str, tuple[int | None, int | None]] = {}
    for name, bounds in _LIMITS.findall(fixes):
        bounds_by_name = {key: int(size) for key, size in _BOUND.findall(bounds)}
        if name in axes:
            limits[name] = (bounds_by_name.get("min"), bounds_by_name.get("max"))
    frozen = {name: int(size) for name, size in _FIXED.findall(fixes) if name in axes}
    related = {
        name: text
        for name, text in _RELATED.findall(fixes)
        if name in axes and not text.startswith("Dim(") and name not in frozen
    }
    return Refusal(
        limits=limits,
        frozen=frozen,
        related=related,
        from_data=_reads_data(error),
        unsolved=_is_unsolved(error),
    )


def freezes_an_axis(message: str) -> bool:
    """True when torch says that an axis which was declared dynamic became a constant."""
    return any(sign in message for sign in _FROZEN)


def lacks_kernel(message: str) -> bool:
    """True when torch says that an op is not written for a dtype."""
    return "not implemented for" in message


def untranslated_op(message: str) -> str:
    """The op that torch's exporter says it has no function for, ``aten.mode.default``; "" else."""
    named = _NO_FUNCTION.search(message)
    return ".".join(named.groups()) if named is not None else ""


def line_in(message: str) -> str:
    """``file:line`` of the innermost frame in a message of torch; "" without one."""
    frames = _FRAME.findall(message)
    return f"{PurePath(frames[-1][0]).name}:{frames[-1][1]}" if frames else ""


def _reads_data(error: BaseException | None) -> bool:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, GuardOnDataDependentSymNode):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _is_unsolved(error: BaseException) -> bool:
    """An assertion of torch's own that fails where it reads its conditions on sizes."""
    if not isinstance(error, AssertionError):
        return False
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].f_globals.get("__name__") in _SOLVERS


def _words(lowest: int | None, highest: int | None) -> str:
    ends = [("minimum", lowest), ("maximum", highest)]
    return ", ".join(f"{key}: {size}" for key, size in ends if size is not None)
