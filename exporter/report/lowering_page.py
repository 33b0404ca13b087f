"""The page of ``lower``: the verdict, layers by damage, and what could be had at which error."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from exporter.report.html import asset, page_environment, plot_scripts
from exporter.report.lowering import LoweringReport, file_cells, layer_cells
from exporter.report.payload import script_json
from exporter.report.safe_text import path_end

_MOST = 60
_NAME = 26
"""Characters of a layer's name beside its bar: the end of it tells layers apart."""
_KEPT, _LOWERED, _MEASURED, _OWN = "#d9534a", "#3d8fd1", "#2f9e57", "#8b949e"


def render_page(report: LoweringReport) -> str:
    """One HTML page that works offline.

    Raises:
        MissingPackageError: bokeh is not installed.
    """
    scripts = plot_scripts()
    return (
        page_environment()
        .get_template("lower.html.jinja")
        .render(
            report=report,
            files=[file_cells(row) for row in (*report.files, report.confirmed)],
            layers=[layer_cells(row) for row in report.layers],
            most=_MOST,
            plots=Markup(script_json(_plots(report))),  # noqa: S704 - no markup is left in it
            style=Markup(asset("report.css")),  # noqa: S704 - our own file
            bokeh_scripts=scripts,
            scripts=[Markup(asset(name)) for name in ("theme.js", "lower.js")],  # noqa: S704
        )
    )


def _plots(report: LoweringReport) -> list[Any]:
    from bokeh.core.types import ID
    from bokeh.embed import json_item

    return [json_item(_bars(report), ID("damage")), json_item(_curve(report), ID("curve"))]


def _bars(report: LoweringReport) -> Any:
    """What each layer does at what matters, and by itself."""
    from bokeh.models import ColumnDataSource, FactorRange
    from bokeh.plotting import figure

    rows = [row for row in report.layers if row.effect > 0.0][:_MOST]
    least = min((min(row.effect, row.own or row.effect) for row in rows), default=1e-6) / 2.0
    # A name may be cut to the same end as another's: the place in the ranking keeps them apart.
    places = [f"{path_end(row.name, _NAME)} {at}" for at, row in enumerate(rows, 1)]
    bars = figure(
        y_range=FactorRange(factors=places[::-1] or ["none"]),
        x_axis_type="log",
        height=90 + 16 * max(len(rows), 1),
        sizing_mode="stretch_width",
        x_axis_label="relative rms error",
        tooltips=[("layer", "@name"), ("effect", "@effect"), ("by itself", "@own"), ("", "@why")],
        tools="save",
    )
    source = ColumnDataSource(
        {
            "place": places,
            "name": [row.name for row in rows],
            "effect": [row.effect for row in rows],
            "own": [max(row.own, least) for row in rows],
            "why": [row.why if row.stays else "lowered" for row in rows],
            "colour": [_KEPT if row.stays else _LOWERED for row in rows],
            "stays": ["stays in float32" if row.stays else "lowered" for row in rows],
        }
    )
    bars.hbar(
        y="place", right="effect", left=least, height=0.75, color="colour", source=source,
        legend_group="stays",
    )  # fmt: skip
    bars.scatter(x="own", y="place", size=5, color=_OWN, source=source, legend_label="by itself")
    _legend_above(bars)
    return bars


def _curve(report: LoweringReport) -> Any:
    """Share of what could be gained, against the error that it costs."""
    from bokeh.plotting import figure

    curve = figure(
        x_axis_type="log",
        height=340,
        sizing_mode="stretch_width",
        x_axis_label="relative rms error at what matters",
        y_axis_label="gained",
        tools="save",
    )
    points = [point for point in report.curve if point.error > 0.0]
    errors, worths = [p.error for p in points], [p.worth for p in points]
    curve.line(errors, worths, color=_LOWERED, legend_label="predicted")
    curve.scatter(errors, worths, color=_LOWERED, size=6)
    every = sum(max(row.gained or 0.0, 0.0) for row in report.layers)
    for row in report.files[1:]:
        if row.error is None or not 0.0 < row.error < float("inf"):
            continue
        share = 1.0 if row.name == report.files[1].name else _share(report, every)
        curve.scatter(
            [row.error], [share], size=12, marker="star", color=_MEASURED, legend_label=row.name
        )
    _legend_above(curve)
    return curve


def _legend_above(figure: Any) -> None:
    """Where it hides no point, in lines that fit a narrow screen."""
    figure.toolbar.logo = None
    for legend in list(figure.legend):
        figure.center.remove(legend)
        legend.orientation, legend.ncols, legend.padding = "horizontal", 2, 2
        figure.add_layout(legend, "above")


def _share(report: LoweringReport, every: float) -> float:
    """What the chosen file gains of it all."""
    lowered = [row for row in report.layers if not row.stays]
    if every > 0.0:
        return sum(max(row.gained or 0.0, 0.0) for row in lowered) / every
    weights = sum(row.weights for row in report.layers)
    return sum(row.weights for row in lowered) / weights if weights else 0.0
