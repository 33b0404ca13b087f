"""What a comparison of features found, as a record, for a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from exporter.report.comparison import Record
from exporter.report.rows import VERDICT_STYLES
from exporter.report.safe_text import markdown, printable, shorten

_MOST = 12


class DifferenceRow(Record):
    """One parameter that is not the same.

    Attributes:
        parameter: its name. ours, theirs: in words.
        before, after: what is left of the difference without and with it, all others changed: root
            mean square over the deviation of their features; None: without it there is nothing
            to compare.
        also: other single parameters that explain as much.
    """

    parameter: str
    ours: str
    theirs: str
    before: float | None
    after: float
    also: list[str]


class FrameRow(Record):
    """One frame: root mean square and largest difference over its values, and where that is."""

    frame: int
    seconds: float
    rms: float
    worst: float
    worst_value: int


class EffectRow(Record):
    """One output of the pipeline, fed their features instead of its own."""

    output: str
    words: str
    changed: bool


class FeatureReport(Record):
    """The report of ``features``.

    Attributes:
        place: where the pipeline was cut. ours: shape of its features.
        source, theirs: where the others are from, and their shape as ``[T, D]``.
        residual: of both as they are; None where their shapes cannot be compared.
        left: residual behind all differences. explained: nothing is left but rounding, or noise.
        differences: in the order in which a waveform meets them.
        frames: the worst, as both are. first_frame: the first that differs.
        effects: on the outputs; why_no_effects: why there are none.
        tried: front ends that were computed.
    """

    format: int = 1
    pipeline: str
    case: str
    place: str
    source: str
    ours: list[int]
    theirs: list[int]
    verdict: str
    exit_code: int
    headline: str
    residual: float | None
    left: float | None
    explained: bool
    differences: list[DifferenceRow]
    frames: list[FrameRow]
    first_frame: int | None
    effects: list[EffectRow]
    why_no_effects: str
    tried: int
    notes: list[str]
    not_checked: list[str]


def print_features(
    report: FeatureReport, console: Console | None = None, *, quiet: bool = False
) -> None:
    """Print the report; ``quiet`` prints the verdict alone."""
    console = console or Console(highlight=False)
    style = VERDICT_STYLES.get(report.verdict, "bold red")
    console.print(Text(f"{report.verdict.upper()}: {printable(report.headline)}", style=style))
    if quiet:
        return
    for title, lines in _sections(report):
        if lines:
            console.print(Text(title, style="bold"))
        for line in lines:
            console.print(Text(f"  {printable(line)}"))


def render_features(report: FeatureReport) -> str:
    """The report as Markdown."""
    parts = [f"**{report.verdict.upper()}**: {markdown(report.headline)}"]
    for title, lines in _sections(report):
        if lines:
            parts.append(f"### {title}")
            parts.append("\n".join(f"- {markdown(line)}" for line in lines))
    return "\n\n".join(parts) + "\n"


def _sections(report: FeatureReport) -> Iterator[tuple[str, list[str]]]:
    yield (
        "compared",
        [
            f"ours: {report.place} of {report.pipeline}, case {report.case}, {_shape(report.ours)}",
            f"theirs: {report.source}, {_shape(report.theirs)}",
            f"residual as they are: {_share(report.residual)}"
            + (f", behind all differences: {_share(report.left)}" if report.differences else ""),
        ],
    )
    title = "what differs" if report.explained else "what differs (the nearest that was found)"
    yield title, [line for row in report.differences for line in _difference(row)]
    frames = [
        f"frame {row.frame} at {row.seconds:.2f} s: rms {row.rms:.3g}, worst {row.worst:.3g} in"
        f" value {row.worst_value}"
        for row in report.frames[:_MOST]
    ]
    if frames and report.first_frame is not None:
        frames.insert(0, f"the first that differs is frame {report.first_frame}")
    yield "frames, the worst first", frames
    effects = [f"{row.output}: {row.words}" for row in report.effects]
    yield "effect on the outputs", effects or [f"not shown: {report.why_no_effects}"]
    yield "notes", report.notes
    yield "not checked", report.not_checked


def _difference(row: DifferenceRow) -> Iterator[str]:
    yield (
        f"{row.parameter}: ours {row.ours}, theirs {row.theirs}"
        f" (left without it {_share(row.before)}, with it {_share(row.after)})"
    )
    if row.also:
        yield shorten(f"  cannot be told from {'; '.join(row.also)}", 400)


def _shape(shape: list[int]) -> str:
    return f"{shape[0]} frames of {shape[1]}"


def _share(residual: float | None) -> str:
    return "nothing to compare" if residual is None else f"{residual:.2g}"
