"""The report of a system as one HTML file that asks the network for nothing."""

from __future__ import annotations

from markupsafe import Markup

from exporter.parity.status import severity
from exporter.report.html import asset, can_render_html, page_environment
from exporter.report.safe_text import counts
from exporter.report.system import SystemReport

_MAX_ROWS = 400


def system_html(report: SystemReport) -> str:
    """The whole page; calls worst first."""
    page = page_environment().overlay()
    page.filters = {**page.filters, "counts": counts}
    calls = sorted(report.calls, key=lambda item: -severity(item.verdict.verdict))
    return page.get_template("system.html.jinja").render(
        report=report,
        calls=calls,
        page="report.html" if can_render_html() else "report.md",
        most=_MAX_ROWS,
        style=Markup(asset("report.css")),  # noqa: S704 - our own file
        script=Markup(asset("theme.js")),  # noqa: S704 - our own file
    )
