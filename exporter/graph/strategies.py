"""How a module is captured when torch.export refuses it at first: tried in the open, and named.

Each refusal says what may help, and one thing is changed at a time:

    an axis has limits          the axis gets them; eager is run just outside of them. It stops
                                there: the limits are the model's. It does not: they are the
                                trace's, and the report says so
    torch cannot prove sizes    they are assumed, and tried: the axis gets those for which all
                                holds; where that is one size, the repairs for known patterns
    an axis was frozen          the repairs for known patterns; another example size
    a number comes from data    the repairs for known patterns
    anything else, or still     torch's strict mode; then sizes of one are told from others

In a user's own model a size that is one at the example is taken for any other, as
``torch.onnx.export`` does: at the next call it may be seven. No way is believed for having
succeeded: what was captured is compared with the module itself.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx.experimental import _config as symbolic_config

from exporter.core.errors import StageError, first_line
from exporter.core.tensors import Axis
from exporter.graph.bounds import bounded
from exporter.graph.capture import capture
from exporter.graph.guards import Guard
from exporter.graph.refused_line import FrozenSizes, change_of, frozen_sizes
from exporter.graph.repairs import REPAIRS
from exporter.graph.repairs.frame import Log, NotRepairedError, Repair, repaired
from exporter.graph.repairs.module_run import ModuleRun, module_run
from exporter.graph.repairs.proof import checked, note_of, probes
from exporter.graph.torch_refusal import Refusal, refusal_of
from exporter.graph.wrap import Wrapped, dynamic_shapes, with_axes
from exporter.models.user_code import place_of

_MOST_TRIES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """A captured module.

    Attributes:
        program: what torch.export made.
        axes: axes that got narrower limits than they had, by name.
        strategy: how it was captured, in a few words; "" for the usual way.
        notes: what a report should say of that.
        guards: what the capture rests on.
    """

    program: ExportedProgram
    axes: Mapping[str, Axis]
    strategy: str = ""
    notes: tuple[str, ...] = ()
    guards: tuple[Guard, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refused:
    """One refusal as a user is told it: where, what to do, and how much that helps."""

    error: StageError
    place: str
    remedy: str | None
    helps: tuple[bool, ...]


def capture_openly(
    wrapped: Wrapped, *, without: Collection[str] = (), wanted: Collection[str] = ()
) -> Captured:
    """Capture a module; a user's own in the first of several ways that works.

    Args:
        without: names of repairs that are switched off.
        wanted: of those that are asked for, needed or not.

    Raises:
        StageError: torch.export refuses it in every way; the refusal that helps most, with its
            line and the change of it that would help.
    """
    return _Search(wrapped, without, wanted).run()


class _Search:
    """One module on its way through the strategies."""

    def __init__(self, wrapped: Wrapped, without: Collection[str], wanted: Collection[str]):
        self.wrapped = wrapped
        self.repairs = [repair for repair in REPAIRS.values() if repair.name not in without]
        self.met: dict[Repair, Log] = {}
        self.declared = {axis.name: axis for spec in wrapped.inputs for axis in spec.axes}
        self.axes = dict(self.declared)
        self.sizes = dict(wrapped.sizes)
        self.example: Mapping[str, Tensor] = wrapped.example
        # Models that this package knows are captured in one way, or are to be mended.
        self.users = wrapped.example_at is not None
        self.oblivious = self.users
        self.wanted = wanted
        self.repaired = self.users and bool(wanted)
        self.strict = False
        self.assumed = False
        self.partial = False
        self.notes: list[str] = []
        self.left_out: list[str] = []
        self.guards: list[Guard] = []
        self.runs: dict[tuple[tuple[str, int], ...], ModuleRun] = {}

    def run(self) -> Captured:
        refused: list[_Refused] = []
        near: NotRepairedError | None = None
        fewer_sizes: tuple[ExportedProgram, dict[str, Any]] | None = None
        for _ in range(_MOST_TRIES):
            try:
                with frozen_sizes() as frozen:
                    program = self._capture()
            except StageError as error:
                if isinstance(error.__cause__, NotRepairedError):
                    near = near or error.__cause__
                refusal = refusal_of(error.__cause__ or error, self.axes)
                refused.append(self._told(error, refusal, frozen))
                if not self.users or not self._change(refusal):
                    break
                continue
            if self.users and not self.repaired and self._is_unwritten(program):
                self.repaired = True
                continue
            fewer = self._is_stuck() or self._is_freed() or self._is_fixed()
            if self.users and not self.repaired and fewer:
                fewer_sizes = program, self._state()
                self.repaired, self.assumed = True, False
                self.axes, self.notes, self.partial = dict(self.declared), [], False
                continue
            if self._proved():
                return self._captured(program)
        if fewer_sizes is not None:
            # Repairs were to give it more sizes, and with them torch refuses it in every way.
            program, state = fewer_sizes
            vars(self).update(state)
            if self._proved():
                return self._captured(program)
        if near is not None:
            raise StageError(
                "capture", near.detail, remedy=near.remedy, source=near.source
            ) from near
        if not refused:
            raise StageError("capture", "; ".join(self.notes) or "nothing was tried")
        # Of those that help alike the last one: what stood before it was dealt with.
        told = max(reversed(refused), key=lambda each: each.helps)
        error = told.error
        left_out = "".join(f"; {note}" for note in self.left_out)
        raise StageError(
            "capture",
            f"{error.detail}{left_out}",
            remedy=told.remedy,
            frozen=error.frozen,
            source=told.place,
        ) from error.__cause__

    def _state(self) -> dict[str, Any]:
        """What this search knows, to come back to."""
        return {
            name: copy.copy(value) if isinstance(value, (dict, list)) else value
            for name, value in vars(self).items()
        }

    def _is_unwritten(self, program: ExportedProgram) -> bool:
        """True when a program has what a repair has something for in ONNX."""
        return any(repair.needed(program) for repair in self.repairs)

    def _is_stuck(self) -> bool:
        """True when the program takes a single size of an axis that was declared to vary."""
        return any(
            axis.minimum == axis.maximum and axis != self.declared[name]
            for name, axis in self.axes.items()
        )

    def _is_freed(self) -> bool:
        """True when PyTorch takes sizes that the program does not, and a repair is for that."""
        known = [repair for repair in self.repairs if repair.frees]
        return self.partial and any(repair.matches(self._module_run()) for repair in known)

    def _is_fixed(self) -> bool:
        """True when a number that the model computes of sizes is that of the example."""
        return any(guard.fixes_a_number for guard in self.guards)

    def _told(self, error: StageError, refusal: Refusal, frozen: FrozenSizes) -> _Refused:
        cause = error.__cause__ or error
        size = next(iter(refusal.frozen.values()), None)
        place = place_of(cause) or ("" if size is None else frozen.line_of(size)) or error.source
        remedy = error.remedy or refusal.remedy()
        change = change_of(place)
        # Of another example than the user's, or in a last way, torch may complain of its own.
        usual = self.example is self.wrapped.example and not self.strict
        helps = (remedy is not None and usual, bool(place), bool(change), remedy is not None)
        words = "; ".join(part for part in (remedy, change) if part)
        return _Refused(error=error, place=place, remedy=words or None, helps=helps)

    def _module_run(self) -> ModuleRun:
        """The module, and what it runs on the example of now."""
        key = tuple(self.sizes.items())
        if key not in self.runs:
            self.runs[key] = module_run(self.wrapped.module, self.example)
        return self.runs[key]

    def _capture(self) -> ExportedProgram:
        shapes = dynamic_shapes(with_axes(self.wrapped.inputs, self.axes), assumed=self.assumed)
        repairs = repaired(self._module_run(), self.repairs) if self.repaired else nullcontext({})
        with repairs as logs, symbolic_config.patch(backed_size_oblivious=self.oblivious):  # type: ignore[attr-defined]
            self.guards = []
            program = capture(
                self.wrapped.module,
                self.example,
                shapes,
                self.guards,
                strict=self.strict,
                assumed=self.assumed,
            )
            for repair, log in logs.items():
                if repair.rewrite is not None:
                    program = repair.rewrite(program, log, repair.name in self.wanted)
        self.met = {repair: log for repair, log in logs.items() if log}
        if self.users:
            self._bound()
        return program

    def _captured(self, program: ExportedProgram) -> Captured:
        used = {
            **dict.fromkeys((repair.strategy for repair in self.met), True),
            f"at {_sizes(self.sizes)}": self.example is not self.wrapped.example,
            "sizes of one told from others": self.users and not self.oblivious,
            "strict": self.strict,
            "what torch could not prove of sizes assumed": self.assumed,
        }
        strategy = ", ".join(words for words, is_used in used.items() if is_used)
        notes = [*self.notes, *self.left_out]
        if strategy:
            notes.insert(0, f"captured in another way than the usual one: {strategy}")
        narrowed = {name: a for name, a in self.axes.items() if a != self.declared[name]}
        return Captured(
            program=program,
            axes=narrowed,
            strategy=strategy,
            notes=tuple(notes),
            guards=tuple(self.guards),
        )

    def _change(self, refusal: Refusal) -> bool:
        """Change one thing that a refusal asks for; False when nothing is left to try."""
        if refusal.only_limits:
            return self._narrow(refusal)
        if refusal.only_unproven and not self.assumed:
            self.assumed = True
        elif not self.repaired:
            self.repaired = True
        elif refusal.frozen and self.example is self.wrapped.example and self._larger(refusal):
            pass
        elif not self.strict:
            self.strict = True
        elif self.oblivious:
            self.oblivious = self.strict = False
        else:
            return False
        return True

    def _narrow(self, refusal: Refusal) -> bool:
        changed = False
        for name, (lowest, highest) in refusal.limits.items():
            axis = self.axes[name]
            ends: dict[str, int] = {}
            if lowest is not None and lowest > axis.minimum:
                ends["minimum"] = lowest
            if highest is not None and (axis.maximum is None or highest < axis.maximum):
                ends["maximum"] = highest
            for key, size in ends.items():
                outside = size - 1 if key == "minimum" else size + 1
                stopped = self._stopped(name, outside)
                self.axes[name] = replace(self.axes[name], **{key: size})
                words = f"at {'least' if key == 'minimum' else 'most'} {size} {name}"
                self.notes.append(_note(words, stopped))
                self.partial |= stopped is None
                changed = True
        return changed

    def _bound(self) -> None:
        """Give each axis the sizes for which all holds that the capture rests on.

        Where PyTorch takes more, and nothing was assumed, the axis stays as it is: judging shows
        what the program makes of those sizes.
        """
        shapes = {spec.name: spec.shape for spec in self.wrapped.inputs}
        for name, axis in self.axes.items():
            if name not in self.sizes:
                continue
            bound, place = bounded(self.guards, shapes, self.sizes, axis)
            kept, stopped = self._confirmed(axis, bound)
            self.partial |= bound != axis and (kept != bound or stopped is None)
            if kept != axis:
                self.axes[name] = kept
                asked = f" (asked at {place})" if place else ""
                self.notes.append(_note(f"{kept.words()} {name}{asked}", stopped))

    def _confirmed(self, axis: Axis, bound: Axis) -> tuple[Axis, str | None]:
        """The limits that were found, without those beyond which PyTorch goes on, unless something
        was assumed; and why it stops beyond, where it stops beyond all of them."""
        kept, reasons = axis, []
        highest = bound.maximum or 0
        # Two sizes each: beyond a single one that the model refuses it may go on.
        beyond = {
            "multiple_of": (self.sizes[axis.name] + 1,),
            "minimum": (bound.minimum - 1, max(axis.minimum, 1)),
            "maximum": (highest + 1, highest + 3),
        }
        for limit, sizes in beyond.items():
            value = getattr(bound, limit)
            if value == getattr(axis, limit):
                continue
            stops = [self._stopped(axis.name, size) for size in dict.fromkeys(sizes)]
            if None not in stops or self.assumed:
                kept = replace(kept, **{limit: value})
                reasons += stops
        return kept, None if None in reasons else next(iter(reasons), None)

    def _larger(self, refusal: Refusal) -> bool:
        """Take another example, in which a frozen axis is twice as long; False if it cannot be."""
        make = self.wrapped.example_at
        if make is None:
            return False
        for name in refusal.frozen:
            highest = self.axes[name].maximum
            wanted = 2 * self.sizes.get(name, 0) + 1
            if wanted < 2 or (highest is not None and wanted > highest):
                continue
            self.sizes[name] = wanted
        if self.sizes == dict(self.wrapped.sizes):
            return False
        self.example = make(self.sizes)
        return True

    def _stopped(self, name: str, size: int) -> str | None:
        """Why PyTorch does not run at another size of an axis; None when it does."""
        make = self.wrapped.example_at
        if make is None:
            return None
        try:
            with torch.no_grad():
                copy.deepcopy(self.wrapped.module)(*make({**self.sizes, name: size}).values())
        except Exception as error:  # noqa: BLE001 - whatever the user's model raises
            return first_line(error, 120)
        return None

    def _proved(self) -> bool:
        """Hold the module with the repairs that were met against the module without.

        What is wrong is left out, and said, and the module is captured once more.
        """
        if not self.met:
            return True
        make, axes = self.wrapped.example_at, self.axes
        inputs = list(probes(self.example, self.sizes, axes, make))
        proof, wrong = checked(self._module_run(), list(self.met), inputs)
        if not wrong:
            self.notes += [note_of(repair, log, proof) for repair, log in self.met.items()]
            return True
        self.repairs = [repair for repair in self.repairs if repair not in wrong]
        self.left_out += [
            f"the repair '{repair.name}' gives other values than PyTorch ({why}) and is left out"
            for repair, why in wrong.items()
        ]
        return False


def _note(words: str, stopped: str | None) -> str:
    if stopped is None:
        return f"the captured program takes {words}; PyTorch takes more"
    return f"takes {words}: beyond, the model stops ({stopped})"


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items())
