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

from exporter.parity.status import severity
from exporter.report.comparison import LinkRecord, TapRecord, VerdictRecord
from exporter.report.schema import Report

_WORDS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True, slots=True, kw_only=True)
class TapFigures:
    """One tap of one link, ready to show.

    Attributes:
        local: ONNX's error at this tap alone, relative to scale; ``None`` when not measured.
        propagated: ONNX's error in the free run, relative to scale.
        noise: float32 PyTorch's own error in its free run, relative to scale.
        limit: largest local error allowed, relative to scale; ``propagated_limit``: the same
            for the free run.
        strain: local error over its limit, above 1 fails; ``propagated_strain``: the same for
            the free run. From the verdict where it has it.
        ratio: ONNX's local distance to float64 over PyTorch's.
        alone: verdict on the layer by itself; ``verdict`` joins it with that of the free run.
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
    propagated_limit: float | None
    strain: float | None
    propagated_strain: float | None
    ratio: float | None
    alone: str

    @property
    def adds_up(self) -> bool:
        """The verdict comes from the free run: by itself the layer is better."""
        return severity(self.verdict) > severity(self.alone)

    @property
    def decisive_strain(self) -> float | None:
        """The error over limit that the verdict rests on."""
        return self.propagated_strain if self.adds_up else self.strain


def number(value: Any) -> float | None:
    """A saved figure as a float: words for NaN and Inf understood; ``None`` for anything else."""
    if isinstance(value, str):
        return _WORDS.get(value.lower().replace("infinity", "inf"))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def tap_figures(link: LinkRecord) -> Iterable[TapFigures]:
    """The taps of a link in the order of the graph, which is not that of its modules."""
    placed = [(tap.place, layer, tap) for layer in link.layers for tap in layer.taps]
    if all(place is not None for place, _, _ in placed):  # earlier reports know no places
        placed.sort(key=lambda item: item[0] or 0)
    for _, layer, tap in placed:
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
    strain = tap.decisive_strain
    if strain is not None and math.isnan(strain):
        strain = math.inf
    return severity(tap.verdict), -1.0 if strain is None else strain


def _figures(link: str, layer: str, layer_class: str, tap: TapRecord) -> TapFigures:
    local: Mapping[str, Any] = tap.local or {}
    free: Mapping[str, Any] = tap.propagated or {}
    alone = tap.local_verdict
    # The verdict that decided, for the words.
    decisive = alone or tap.propagated_verdict
    if tap.propagated_verdict and (alone is None or alone.verdict != tap.verdict):
        decisive = tap.propagated_verdict
    measured = local or free
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
        dtype=str(measured.get("dtype_actual") or measured.get("dtype_expected") or ""),
        shape=_shape(measured.get("shape_actual") or measured.get("shape_expected")),
        local=_relative(_error(local), local),
        propagated=_relative(_error(free), free),
        noise=_relative(_distance(free, "reference"), free),
        limit=_relative(alone.limit if alone else None, local),
        propagated_limit=_relative(
            tap.propagated_verdict.limit if tap.propagated_verdict else None, free
        ),
        strain=_strain(alone, local),
        propagated_strain=_strain(tap.propagated_verdict, free),
        ratio=alone.ratio if alone else None,
        alone=alone.verdict if alone else "not run",
    )


def _strain(verdict: VerdictRecord | None, measurement: Mapping[str, Any]) -> float | None:
    if verdict is None:
        return None
    error = _error(measurement)
    if verdict.strain is not None or error is None or not verdict.limit:
        return verdict.strain
    return error / verdict.limit


def _error(measurement: Mapping[str, Any]) -> float | None:
    """ONNX's largest error; an op that only moves data is compared bit by bit."""
    distance = _distance(measurement, "actual", "direct")
    if distance is None and measurement.get("bitwise_equal") is True:
        return 0.0
    return distance


def _distance(measurement: Mapping[str, Any], *sides: str) -> float | None:
    """Largest distance of the first side that was measured; ops that only move data have one."""
    distance = next((measurement[s] for s in sides if measurement.get(s) is not None), None)
    return number(distance.get("max_abs")) if isinstance(distance, Mapping) else None


def _relative(error: float | None, measurement: Mapping[str, Any]) -> float | None:
    scale = number(measurement.get("scale"))
    if error == 0:
        return 0.0
    if error is None or scale is None:
        return None
    if scale == 0:
        return math.inf
    return error / scale


def _shape(shape: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in shape) if isinstance(shape, list | tuple) else ()
