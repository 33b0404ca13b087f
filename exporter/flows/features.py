"""Features that another program made, held against a pipeline's: what differs, and what it does.

cut      the pipeline behind its front end, on the recording of a case
take     their features: out of a file, or by running their program
compare  frame by frame, in the domain of the logarithm
search   the front end that gives theirs; its differences to the pipeline's are the answer
feed     theirs to what stands behind the pipeline's front end
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from exporter.cases.array_file import read_array
from exporter.cases.audio import read_any_rate
from exporter.cases.audio_input import WAVEFORM, recorded_input, takes_mono
from exporter.cases.load import choose_cases, load_cases
from exporter.config import Pipeline
from exporter.config.run_options import RunOptions
from exporter.core.errors import UserInputError
from exporter.core.stages import Stages
from exporter.core.tensors import Case
from exporter.features.cut_pipeline import Cut, cut, front_ends
from exporter.features.front_end import FrontEnd, Material
from exporter.features.own_command import run_command
from exporter.features.programs import features_of
from exporter.features.resamplers import resampled
from exporter.features.residual import compared, overlap
from exporter.features.search import FrontEndSearch, NearestFrontEnd, Step
from exporter.features.space import PRESETS
from exporter.flows.feature_rows import effects_of, frames_of
from exporter.graph.wrap import Wrapped, wrap
from exporter.parity.exit_code import decide
from exporter.parity.status import Status
from exporter.report.features import DifferenceRow, EffectRow, FeatureReport
from exporter.report.progress import Progress
from exporter.speech.cmvn import read_statistics

_USUAL = (0.008, 0.016)
"""Seconds from frame to frame, where none are stacked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Theirs:
    """Where the other features come from: a file, a command, or a program by name.

    Attributes:
        file, key: a file of arrays. command: their tool, with {wav} and {out}. program: its name.
        at: the place in the pipeline that has features like them.
        recording: what they were made of, where that is not the case's own recording.
        statistics: a file of fixed statistics that theirs may have been normalised with.
    """

    file: Path | None = None
    key: str | None = None
    command: str | None = None
    program: str | None = None
    at: str | None = None
    recording: Path | None = None
    statistics: Path | None = None


def features(
    pipeline: Pipeline | Path | str,
    theirs: Theirs,
    options: RunOptions | None = None,
    *,
    progress: Stages | None = None,
) -> FeatureReport:
    """Compare features with a pipeline's and say what differs.

    Raises:
        UserInputError: pipeline, case, recording or features cannot be used.
    """
    options = options or RunOptions()
    progress = progress or Progress(quiet=True)
    opened = options.opened(pipeline)
    if theirs.command is not None and not options.trust:
        raise UserInputError(
            f"this runs a program: {theirs.command}",
            where="--command",
            remedy="look at what it does, then add --trust",
        )
    (name,) = choose_cases(opened, options.cases)
    with progress.stage("build the pipeline"):
        wrapped = wrap(opened)
        (case,) = load_cases(opened, wrapped.inputs, [name])
    waveform = _recording(opened, wrapped, case)
    config = opened.case(name)
    notes: list[str] = []
    missing: list[str] = []
    ways = {"none": waveform}
    source = waveform, opened.sample_rate_hz
    outside = config.recording if config.resample is not None else None
    if theirs.recording is not None or outside is not None:
        source = read_any_rate(theirs.recording or outside or "")
        if source[1] != opened.sample_rate_hz:
            made, missing = resampled(*source, opened.sample_rate_hz)
            ways |= made
            if outside is not None:
                del ways["none"]
        elif not len(waveform):
            ways["none"] = waveform = source[0]
    with progress.stage("take their features") as stage:
        array, said, noisy = _taken(theirs, source, wrapped, case, waveform)
        if noisy:
            notes.append(
                "their program gives other features each time it runs: dither, or other noise"
            )
        frames = _as_frames(array, theirs)
        stage.result(f"{len(frames)} frames of {frames.shape[1]}")
    if _turned(frames, len(source[0]) / source[1]):
        frames = frames.T
        notes.append("theirs have the values of a frame along the first axis; turned round")
    with progress.stage("cut the pipeline") as stage:
        place = cut(wrapped, case.inputs, frames, waveform, theirs.at)
        stage.result(place.place)
    statistics = dict(place.statistics)
    if theirs.statistics is not None:
        statistics[theirs.statistics.name] = read_statistics(theirs.statistics)
    material = Material(ways, statistics)
    if place.others:
        notes.append(
            f"features of that shape, farther off, are also at: {', '.join(place.others[:6])}"
        )
    with progress.stage("look for what differs") as stage:
        answer = _answer(frames, place, opened.sample_rate_hz, material, noisy)
        stage.result(f"{answer.found.tried} front ends tried")
    with progress.stage("feed theirs to the pipeline"):
        effects, why = effects_of(place, frames, wrapped.tokens)
    return _report(opened, case, said, frames, place, answer, effects, why, notes, missing)


# -- what goes in ----------------------------------------------------------------------------------


def _recording(pipeline: Pipeline, wrapped: Wrapped, case: Case) -> np.ndarray:
    """``[N]``: the first row of the input that takes a recording."""
    specs = {spec.name: spec for spec in wrapped.inputs}
    config = pipeline.case(case.name)
    spec = recorded_input(config, specs, pipeline.where("cases"), states=pipeline.states.values())
    named = spec.name if spec is not None else WAVEFORM if WAVEFORM in specs else None
    if named is None:
        named = next((n for n, s in specs.items() if takes_mono(s) and s.initial is None), None)
    if named is None:
        return np.zeros(0, np.float32)
    array = case.inputs[named]
    samples = array.reshape(-1, array.shape[-1])[0] if array.shape[-1] > 1 else array.reshape(-1)
    lengths = case.inputs.get(f"{named}_lengths")
    count = len(samples) if lengths is None or not lengths.size else int(lengths.flat[0])
    return np.ascontiguousarray(samples[:count], np.float32)


def _taken(
    theirs: Theirs,
    source: tuple[np.ndarray, int],
    wrapped: Wrapped,
    case: Case,
    waveform: np.ndarray,
) -> tuple[np.ndarray, str, bool]:
    """Their features, what a report calls them, and whether each run gives others."""
    if theirs.file is not None:
        key = f"[{theirs.key}]" if theirs.key else ""
        return read_array(theirs.file, theirs.key), f"{theirs.file.name}{key}", False
    if theirs.command is not None:
        first, second = (run_command(theirs.command, *source) for _ in range(2))
        noisy = first.shape != second.shape or not np.array_equal(first, second, equal_nan=True)
        return first, "their command", noisy
    if theirs.program is None:
        raise UserInputError("nothing is given to compare with", remedy="give a file or a program")
    known, ours = _known(theirs.at, source[1], wrapped, case, waveform)
    features = features_of(theirs.program, waveform, ours, low_frame_rate=known.low_frame_rate)
    return *features, False


def _known(
    at: str | None, sample_rate_hz: int, wrapped: Wrapped, case: Case, waveform: np.ndarray
) -> tuple[Cut, FrontEnd]:
    """The first place whose features are a front end's, and that front end."""
    material = Material({"none": waveform})
    start = replace(
        PRESETS["torchaudio"], sample_rate_hz=sample_rate_hz, high_hz=sample_rate_hz / 2
    )
    for candidate in front_ends(wrapped, case.inputs, waveform, at):
        if candidate.front_end is not None:
            return candidate, candidate.front_end
        search = FrontEndSearch(candidate.features, material)
        nearest = search.found(start)
        if nearest.fit.explained(search.enough):
            return candidate, nearest.front_end
    raise UserInputError(
        "the pipeline has no features that are known to be a front end's",
        where="--with",
        remedy="name the module that makes them with --at, or give theirs with --from",
    )


def _as_frames(array: np.ndarray, theirs: Theirs) -> np.ndarray:
    """``[T, D]`` out of an array of one recording."""
    where = str(theirs.file) if theirs.file else None
    if array.dtype.kind != "f":
        raise UserInputError(f"holds {array.dtype}, features are floats", where=where)
    while array.ndim > 2 and 1 in array.shape:
        array = array.squeeze(array.shape.index(1))
    if array.ndim != 2 or min(array.shape) < 1 or len(array) < 2:
        raise UserInputError(
            f"has shape {list(array.shape)}; features of one recording are [frames, values]",
            where=where,
            remedy="write the features of one recording",
        )
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise UserInputError(
            f"{bad} of {array.size} values are NaN or infinite",
            where=where,
            remedy="put a floor under what the logarithm is taken of",
        )
    return array


def _turned(frames: np.ndarray, seconds: float) -> bool:
    """Whether frames lie along the second axis: only so are they of a usual length.

    Frames that were stacked are longer, and their width is a multiple of that of the plain ones.
    """
    count, width = frames.shape
    usual = _USUAL[0] < seconds / width < _USUAL[1]
    return usual and seconds / count > 2 * _USUAL[1] and width % 40 != 0


# -- what differs ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What was found: the pipeline's own front end (and whether it is known), and theirs."""

    ours: FrontEnd
    known: bool
    found: NearestFrontEnd
    steps: list[Step]
    explained: bool
    same: bool
    residual: float | None


def _answer(frames: np.ndarray, place: Cut, rate: int, material: Material, noisy: bool) -> _Answer:
    residual, same = _beside(frames, place)
    same = same and not noisy
    first = next(iter(material.waveforms))
    if not len(material.waveforms[first]):
        raise UserInputError(
            "the case has no recording, so nothing can be tried",
            where="--recording",
            remedy="give the recording that the features are of",
        )
    start = place.front_end
    own = FrontEndSearch(place.features, material)
    if start is None:
        default = replace(PRESETS["torchaudio"], sample_rate_hz=rate, high_hz=rate / 2)
        start = own.found(replace(default, resampler=first)).front_end
    start = replace(start, resampler=first) if start.resampler not in material.waveforms else start
    known = own.fit(start).explained(own.enough)
    search = FrontEndSearch(frames, material)
    nearest = search.found(start)
    if same and not search.fit(start).explained(search.enough):
        nearest = replace(nearest, front_end=start, fit=search.fit(start))
    steps = search.steps(start, nearest.front_end)
    explained = nearest.fit.explained(search.enough)
    if not explained:
        steps = [step for step in steps if step.before > 1.1 * step.after]
    return _Answer(
        ours=start,
        known=known,
        found=nearest,
        steps=steps,
        explained=explained and known,
        same=same,
        residual=residual,
    )


def _beside(frames: np.ndarray, place: Cut) -> tuple[float | None, bool]:
    """Residual of both as they are, and whether they agree to rounding, frame for frame."""
    if frames.shape[1] != place.features.shape[1]:
        return None, False
    front_end = place.front_end or FrontEnd()
    a, b = overlap(frames, place.features)
    a, b = compared(a, front_end).astype(np.float64), compared(b, front_end).astype(np.float64)
    residual = float(np.sqrt(np.mean((a - b) ** 2))) / (float(b.std()) or 1.0)
    enough = FrontEndSearch(frames, Material({})).enough
    return residual, frames.shape == place.features.shape and residual <= enough


# -- the report ------------------------------------------------------------------------------------


def _report(
    pipeline: Pipeline,
    case: Case,
    said: str,
    turned: np.ndarray,
    place: Cut,
    answer: _Answer,
    effects: list[EffectRow],
    why: str,
    notes: list[str],
    missing: list[str],
) -> FeatureReport:
    differences = [
        DifferenceRow(
            parameter=step.parameter,
            ours=step.ours,
            theirs=step.theirs,
            before=step.before if np.isfinite(step.before) else None,
            after=step.after,
            also=list(step.doubt),
        )
        for step in answer.steps
    ]
    behind = answer.found.fit.frames
    if behind and np.isfinite(answer.found.fit.residual):
        differences.append(
            DifferenceRow(
                parameter="last frame",
                ours=f"{len(place.features)} frames",
                theirs=f"{len(turned)}, {abs(behind)} {'more' if behind > 0 else 'fewer'} "
                "at the end",
                before=answer.found.fit.residual,
                after=answer.found.fit.residual,
                also=[],
            )
        )
    if not answer.known:
        notes = [
            *notes,
            "the pipeline's own features are none that the search can make: what theirs are is"
            " told beside the nearest that it can",
        ]
    same = answer.same
    decision = decide([(Status.PASS if same else Status.FAIL, True)])
    frames, first = frames_of(
        turned, place, answer.ours.shift * answer.ours.stride / answer.ours.sample_rate_hz
    )
    unavailable = [f"resampled by {name}: not installed" for name in missing]
    return FeatureReport(
        pipeline=pipeline.name,
        case=case.name,
        place=place.place,
        source=said,
        ours=list(place.features.shape),
        theirs=list(turned.shape),
        verdict=decision.status.value,
        exit_code=decision.exit_code,
        headline=_headline(same, answer, differences),
        residual=answer.residual,
        left=answer.found.fit.unexplained if np.isfinite(answer.found.fit.unexplained) else None,
        explained=answer.explained,
        differences=[] if same else differences,
        frames=[] if same else frames,
        first_frame=None if same else first,
        effects=effects,
        why_no_effects=why,
        tried=answer.found.tried,
        notes=notes,
        not_checked=unavailable,
    )


def _headline(same: bool, answer: _Answer, differences: list[DifferenceRow]) -> str:
    if same:
        return "the same features, frame for frame"
    named = ", ".join(f"{row.parameter} ({row.ours} / {row.theirs})" for row in differences[:4])
    more = f" and {len(differences) - 4} more" if len(differences) > 4 else ""
    if answer.explained and differences:
        return f"other features: {named}{more}"
    nearest = f"; nearest: {named}{more}" if differences else ""
    return f"other features, and no front end that was tried gives them{nearest}"
