"""The report of a file that was lowered: what was chosen, measured and confirmed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from exporter.core.tensors import Case
from exporter.graph.onnx_file import bytes_of
from exporter.lowering.choice import choose
from exporter.lowering.confirm import by_themselves
from exporter.lowering.outcome import Outcome
from exporter.lowering.rounds import Wanted
from exporter.lowering.search import Found
from exporter.parity.exit_code import decide
from exporter.parity.status import Status
from exporter.report.lowering import FileRow, LayerRow, LoweringReport, Point
from exporter.report.schema import Report

_CURVE = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    """What ``lower`` has found and written.

    Attributes:
        file: the one that is shipped. plain_file, everything_file: nothing lowered, and all.
        found: by the search, with ``file`` on the cases of the choice. plain: ``plain_file`` there.
        confirmed: ``file`` on ``others``, that had no part in the choice.
        times: seconds of a run of plain, everything and file.
        eight: layers of "mixed" that are in eight bits.
    """

    pipeline: str
    to: str
    wanted: Wanted
    file: Path
    plain_file: Path
    everything_file: Path
    found: Found
    plain: Sequence[Outcome]
    confirmed: Sequence[Outcome]
    cases: Sequence[Case]
    others: Sequence[Case]
    times: Sequence[float]
    eight: Sequence[str]
    notes: Sequence[str]


def lowering_report(done: Lowered, judged: Report, elapsed: float) -> LoweringReport:
    """The report.

    Args:
        judged: what ``verify`` says of the file. elapsed: seconds of it all.
    """
    found = done.found
    met, confirmed = found.met, done.wanted.met_by(done.confirmed)
    chosen = Status.PASS if met and confirmed and found.lowered else Status.FAIL
    alone = by_themselves(judged)
    decision = decide([(chosen, True), (alone, True)])
    return LoweringReport(
        pipeline=done.pipeline,
        to=done.to,
        file=str(done.file),
        verdict=decision.status.value,
        exit_code=decision.exit_code,
        headline=_headline(done, met, confirmed, alone),
        max_error=done.wanted.max_error,
        max_flips=done.wanted.max_flips,
        prefer=done.wanted.prefer,
        layers=_layers(found),
        files=_files(done),
        confirmed=_row("lowered, other cases", done.file, None, done.confirmed, done.others),
        curve=_curve(found),
        rounds=[
            f"{held.kept} in float32: error {held.predicted.error:.3g} predicted,"
            f" {_in_words(held.outcomes)} measured;"
            f" {sum(o.flips for o in held.outcomes)} flips"
            for held in found.rounds
        ],
        runs=found.runs,
        seconds=elapsed,
        yaml=_yaml(done),
        judged=_judged(judged, alone),
        notes=list(done.notes),
    )


def _judged(judged: Report, alone: Status) -> str:
    """What ``verify`` says of the layers; of a file that passes by itself no more than that.

    That decisions turn is in its headline as well, and stands elsewhere in this report.
    """
    if alone is not Status.PASS:
        return f"{alone.value}: {judged.headline}"
    compared = sum(link.compared or 0 for link in judged.links if link.layers)
    return f"pass: {compared} values inside cost what their formats cost, each by itself"


def _headline(done: Lowered, met: bool, confirmed: bool, alone: Status) -> str:
    found, count = done.found, len(done.found.layers)
    if not found.lowered:
        gaining = int((found.gain > 0.0).sum())
        if not gaining:
            return f"nothing is lowered: none of {count} layers gains time here"
        which = f"{gaining} layers that gain time here" if gaining < count else f"{count} layers"
        return f"nothing is lowered: none of {which} is within the limits"
    small = bytes_of(done.file) / bytes_of(done.plain_file)
    said = (
        f"{len(found.lowered)} of {count} layers in {done.to}, {len(found.kept)} in float32;"
        f" {small:.2f} x the size, {done.times[0] / done.times[2]:.2f} x as fast"
    )
    if not met:
        return f"{said}; beyond the limits on the cases of the choice"
    if not confirmed:
        return f"{said}; not confirmed on other cases"
    if alone is not Status.PASS:
        return f"{said}; within the limits on other cases, but 'verify' does not pass it"
    return f"{said}; confirmed on {len(done.others)} other case(s)"


def _layers(found: Found) -> list[LayerRow]:
    damage = np.max([effect.damage for effect in found.effects], axis=0)
    rows = [
        LayerRow(
            name=layer.name,
            module=layer.module,
            kinds=list(layer.kinds),
            weights=layer.weights,
            own=float(found.own[n]),
            effect=float(damage[n]),
            gained=None if found.seconds is None else float(found.seconds[n]),
            stays=n not in found.lowered,
            why=_why(found, n),
        )
        for n, layer in enumerate(found.layers)
    ]
    return sorted(rows, key=lambda row: -row.effect)


def _why(found: Found, place: int) -> str:
    if place in found.lowered:
        return ""
    if place in found.overflowing:
        return "a value of it has no room in the format"
    if found.seconds is not None and found.seconds[place] <= 0.0:
        return "no faster here"
    return "its effect"


def _files(done: Lowered) -> list[FileRow]:
    found = done.found
    rows = (
        ("float32", done.plain_file, done.plain),
        ("all lowered", done.everything_file, found.everything),
        ("lowered", done.file, found.outcomes),
    )
    return [
        _row(name, path, time_, outcomes, done.cases)
        for (name, path, outcomes), time_ in zip(rows, done.times, strict=True)
    ]


def _row(
    name: str,
    path: Path,
    elapsed: float | None,
    outcomes: Sequence[Outcome],
    cases: Sequence[Case],
) -> FileRow:
    return FileRow(
        name=name,
        bytes=bytes_of(path),
        seconds=elapsed,
        error=_error(outcomes),
        flips=sum(o.flips for o in outcomes),
        doubtful=sum(o.doubtful for o in outcomes),
        decisions=sum(o.turned for o in outcomes),
        cases=[case.name for case in cases],
    )


def _error(outcomes: Sequence[Outcome]) -> float | None:
    """The worst case; None where one of them shows nothing, however good the others are."""
    errors = [o.error for o in outcomes if o.error is not None]
    return max(errors) if errors and len(errors) == len(outcomes) else None


def _in_words(outcomes: Sequence[Outcome]) -> str:
    error = _error(outcomes)
    return "nothing" if error is None else f"{error:.3g}"


def _curve(found: Found) -> list[Point]:
    positive = float(found.gain[found.gain > 0.0].sum()) or 1.0
    points = []
    for limit in _CURVE:
        held = choose(
            found.effects,
            found.gain,
            limit,
            never=found.overflowing,
            max_flips=10**6,
            seconds=2.0,
        )
        points.append(
            Point(
                limit=limit,
                kept=len(found.layers) - len(held.lowered),
                error=held.error,
                worth=sum(float(found.gain[n]) for n in held.lowered) / positive,
            )
        )
    return points


def _yaml(done: Lowered) -> str:
    section: dict[str, Any] = {
        "to": done.to,
        "keep_float32": [layer.name for layer in done.found.kept],
    }
    if done.to == "mixed":
        section["eight_bits"] = done.eight
    return yaml.safe_dump({"precision": section}, sort_keys=False).rstrip()
