"""Stream: what a model gives in windows is what it gives on the whole, and how late it gives it.

    whole     | x x x x x x x x x x x x x x |       one call: the graph, or another method
    windows   |[x x x x]x x                         overlapping, states handed on, tail flushed
              |    [x x x x]x x
              |        [x x x x] 0 0

The cases say how (``stream:`` beside ``steps``). PyTorch is held against itself in float64, where a
seam is a seam and not rounding; the file is held against PyTorch's whole. Lookahead is measured at
every module, not believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from exporter.config.section import Many
from exporter.contracts.calls import run_calls
from exporter.contracts.compare.differ import Mismatch, MismatchKind, differ
from exporter.contracts.compare.noise import scale_of
from exporter.contracts.result import (
    ONNX,
    SIDES,
    TORCH,
    Answer,
    ContractResult,
    Location,
    not_run,
)
from exporter.contracts.settings import ContractSettings, Named, Reason
from exporter.contracts.stream.explain import advice_on
from exporter.contracts.stream.joined import Joined, OverlapAdd, UnjoinedError, joined
from exporter.contracts.stream.latency import latency_of
from exporter.contracts.stream.lookahead import rate_between
from exporter.contracts.stream.offline import Offline
from exporter.contracts.stream.offline_file import OfflineFile, outputs_of
from exporter.contracts.stream.place import first_place, layer_of_file
from exporter.contracts.stream.seams import Seams, seams_of
from exporter.contracts.stream.whole import Whole, calls_of, whole_of
from exporter.contracts.target import Target
from exporter.core.errors import ConfigError, OnnxStoppedError
from exporter.core.tensors import Arrays, Case
from exporter.core.windows import Streamed
from exporter.parity.status import Status, severity

NAME = "stream"
_LIMIT = "windows equal the whole"
_SAME = 1e-9
"""Of the largest value: what float64 may differ by."""
_TAKES = "make the file take these windows: their sizes, and the states as they come out"
_JOINING = ("trim", "overlap_add", "late")
"""Options that say how what the calls give is joined."""
_Ms = Annotated[float, Field(gt=0)]


class Settings(ContractSettings):
    """Options.

    Attributes:
        step_ms: how long one step of the axis that is cut lasts.
        offline: what sees the whole, where the graph itself does not.
        offline_file: another file, which takes the whole; the streaming file is held against it.
        trim: outputs of which a call gives frames for its context, too.
        overlap_add: outputs of which the caller sums what overlapping calls give.
        late: output -> frames by which the stream is behind; a ``tail`` brings the last ones.
        not_streamed: output -> why its windows do not add up to the whole.
        max_lookahead_ms, max_latency_ms: more fails.
    """

    step_ms: _Ms | None = None
    offline: Offline | None = None
    offline_file: OfflineFile | None = None
    trim: Many[str] = ()
    overlap_add: dict[str, OverlapAdd] = Field(default_factory=dict)
    late: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    not_streamed: dict[str, Reason] = Field(default_factory=dict)
    max_lookahead_ms: Annotated[float, Field(ge=0)] | None = None
    max_latency_ms: _Ms | None = None

    @model_validator(mode="after")
    def _cut_or_added(self) -> Settings:
        if both := sorted({*self.trim} & {*self.overlap_add}):
            raise ValueError(f"overlap_add: '{both[0]}' is cut off (trim): it cannot be added, too")
        for key in _JOINING:
            if both := sorted({*getattr(self, key)} & {*self.not_streamed}):
                raise ValueError(f"{key}: '{both[0]}' is under not_streamed, too: it is not joined")
        return self

    @model_validator(mode="after")
    def _times_need_a_step(self) -> Settings:
        if self.step_ms is None and (self.max_lookahead_ms, self.max_latency_ms) != (None, None):
            raise ValueError("step_ms: say how long one step lasts, or no time can be told")
        return self

    def names(self) -> Iterator[Named]:
        for key in (*_JOINING, "not_streamed"):
            for name in getattr(self, key):
                yield Named(keys=(key, name), name=name, kind="output")
        yield from super().names()


def check(target: Target, settings: Settings) -> tuple[ContractResult, ...]:
    """Check both sides on every case that is a stream; the worst case of a side counts."""
    cases = [case for case in target.cases if case.stream is not None]
    if not cases:
        why = "no case of this run is a stream: give one 'stream: {window: ..., hop: ...}'"
        return tuple(not_run(NAME, side, why) for side in SIDES)
    found: dict[str, ContractResult] = {}
    for case in cases:
        for result in _case(target, settings, case):
            held = found.get(result.side)
            if held is None or severity(result.status) > severity(held.status):
                found[result.side] = result
    return tuple(found[side] for side in SIDES)


def _case(target: Target, settings: Settings, case: Case) -> list[ContractResult]:
    for key in _JOINING:
        if states := sorted({*getattr(settings, key)} & {*target.states}):
            raise _unused(key, states[0], "it is a state, which is handed on and not joined")
    whole = whole_of(target, settings.offline, settings.not_streamed, settings.late, case)
    if isinstance(whole, str):
        return [not_run(NAME, side, f"case '{case.name}': {whole}") for side in SIDES]
    return [_side(target, settings, whole, TORCH, whole.parts), of_file(target, settings, whole)]


def _unused(key: str, name: str, why: str) -> ConfigError:
    return ConfigError(
        f"'{name}': {why}",
        where=f"contracts.stream.{key}",
        remedy=f"take '{name}' out of '{key}', or name the output that is meant",
    )


def of_file(target: Target, settings: Settings, whole: Whole) -> ContractResult:
    """The file's side alone: its windows, on its own states, against PyTorch's whole."""
    if target.onnx.problem is not None:
        return not_run(NAME, ONNX, f"no ONNX file: {target.onnx.problem}")
    try:
        parts, _ = run_calls(target.onnx.run, calls_of(whole.case), target.states)
    except OnnxStoppedError as error:
        where = target.onnx.place_of_node(error.node) or Location(op="window")
        return Answer(NAME, ONNX).failed(
            "an error", _LIMIT, f"a window does not run: {error}", where=where, advice=_TAKES
        )
    found = _side(target, settings, whole, ONNX, parts)
    if settings.offline_file is None:
        return found
    return _beside_file(target, settings, settings.offline_file, whole, parts, found)


def _beside_file(
    target: Target,
    settings: Settings,
    held: OfflineFile,
    whole: Whole,
    parts: Sequence[Arrays],
    against_torch: ContractResult,
) -> ContractResult:
    """The worst of three: stream and PyTorch, offline file and PyTorch, stream and offline file."""
    given = outputs_of(held, target, whole.streamed, whole.names)
    details = {**against_torch.details, "offline file": str(held.path)}
    if isinstance(given, str):
        return replace(not_run(NAME, ONNX, given), details=details)
    files = _side(target, settings, replace(whole, narrow=given), ONNX, parts)
    apart = {
        name: differ(given[name], whole.narrow[name], whole.noise, name)
        for name in whole.names
        if name in whole.narrow
    }
    details["the two files"] = files.reason
    wrong = next(((name, found) for name, found in apart.items() if found is not None), None)
    if wrong is not None:
        name, found = wrong
        details["offline file"] = f"{held.path}: '{name}' {found.text('there', 'in PyTorch')}"
    if against_torch.status is not Status.PASS:
        alike = wrong is not None and files.status is Status.PASS
        more = f"; it is what {held.path.name} gives: both files are of another model" * alike
        return replace(against_torch, reason=against_torch.reason + more, details=details)
    if wrong is not None:
        name, found = wrong
        return Answer(NAME, ONNX, details).failed(
            f"'{name}' {found.moves('in the offline file', 'in PyTorch')}",
            found.limit_text,
            f"the offline file is not PyTorch's whole: {details['offline file']}",
            where=Location(value=name, op="offline file"),
            advice="export the offline file from the same weights and settings",
        )
    if files.status is not Status.PASS:
        return replace(files, reason=f"beside {held.path.name}: {files.reason}", details=details)
    return replace(against_torch, details=details)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """One output of the stream beside the whole's."""

    name: str
    value: Joined
    offline: np.ndarray
    difference: Mismatch | None
    seams: Seams | None


def _side(
    target: Target, settings: Settings, whole: Whole, side: str, parts: Sequence[Arrays]
) -> ContractResult:
    streamed = whole.streamed
    details: dict[str, Any] = {"case": whole.case.name, "windows": _in_words(streamed)}
    said = Answer(NAME, side, details)
    names = [name for name in whole.names if name in whole.narrow]
    if missing := [name for name in whole.names if name not in whole.narrow]:
        return said.not_run(
            f"the whole has no '{missing[0]}': name it under offline.outputs, or say under"
            " not_streamed why it is not compared"
        )
    found: list[_Compared] = []
    for name in names:
        try:
            found.append(_compared(settings, whole, side, name, parts))
        except UnjoinedError as error:
            what = f"'{name}': {error}"
            advice = "name it under 'trim' if a call gives frames of its context, or give windows"
            advice += " that are whole frames"
            place = layer_of_file(target, whole) if side == ONNX else None
            place = place or Location(op="window", value=name)
            return said.failed(what, _LIMIT, what, where=place, advice=advice)
    if all(_says_nothing(held) for held in found):
        return said.not_run("no output moves over time: whatever a window does would not be seen")
    rates = _rates(found, whole.steps)
    added = any(name in settings.overlap_add for name in rates)
    latency = latency_of(streamed, settings.step_ms, settings.late, whole.reach, rates, added=added)
    details |= latency.details()
    bad = max(
        (held for held in found if held.difference is not None),
        key=lambda held: held.difference.strain if held.difference else 0.0,
        default=None,
    )
    shown = bad or found[0]
    if shown.seams is not None:
        rate = latency.frames_per_step[shown.name]
        ms = settings.step_ms / float(rate) if rate and settings.step_ms else None
        details |= {"seams of": shown.name, **shown.seams.details(ms)}
    if bad is not None:
        return _failed(target, settings, said, whole, bad)
    over = latency.over(settings.max_lookahead_ms, settings.max_latency_ms)
    if over is not None:
        observed, limit, why, advice = over
        return said.failed(observed, limit, why, where=latency.where, advice=advice)
    zeros = f", {streamed.filled} of zeros behind the end" if streamed.filled else ""
    reason = (
        f"{len(streamed.windows)} windows of the case '{whole.case.name}' equal the whole of"
        f" {streamed.steps} steps{zeros}; {latency.sentence()}"
    )
    return said.passed(latency.short(), _LIMIT, reason)


def _rates(found: Sequence[_Compared], steps: int) -> dict[str, Fraction | None]:
    """Frames per step of each output; None for one without steps."""
    return {
        held.name: None
        if held.value.axis is None
        else rate_between(held.offline.shape[held.value.axis], steps)
        for held in found
    }


def _says_nothing(held: _Compared) -> bool:
    """Whether every frame of the whole is the same."""
    axis = held.value.axis
    if not held.offline.size:
        return True
    if axis is None:
        return False
    moved = np.moveaxis(held.offline, axis, 0)
    return bool((moved == moved[:1]).all())


def _compared(
    settings: Settings, whole: Whole, side: str, name: str, parts: Sequence[Arrays]
) -> _Compared:
    """An output beside the whole's; PyTorch's in float64 where that decides."""
    options: dict[str, Any] = {
        "trim": name in settings.trim,
        "late": settings.late.get(name, 0),
        "add": settings.overlap_add.get(name),
        "declared": whole.axes.get(name),
        "steps": whole.steps,
    }
    offline = whole.narrow[name]
    value = joined([part[name] for part in parts], offline, whole.streamed, **options)
    said = [key for key in _JOINING if name in getattr(settings, key)]
    if side == TORCH and value.axis is None and said:
        raise _unused(said[0], name, "every call gives all of it: it has no steps to be joined")
    difference = differ(value.value, offline, whole.noise, name)
    limit = whole.noise.limit(name, scale_of(offline), offline.size)
    narrow = difference is not None and difference.kind is not MismatchKind.VALUES
    if side == TORCH and whole.double is not None and offline.dtype.kind == "f" and not narrow:
        offline = whole.double.outputs[name]
        value = joined(
            [part[name] for part in whole.double.parts], offline, whole.streamed, **options
        )
        limit = _SAME * scale_of(offline)
        difference = _beyond(np.abs(value.value - offline), limit)
    seams = seams_of(value, offline, limit if offline.dtype.kind == "f" else 0.5)
    return _Compared(name=name, value=value, offline=offline, difference=difference, seams=seams)


def _beyond(gaps: np.ndarray, limit: float) -> Mismatch | None:
    """What is above a limit; NaN is."""
    over = ~(gaps <= limit)
    if not over.any():
        return None
    return Mismatch(
        kind=MismatchKind.VALUES,
        count=int(over.sum()),
        size=gaps.size,
        gap=float(gaps.max()),
        limit=limit,
    )


def _failed(
    target: Target, settings: Settings, said: Answer, whole: Whole, bad: _Compared
) -> ContractResult:
    difference = bad.difference
    if difference is None:
        raise AssertionError("nothing differs")
    if settings.overlap_add:
        # Calls that are summed may lack what is behind their window: a later call brings it.
        whole = replace(whole, reach=replace(whole.reach, beyond=None))
    # A stream that is behind has its frames in other calls: they cannot be laid on the whole's;
    # neither can frames that are right only once several calls are summed.
    laid = not settings.late and not settings.overlap_add
    place = first_place(target, whole, of_file=said.side == ONNX, laid=laid)
    why, advice = advice_on(
        difference,
        whole.streamed,
        whole.reach,
        value=bad.value,
        offline=bad.offline,
        seams=bad.seams,
    )
    words = said.details.get("worst seams", [])
    worst = f"; worst {words[0]}" if difference.kind is MismatchKind.VALUES and words else ""
    reason = f"'{bad.name}' {difference.text('in windows', 'in the whole')}: {why}{worst}"
    return said.failed(
        f"'{bad.name}' {difference.moves('in windows', 'in the whole')}",
        difference.limit_text,
        reason,
        where=place or Location(value=bad.name, op="stream"),
        advice=advice,
    )


def _in_words(streamed: Streamed) -> str:
    sizes = sorted({window.given for window in streamed.windows})
    hops = sorted({window.stop - window.start for window in streamed.windows})
    given = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    new = f"{hops[0]}" if len(hops) == 1 else f"{hops[0]} to {hops[-1]}"
    calls = f"{len(streamed.windows)} calls of {given} steps"
    return f"{calls}, {new} of them new, along '{streamed.input}'"
