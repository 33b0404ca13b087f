"""What the renderers show of a tap: one flat record out of a report's nested measurements.

All figures of one tap are those of its worst case. Errors are relative to the scale of the tap
(the largest finite magnitude of the float64 truth), so that layers can stand in one plot.
Nothing is decided here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from exporter.report.schema import LinkRecord, Report, TapRecord

_WORDS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
FAILED = frozenset({"fail", "not run"})
_SEVERITY = {
    "not applicable": 0,
    "empty as declared": 1,
    "pass": 2,
    "ambiguous": 3,
    "not run": 4,
    "fail": 5,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TapFigures:
    """One tap of one link, ready to show.

    Attributes:
        local: ONNX's error at this tap alone, relative to scale; ``None`` when not measured.
        propagated: ONNX's error in the free run, relative to scale.
        noise: float32 PyTorch's own error in its free run, relative to scale.
        limit: largest local error allowed, relative to scale.
        strain: local error over its limit, above 1 fails; from the verdict where it has it.
        ratio: ONNX's local distance to float64 over PyTorch's.
    """

    link: str
    layer: str
    layer_class: str
    name: str
    op: str
    source: str
    fate: str
    into: str
    case: str
    verdict: str
    who: str
    reason: str
    dtype: str
    shape: tuple[int, ...]
    local: float | None
    propagated: float | None
    noise: float | None
    limit: float | None
    strain: float | None
    ratio: float | None


def severity(verdict: str) -> int:
    """Rank of a verdict: larger is worse; a word that is not known ranks as a failure."""
    return _SEVERITY.get(verdict, 5)


def number(value: Any) -> float | None:
    """A saved figure as a float: words for NaN and Inf understood; ``None`` for anything else."""
    if isinstance(value, str):
        return _WORDS.get(value.lower().replace("infinity", "inf"))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def tap_figures(link: LinkRecord) -> Iterable[TapFigures]:
    """The taps of a link in the order of the graph."""
    for layer in link.layers:
        for tap in layer.taps:
            yield _figures(link.name, layer.module, layer.module_class, tap)


def worst_taps(report: Report, count: int) -> list[TapFigures]:
    """The worst taps, one per layer, its worst link: failures first, then by strain."""
    best: dict[str, TapFigures] = {}
    for link in report.links:
        for tap in tap_figures(link):
            if tap.fate != "compared":
                continue
            if tap.layer not in best or _badness(tap) > _badness(best[tap.layer]):
                best[tap.layer] = tap
    return sorted(best.values(), key=_badness, reverse=True)[:count]


def layer_links(report: Report) -> list[LinkRecord]:
    """Links that were compared layer by layer; the one to look at first comes first."""
    guilty = [culprit.link for culprit in report.culprits]

    def order(link: LinkRecord) -> tuple[int, int]:
        taps = sum(len(layer.taps) for layer in link.layers)
        return (guilty.index(link.name) if link.name in guilty else len(guilty), -taps)

    return sorted((link for link in report.links if link.layers), key=order)


def _badness(tap: TapFigures) -> tuple[int, float]:
    strain = tap.strain if tap.strain is not None else tap.ratio
    if strain is not None and math.isnan(strain):
        strain = math.inf
    return severity(tap.verdict), -1.0 if strain is None else strain


def _figures(link: str, layer: str, layer_class: str, tap: TapRecord) -> TapFigures:
    local: Mapping[str, Any] = tap.local or {}
    free: Mapping[str, Any] = tap.propagated or {}
    # The verdict that decided, for the words; the local one for the figures.
    judged = tap.local_verdict
    decisive = judged or tap.propagated_verdict
    if tap.propagated_verdict and (judged is None or judged.verdict != tap.verdict):
        decisive = tap.propagated_verdict
    limit = judged.limit if judged else None
    strain = judged.strain if judged else None
    error = _distance(local, "actual", "direct")
    if strain is None and error is not None and limit:
        strain = error / limit
    held = local or free
    return TapFigures(
        link=link,
        layer=layer,
        layer_class=layer_class,
        name=tap.name,
        op=tap.op,
        source=tap.source,
        fate=tap.fate,
        into=tap.into or "",
        case=tap.case or "",
        verdict=tap.verdict,
        who=(decisive.who or "") if decisive else "",
        reason=decisive.reason if decisive else "",
        dtype=str(held.get("dtype_actual") or held.get("dtype_expected") or ""),
        shape=_shape(held.get("shape_actual") or held.get("shape_expected")),
        local=_relative(error, local),
        propagated=_relative(_distance(free, "actual", "direct"), free),
        noise=_relative(_distance(free, "reference"), free),
        limit=_relative(limit, local),
        strain=strain,
        ratio=judged.ratio if judged else None,
    )


def _distance(measurement: Mapping[str, Any], *sides: str) -> float | None:
    """Largest distance of the first side that was measured; ops that only move data have one."""
    held = next((measurement[s] for s in sides if measurement.get(s) is not None), None)
    return number(held.get("max_abs")) if isinstance(held, Mapping) else None


def _relative(error: float | None, measurement: Mapping[str, Any]) -> float | None:
    scale = number(measurement.get("scale"))
    if error is None or scale is None:
        return None
    if scale == 0:
        return 0.0 if error == 0 else math.inf
    return error / scale


def _shape(shape: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in shape) if isinstance(shape, list | tuple) else ()
