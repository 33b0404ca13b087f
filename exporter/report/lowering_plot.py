"""The plot of ``lower``: layers by damage, and what could be had at which error."""

from __future__ import annotations

from exporter.report.lowering import LoweringReport

_MOST = 60
_KEPT, _LOWERED, _MEASURED = "#c0392b", "#2471a3", "#1e8449"


def render_plot(report: LoweringReport) -> str:
    """One HTML page that works offline."""
    from bokeh.embed import file_html
    from bokeh.layouts import column
    from bokeh.models import ColumnDataSource, FactorRange
    from bokeh.plotting import figure
    from bokeh.resources import INLINE

    rows = [row for row in report.layers if row.effect > 0.0][:_MOST]
    bars = figure(
        x_range=FactorRange(factors=[row.name for row in rows] or ["none"]),
        y_axis_type="log",
        height=420,
        sizing_mode="stretch_width",
        title="Layers by damage: relative error at what matters (bars), by itself (dots)",
        tooltips=[("layer", "@name"), ("effect", "@effect"), ("by itself", "@own"), ("", "@why")],
    )
    least = min((min(row.effect, row.own or row.effect) for row in rows), default=1e-6) / 2.0
    source = ColumnDataSource(
        {
            "name": [row.name for row in rows],
            "effect": [row.effect for row in rows],
            "own": [max(row.own, least) for row in rows],
            "why": [row.why if row.stays else "lowered" for row in rows],
            "colour": [_KEPT if row.stays else _LOWERED for row in rows],
        }
    )
    bars.vbar(x="name", top="effect", bottom=least, width=0.8, color="colour", source=source)
    bars.scatter(x="name", y="own", size=5, color="black", source=source)
    bars.xaxis.major_label_orientation = 1.2
    curve = figure(
        x_axis_type="log",
        height=360,
        sizing_mode="stretch_width",
        title="Share of what could be gained, against the error that it costs",
        x_axis_label="relative error at what matters",
        y_axis_label="gained",
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
    curve.legend.location = "bottom_right"
    title = f"{report.pipeline} in {report.to}: {report.headline}"
    return file_html(column(bars, curve, sizing_mode="stretch_width"), INLINE, title)


def _share(report: LoweringReport, every: float) -> float:
    """What the chosen file gains of it all."""
    lowered = [row for row in report.layers if not row.stays]
    if every > 0.0:
        return sum(max(row.gained or 0.0, 0.0) for row in lowered) / every
    weights = sum(row.weights for row in report.layers)
    return sum(row.weights for row in lowered) / weights if weights else 0.0
