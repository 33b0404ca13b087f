"""What the scripts of the HTML report read: columns of plain values, small enough for one file.

Words that repeat (layers, ops, sources) are stored once and referred to by index. Figures keep
four digits; those that are not finite are words, because JSON has none for them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from exporter.parity.status import is_failing, severity
from exporter.report.comparison import LinkRecord
from exporter.report.figures import TapFigures, layer_links, tap_figures
from exporter.report.safe_text import printable, shorten
from exporter.report.schema import Report, WaveformRecord

MAX_TAPS = 12_000
_NAME = 200
_REASON = 400
_MAX_CURVE = 4_000
_MAX_WAVEFORMS = 12
_FLOATS = tuple(
    "local propagated noise limit propagated_limit strain propagated_strain ratio".split()
)
_WORDS = tuple("layer layer_class op source fate case verdict alone who dtype".split())


def payload(report: Report) -> dict[str, Any]:
    """Return everything that is drawn, as values that JSON holds.

    Keys: ``words`` (a list of strings), ``links`` (name, counts, and one column per figure of
    its taps; columns named in ``words`` refer into the list), ``waveforms``, ``left_out``
    (sentences on what did not fit), ``broken`` (modules of which a contract fails).
    """
    words: dict[str, int] = {}
    left_out: list[str] = []
    links, room = [], MAX_TAPS
    for link in layer_links(report):
        taps = list(tap_figures(link))
        kept = _choose(taps, room)
        if not kept:
            left_out.append(f"link '{shorten(link.name, _NAME)}': all {len(taps):,} taps")
            continue
        if len(kept) < len(taps):
            left_out.append(
                f"link '{shorten(link.name, _NAME)}': {len(taps) - len(kept):,} of {len(taps):,}"
                " taps, those furthest below their limits"
            )
        room -= len(kept)
        links.append(_link(link, kept, words))
    shown = report.waveforms[:_MAX_WAVEFORMS]
    if len(report.waveforms) > len(shown):
        left_out.append(f"{len(report.waveforms) - len(shown):,} waveforms")
    return {
        "factor": plain(report.policy.factor),
        "words": list(words),
        "links": links,
        "waveforms": [_waveform(kept) for kept in shown],
        "left_out": left_out,
        # A module of which a contract fails is red in the tree, whatever its numbers say.
        "broken": [
            shorten(kept.module, _NAME)
            for kept in report.contracts
            if kept.module and is_failing(kept.verdict)
        ],
    }


def script_json(value: Any) -> str:
    """JSON that may stand inside a ``script`` element: no character opens or closes markup."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def plain(value: float | None) -> float | str | None:
    """A figure with four digits; ``"NaN"``, ``"Inf"``, ``"-Inf"``; ``None`` for not measured."""
    if value is None:
        return None
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    return float(f"{value:.4g}")


def _choose(taps: Sequence[TapFigures], room: int) -> list[TapFigures]:
    """All taps, or the ``room`` worst of them, in the order of the graph."""
    if len(taps) <= room:
        return list(taps)

    def badness(index: int) -> tuple[int, float]:
        strain = taps[index].strain
        known = -1.0 if strain is None else math.inf if math.isnan(strain) else strain
        # A fused tap was not compared here, which is no reason to keep it.
        rank = severity(taps[index].verdict) if taps[index].fate != "fused" else 0
        return rank, known

    kept = sorted(sorted(range(len(taps)), key=badness, reverse=True)[:room])
    return [taps[index] for index in kept]


def _link(link: LinkRecord, taps: Sequence[TapFigures], words: dict[str, int]) -> dict[str, Any]:
    def word(text: str) -> int:
        return words.setdefault(shorten(text, _NAME), len(words))

    columns: dict[str, list[Any]] = {
        name: [word(getattr(tap, name)) for tap in taps] for name in _WORDS
    }
    columns |= {name: [plain(getattr(tap, name)) for tap in taps] for name in _FLOATS}
    columns["name"] = [shorten(tap.name, _NAME) for tap in taps]
    columns["into"] = [shorten(tap.into, _NAME) for tap in taps]
    columns["shape"] = ["x".join(map(str, tap.shape)) for tap in taps]
    # A pass says nothing that its figures do not say.
    columns["reason"] = [
        "" if tap.verdict == "pass" else shorten(tap.reason, _REASON) for tap in taps
    ]
    return {
        "name": shorten(link.name, _NAME),
        "title": shorten(f"{link.expected} → {link.actual}", 2 * _NAME),
        "taps": columns,
    }


def _waveform(record: WaveformRecord) -> dict[str, Any]:
    step = max(1, math.ceil(len(record.minimum) / _MAX_CURVE))
    probs, hop = record.speech_probs, record.hop_samples or 1
    merged = max(1, math.ceil(len(probs) / _MAX_CURVE))
    return {
        "case": shorten(record.case, _NAME),
        "rate": record.sample_rate_hz,
        "samples": record.num_samples,
        "minimum": [
            _drawn(min(record.minimum[i : i + step])) for i in range(0, len(record.minimum), step)
        ],
        "maximum": [
            _drawn(max(record.maximum[i : i + step])) for i in range(0, len(record.maximum), step)
        ],
        # Extremes of both kinds matter: each pair of points is the least and the most.
        "probs": [_drawn(p) for p in probs] if merged == 1 else _extremes(probs, merged),
        "hop": hop if merged == 1 else hop * merged / 2,
        "threshold": plain(record.threshold),
        "segments": [[int(start), int(end)] for start, end in record.segments[:2000]],
        "text": printable(f"{len(record.segments)} segments"),
    }


def _extremes(values: Sequence[float], merged: int) -> list[float | None]:
    points: list[float | None] = []
    for start in range(0, len(values), merged):
        group = values[start : start + merged]
        points += [_drawn(min(group)), _drawn(max(group))]
    return points


def _drawn(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None
