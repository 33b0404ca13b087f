"""Node data for Model Explorer: the graph, each node coloured by its local error over its limit.

Open ``model.onnx`` there (with the extension model-explorer-onnx) and add the file as custom node
data. Keys are the names under which that extension shows nodes (``exporter.graph.viewer_keys``).
Format: ``GraphNodeData`` of the package ai-edge-model-explorer (``node_data_builder.py``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from types import MappingProxyType

from exporter.report.figures import layer_links, tap_figures
from exporter.report.schema import Report

# Upper ends of ranges of error over limit; the last one holds everything that is left.
_LARGEST = 1e30
_THRESHOLDS = (
    (0.1, "#e6f4ea", "#111111"),
    (1.0, "#b7e1c0", "#111111"),
    (10.0, "#f6b26b", "#111111"),
    (_LARGEST, "#cc0000", "#ffffff"),
)
_AMBIGUOUS = "#ffe082"


def render_overlay(
    report: Report,
    link: str | None = None,
    keys: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> str:
    """Return node data as JSON.

    Args:
        report: what was judged.
        keys: value of the file -> what a viewer shows for it; a tap that is not there keeps its
            own name.
        link: which link; by default the one to look at first (with culprits, else the last).

    A tap that was not measured has no value; NaN is shown as the largest. A report without layers
    gives a file without values.
    """
    links = layer_links(report)
    chosen = next(
        (link_shown for link_shown in links if link is None or link_shown.name == link), None
    )
    results: dict[str, dict[str, float | str]] = {}
    taps = (tap for layer in chosen.layers for tap in layer.taps) if chosen else ()
    named = {tap.name: tap.held_as for tap in taps if tap.held_as}
    for tap in tap_figures(chosen) if chosen else ():
        if tap.fate != "compared" or tap.strain is None:
            continue
        value = _LARGEST if math.isnan(tap.strain) else min(max(tap.strain, 0.0), _LARGEST)
        shown: dict[str, float | str] = {"value": value}
        if tap.verdict == "fail":
            shown |= {"bgColor": _THRESHOLDS[-1][1], "textColor": _THRESHOLDS[-1][2]}
        elif tap.verdict == "ambiguous":
            shown["bgColor"] = _AMBIGUOUS
        for key in keys.get(named.get(tap.name, tap.name), (tap.name,)):
            # Of several values of one node the worst colours it.
            known = results.get(key)
            if known is None or float(known["value"]) <= value:
                results[key] = dict(shown)
    return json.dumps(
        {
            "name": "error / limit",
            "results": results,
            "thresholds": [
                {"value": value, "bgColor": back, "textColor": text}
                for value, back, text in _THRESHOLDS
            ],
        },
        allow_nan=False,
    )
