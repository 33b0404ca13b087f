"""What a chain of comparisons judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from exporter.core.stages import Station
from exporter.core.tensors import TensorSpec
from exporter.graph.program import Program
from exporter.graph.taps import NO_JOINS, Joins, Names
from exporter.graph.wrap import Wrapped


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How inputs are made at other sizes.

    Attributes:
        make: makes one tensor per input from the size of every symbolic axis.
        example: the sizes that were traced.
    """

    make: Callable[[Mapping[str, int]], Mapping[str, Tensor]]
    example: Mapping[str, int]

    @classmethod
    def of(cls, wrapped: Wrapped) -> Sizes | None:
        """Those of a user's own model; None of all others."""
        make = wrapped.example_at
        return None if make is None else cls(make=make, example=wrapped.sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a chain judges.

    Attributes:
        module: the eager module; None when only the captured program is at hand.
        program: the captured program, the reference of all layers.
        inputs, outputs: specs, in order.
        stations: files in the order in which they were made; layers are walked in the last one.
        expected_taps, known_taps: taps that the last file ought to hold, and those that it is
            known to hold (see ``judge_layers``).
        names: what vouches for the last file's names. Of a file that is not ours it is for
            numbers to show what they hold (see ``judge.doubtful_names``).
        joins: values of the last file that numbers have shown to be taps, under other names.
        tapped: False when the last file's values cannot be told apart: outputs only.
        states: output -> the input that takes it in the next call, for cases in several calls.
        sizes: how inputs of other sizes are made; None where that is not known.
    """

    module: nn.Module | None
    program: Program
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    stations: tuple[Station, ...]
    expected_taps: frozenset[str] = frozenset()
    known_taps: frozenset[str] | None = None
    names: Names = Names.OURS
    joins: Joins = NO_JOINS
    tapped: bool = True
    states: Mapping[str, str] = field(default_factory=dict)
    sizes: Sizes | None = None
