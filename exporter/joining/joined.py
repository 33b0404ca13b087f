"""What was found to be one and the same value in two files, and how."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from exporter.joining.restored import Restored


class How(StrEnum):
    """What led to a join; numbers have proved every one of them."""

    INTERFACE = "interface"
    """An output of both files, by its public name."""
    NAME = "name"
    """The value has kept its name."""
    SCOPE = "scope"
    """The value stands in the module that a legacy exporter has written into its name."""
    STRUCTURE = "structure"
    """The same operator on the same weights and the same joined values."""
    NUMBERS = "numbers"
    """Nothing but its numbers."""


class Proof(StrEnum):
    """What the numbers have shown."""

    VALUE = "value"
    """Both files compute the same numbers there."""
    ROLE = "role"
    """They do not, yet fed the one's numbers there, the other computes the same behind it."""
    NONE = "none"
    """An output of both files; numbers bear out nothing."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How one file holds another's value: axes in another order, then in another shape.

    ``perm`` is the order of the axes that have more than one element; None as they stand.
    """

    perm: tuple[int, ...] | None = None

    def apply(self, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The expected file's array as the actual file holds it, in its ``shape``."""
        return np.ascontiguousarray(self.turned(array)).reshape(shape)

    def undo(self, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The actual file's array in the expected file's ``shape`` and order."""
        if self.perm is None:
            return array.reshape(shape)
        sizes = [size for size in shape if size != 1]
        turned = array.reshape([sizes[axis] for axis in self.perm])
        return np.ascontiguousarray(turned.transpose(np.argsort(self.perm))).reshape(shape)

    def turned(self, array: np.ndarray) -> np.ndarray:
        """A view of the expected file's array in this order of axes, those of size one left out."""
        if self.perm is None:
            return array
        squeezed = array.reshape([size for size in array.shape if size != 1])
        return squeezed.transpose(self.perm)


AS_IT_IS = Layout()


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """One value in two files.

    Attributes:
        expected, actual: its names there.
        how: what led to it. proof: what the numbers have shown.
        layout: how the actual file holds it.
        shapes: of both, on the first set of inputs.
        distance: relative rms distance of the two, the larger of all sets of inputs; with
            everything in front as the expected file has it.
        shapes: of the expected and the actual value, on the first set of inputs.
    """

    expected: str
    actual: str
    how: How
    proof: Proof
    layout: Layout = AS_IT_IS
    distance: float = 0.0
    shapes: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Otherwise:
    """A decision: its value in either file, and the operator that takes it there."""

    expected: str
    actual: str
    expected_op: str
    actual_op: str

    def words(self) -> str:
        """``LessOrEqual decides '...' where the other file has Less ...``."""
        return (
            f"{self.actual_op} computes '{self.actual}' where the other file has"
            f" {self.expected_op}, of the same values: they decide alike on all that was run here"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """A value of either file that is not joined, and the operator that keeps a part of it back.

    Attributes:
        expected, actual: the joined value behind, which agrees on all that was run, and does not
            where both files are fed other numbers at the nearest joined values.
        value: what is kept back in part, of the actual file where it has one.
        own: the same of the expected file, which tells the layer; the value behind, where the
            expected file keeps nothing back.
    """

    expected: str
    actual: str
    value: str
    own: str
    op: str

    def words(self) -> str:
        """``what Relu keeps back of 'v' differs ...``."""
        return (
            f"what {self.op} keeps back of '{self.value}' differs: both files agree at"
            f" '{self.actual}' on all that was run here, and not on other numbers in front of it"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The joins of two files.

    Attributes:
        joins: in the order of the actual file.
        ambiguous: values of the actual file that agree with several of the expected file's that
            are not the same; they are not joined.
        alone: further floating values of the actual file that agree with none.
        candidates: floating values of the actual file that depend on its inputs.
        unseen: values of the actual file that outputs depend on, that are not joined and have only
            decisions compared behind them, which are the same for many values: nothing speaks for
            these.
        missing: values of either file that nothing could compute in float64 -> why.
        cut_off: values of the actual file that go below zero, where a quantiser has taken the Relu
            away: nobody reads what is there.
        otherwise: decisions that both files take alike here, by different operators.
        covered: values in front of an operator that hides how the files differ.
        restored: constants of an actual file in a lower precision; None where it is in none.
    """

    joins: tuple[Join, ...]
    ambiguous: tuple[str, ...]
    alone: tuple[str, ...]
    candidates: int
    unseen: tuple[str, ...]
    missing: dict[str, str]
    restored: Restored | None = None
    otherwise: tuple[Otherwise, ...] = ()
    covered: tuple[Covered, ...] = ()
    cut_off: frozenset[str] = frozenset()

    @property
    def counts(self) -> dict[str, int]:
        """Joins by what led to them."""
        return dict(Counter(str(join.how) for join in self.joins))

    @property
    def share(self) -> float:
        """Share of the actual file's floating values that are joined."""
        left = len(self.ambiguous) + len(self.alone)
        return 1.0 - left / self.candidates if self.candidates else 0.0
