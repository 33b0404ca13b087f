"""Decide on one case: what a file computed against what was recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from exporter.core.tensors import PlannedTap
from exporter.golden.outcome import CaseOutcome, LayerMove, OutputMove, State
from exporter.golden.sketch import STATS, Sketch, distance, is_floating, sketch, slack
from exporter.golden.values import Expected, GoldenCase, GoldenOutput
from exporter.parity.reshaped import merges_or_splits

_UNIT = 2.0**-24
"""What storing a figure as float32 costs, relative."""
COVERAGE = "(coverage)"
"""What stands for how much of the golden a file still holds where cases are listed."""
_BY_RMS = frozenset({"mean", "rms"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a file computed on one case.

    Attributes:
        outputs: of the file as it is deployed. taps: sketches by ``onnx_name``.
        stopped: what onnxruntime said when it could not go on, and ``stopped_at`` the tap
            (``onnx_name``) that it could not compute.
    """

    outputs: Mapping[str, np.ndarray]
    taps: Mapping[str, Sketch]
    stopped: str = ""
    stopped_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedSketch:
    """One tap: ``strain`` is estimate over limit (``inf`` where nothing can be compared)."""

    strain: float
    observed: float | None
    limit: float | None
    reason: str


def judge_case(
    case: GoldenCase,
    taps: tuple[PlannedTap, ...],
    observed: Observed,
    structure: tuple[LayerMove, ...] = (),
) -> CaseOutcome:
    """Judge the outputs element by element, every layer by its sketch.

    Args:
        case, taps: what was recorded.
        observed: what the file computed.
        structure: differences of the graph that decide, in graph order; the first layer is the
            earlier of the first of these and the first tap that moved.
    """
    moves = [m for m in (judge_output(o, observed.outputs) for o in case.outputs) if m]
    if observed.stopped and not observed.outputs:
        moves = [_moved(o, f"onnxruntime stopped: {observed.stopped}") for o in case.outputs]
    positions = {tap.tap.name: index for index, tap in enumerate(taps)}
    moved: list[tuple[int, LayerMove]] = []
    compared = lost = 0
    worst: tuple[float, str | None] = (0.0, None)
    equal, unsure = True, False
    for index, (tap, expected) in enumerate(zip(taps, case.taps, strict=True)):
        sketch_seen = observed.taps.get(tap.onnx_name)
        if observed.stopped and tap.onnx_name == observed.stopped_at:
            moved.append((index, _move(tap, _broken(f"onnxruntime stopped: {observed.stopped}"))))
        if sketch_seen is None:
            lost += 1
            equal = equal and not expected.witness
            continue
        compared += 1
        equal = equal and expected.witness == sketch_seen.bits
        judged = judge_tap(expected, sketch_seen)
        if judged.strain > 1.0:
            # Only the first one can be excused: what is behind it follows from it.
            is_decision = (
                not expected.sketch.floating and sketch_seen.shape == expected.sketch.shape
            )
            unsure = unsure or (not moved and expected.close > 0 and is_decision)
            moved.append((index, _move(tap, judged)))
        if judged.strain > worst[0]:
            worst = (judged.strain, tap.tap.name)
    first = moved[0] if moved else None
    for move in structure[:1]:
        at = positions.get(move.tap, -1)
        if first is None or at <= first[0]:
            if first is not None and first[0] == at:
                move = _with_figures(move, first[1])
            first, unsure = (at, move), False
    equal = equal and all(_bits(o, observed.outputs) == o.witness for o in case.outputs)
    # A graph of a single op has no layers but its outputs, nor had the file that was recorded.
    had_layers = any(e.witness and not t.output for t, e in zip(taps, case.taps, strict=True))
    lacks_layers = had_layers and compared <= len(case.outputs)
    state, reason = _state(moves, moved, first, equal, unsure, lacks_layers)
    return CaseOutcome(
        case=case.name,
        state=state,
        outputs=tuple(moves),
        first=first[1] if first else None,
        moved=len(moved),
        compared=compared,
        lost=lost,
        strain=worst[0] if compared else None,
        strain_at=worst[1],
        reason=reason,
        ambiguous=_unsure_outputs(moves, moved, taps) if state is State.AMBIGUOUS else 0,
    )


def judge_coverage(
    outcomes: Sequence[CaseOutcome], fused: int, least: float | None
) -> list[CaseOutcome]:
    """What ``min_coverage`` says of the layers that the file still holds; nothing if it is kept.

    The share is that of a run: taps that are compared, or were fused into one at recording.

    Args:
        fused: taps that were fused at recording and that the file does not hold. least: the share.
    """
    walked = [case for case in outcomes if case.compared + case.lost]
    shares = {
        case.case: (case.compared + min(fused, case.lost)) / (case.compared + case.lost)
        for case in walked
    }
    short = {name: share for name, share in shares.items() if least and share < least}
    if not short or any(case.state is State.MOVED for case in walked):
        return []
    name, share = min(short.items(), key=lambda item: item[1])
    reason = f"case '{name}': {share:.4g} of the layers are in the file, min_coverage: {least:g}"
    return [CaseOutcome(case=COVERAGE, state=State.MISSING, reason=reason)]


def _unsure_outputs(
    moves: list[OutputMove], moved: list[tuple[int, LayerMove]], taps: tuple[PlannedTap, ...]
) -> int:
    """How many outputs moved; large ones are known by their sketch alone. At least 1."""
    names = {move.name for move in moves}
    names |= {taps[index].onnx_name for index, _ in moved if taps[index].output}
    return max(1, len(names))


def _with_figures(move: LayerMove, numbers: LayerMove) -> LayerMove:
    """A difference of the graph, with what it did to the numbers of the same tap."""
    reason = f"{move.reason}; {numbers.reason}"
    return replace(move, observed=numbers.observed, limit=numbers.limit, reason=reason)


def _state(
    moves: list[OutputMove],
    moved: list[tuple[int, LayerMove]],
    first: tuple[int, LayerMove] | None,
    equal: bool,
    unsure: bool,
    lacks_layers: bool,
) -> tuple[State, str]:
    if unsure and first is not None:
        return State.AMBIGUOUS, (
            f"'{first[1].tap}' decided otherwise where its float64 margin was below the rounding"
            " noise when the golden was recorded"
        )
    if moves or first is not None:
        what = ", ".join(move.name for move in moves)
        return State.MOVED, f"outputs: {what}" if moves else "no output moved, but a layer did"
    if lacks_layers:
        return State.MISSING, "the file holds no layer of the golden under its name"
    if equal:
        return State.SAME, "bit for bit what the file computed that was judged at recording"
    return State.WITHIN_ROUNDING, ""


def judge_tap(expected: Expected, sketch: Sketch) -> JudgedSketch:
    """Compare the sketch of what a file computed with the recorded one."""
    wanted = expected.sketch
    # A sketch takes elements in their order: with neighbouring axes merged it is the same one.
    same_order = wanted.floating and merges_or_splits(wanted.shape, sketch.shape)
    if sketch.shape != wanted.shape and not same_order:
        return _broken(f"shape {list(sketch.shape)}, recorded was {list(wanted.shape)}")
    if sketch.floating != wanted.floating:
        return _broken(f"{sketch.dtype}, recorded was {wanted.dtype}")
    if not wanted.floating:
        if sketch.dtype == wanted.dtype and sketch.bits == wanted.bits:
            return JudgedSketch(strain=0.0, observed=0.0, limit=0.0, reason="")
        return _broken(f"{wanted.dtype} values differ")
    if (
        sketch.nonfinite[0]
        or sketch.nonfinite != wanted.nonfinite
        or sketch.places != wanted.places
    ):
        names = ("NaN", "+Inf", "-Inf")
        pairs = zip(sketch.nonfinite, wanted.nonfinite, names, strict=True)
        parts = [f"{now} {name} (recorded: {then})" for now, then, name in pairs if now or then]
        return _broken(f"{', '.join(parts)}, or at other places")
    return _distance(expected, sketch)


def _distance(expected: Expected, sketch: Sketch) -> JudgedSketch:
    """The worst of the projection, the moments and the quantiles, each against its bound."""
    wanted = expected.sketch
    count = wanted.elements
    rms = float(wanted.stats[STATS.index("rms")])
    estimate = distance(sketch.buckets, wanted.buckets, count)
    best = _judged(
        "rms of the difference",
        estimate,
        expected.limit_rms * slack(count) + _UNIT * rms,
    )
    for name, now, then in zip(STATS, sketch.stats, wanted.stats, strict=True):
        bound = expected.limit_rms if name in _BY_RMS else expected.limit_max
        other = _judged(name, abs(float(now - then)), bound + _UNIT * abs(float(then)))
        if other.strain > best.strain:
            best = other
    return best


def _judged(what: str, observed: float, bound: float) -> JudgedSketch:
    if math.isnan(observed):
        return _broken(f"{what} is NaN")
    strain = observed / bound if bound > 0 else (math.inf if observed > 0 else 0.0)
    reason = f"{what}: off by {observed:.3g}, limit {bound:.3g}" if strain > 1 else ""
    return JudgedSketch(strain=strain, observed=observed, limit=bound, reason=reason)


def _broken(reason: str) -> JudgedSketch:
    return JudgedSketch(strain=math.inf, observed=None, limit=None, reason=reason)


def _move(tap: PlannedTap, judged: JudgedSketch) -> LayerMove:
    return LayerMove(
        tap=tap.tap.name,
        module=tap.tap.module,
        op=tap.tap.op,
        source=tap.tap.source,
        observed=judged.observed,
        limit=judged.limit,
        reason=judged.reason,
    )


def judge_output(expected: GoldenOutput, outputs: Mapping[str, np.ndarray]) -> OutputMove | None:
    """Compare one output with the recorded values; ``None`` when it has not moved.

    An output whose values were too large to be stored is judged as a tap, by its sketch.
    """
    values = outputs.get(expected.name)
    if values is None:
        return _moved(expected, "the file does not have this output")
    if tuple(values.shape) != expected.shape:
        return _moved(expected, f"shape {list(values.shape)}, recorded was {list(expected.shape)}")
    floating = is_floating(expected.dtype)
    if values.dtype.name != expected.dtype and not (floating and is_floating(values.dtype.name)):
        return _moved(expected, f"{values.dtype.name}, recorded was {expected.dtype}")
    if expected.values is None:
        bad = floating and not np.isfinite(values.astype(np.float64)).all()
        return _moved(expected, "not finite") if bad else None
    if not floating:
        unequal = int((values != expected.values).sum())
        reason = f"{unequal} of {values.size} elements differ"
        return _moved(expected, reason, float(unequal), 0.0) if unequal else None
    difference = np.abs(values.astype(np.float64) - expected.values.astype(np.float64))
    if not np.isfinite(values.astype(np.float64)).all():
        return _moved(expected, "not finite")
    largest = float(difference.max(initial=0.0))
    if largest <= expected.limit_max:
        return None
    reason = f"off by {largest:.3g}, limit {expected.limit_max:.3g}"
    return _moved(expected, reason, largest, expected.limit_max)


def _moved(
    expected: GoldenOutput, reason: str, observed: float | None = None, limit: float | None = None
) -> OutputMove:
    return OutputMove(name=expected.name, observed=observed, limit=limit, reason=reason)


def _bits(expected: GoldenOutput, outputs: Mapping[str, np.ndarray]) -> bytes:
    values = outputs.get(expected.name)
    return b"" if values is None else sketch(expected.name, values).bits
