"""The report as one HTML file that works offline and asks the network for nothing.

Plots are drawn by BokehJS (from the package bokeh, BSD-3-Clause), the table by DataTables (from
the package itables, MIT). Both are copied into the file; neither package is imported.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from exporter.core.extras import folder_of, is_there
from exporter.parity.status import Status, is_good, severity, status_of
from exporter.report.advice import SEEDED, next_steps
from exporter.report.deployments import deployment_lines
from exporter.report.latency import latency_lines
from exporter.report.overall_verdict import verdict_line
from exporter.report.payload import payload, script_json
from exporter.report.rows import VERDICT_STYLES, output_rows, taps_of
from exporter.report.safe_text import (
    cosine,
    figure,
    printable,
    seconds,
    shorten,
    size,
    times,
)
from exporter.report.schema import Report
from exporter.report.seams import seam_plot

MAX_BYTES = 6_000_000
_MAX_ROWS = 400
_PAGE = "the HTML report"
_SCRIPTS = ("theme.js", "plot.js", "waveform.js", "tree.js", "table.js", "main.js")


def render_html(report: Report) -> str:
    """Return the whole page.

    Raises:
        MissingPackageError: bokeh or itables is not installed.
    """
    data = payload(report)
    # What was not run because a stage stopped is said once, with that stage; a doubt that the
    # verdict excuses is not wrong.
    least = severity(Status.AMBIGUOUS if not is_good(report.verdict) else Status.NOT_RUN)
    least = severity(Status.FAIL) if report.stopped is not None else least
    wrong = [held for held in report.contracts if severity(held.verdict) >= least]
    return (
        page_environment()
        .get_template("report.html.jinja")
        .render(
            report=report,
            verdict_line=verdict_line(report),
            steps=next_steps(report),
            seeded=SEEDED if report.pipeline.weights.seeded else "",
            failed_links=[link for link in report.links if severity(link.verdict) >= least],
            failed_contracts=[held for held in wrong if status_of(held.verdict) is Status.FAIL],
            other_contracts=[held for held in wrong if status_of(held.verdict) is not Status.FAIL],
            failed_structure=[held for held in report.structure if not held.accepted],
            changed_structure=[held for held in report.structure if held.accepted],
            failed_golden=[held for held in report.golden if severity(held.verdict) >= least],
            outputs=output_rows(report),
            devices=deployment_lines(report.deployments),
            latency=latency_lines(report),
            left_out=data["left_out"],
            data=Markup(script_json(data)),  # noqa: S704 - script_json leaves no markup in it
            most=_MAX_ROWS,
            style=Markup(asset("report.css")),  # noqa: S704 - our own file
            scripts=[Markup(asset(name)) for name in _SCRIPTS],  # noqa: S704 - our own files
            **_libraries(),
        )
    )


def can_render_html() -> bool:
    """True where the libraries of the page are installed: the extra 'report'."""
    return is_there("bokeh") and is_there("itables")


@cache
def page_environment() -> Environment:
    """Templates of pages: every name in them is escaped, and cut to a sane length."""
    environment = Environment(
        loader=PackageLoader("exporter.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        {
            "name": lambda text: shorten(text, 200),
            "words": lambda text: shorten(text, 1000),
            "path": printable,
            "figure": figure,
            "times": times,
            "cosine": cosine,
            "seconds": seconds,
            "size": size,
            "taps": taps_of,
            "status": _status_class,
            "seam_plot": seam_plot,
        }
    )
    return environment


def _status_class(verdict: str) -> str:
    """A CSS class for a verdict; what is not known looks like a failure."""
    return "is-" + (verdict.replace(" ", "-") if verdict in VERDICT_STYLES else "fail")


def asset(name: str) -> str:
    """The text of a style or a script of the pages."""
    return resources.files("exporter.report").joinpath("assets", name).read_text("utf-8")


def plot_scripts(*names: str) -> list[Markup]:
    """BokehJS as it stands in a page.

    Raises:
        MissingPackageError: bokeh is not installed.
    """
    bokeh = folder_of("bokeh", who=_PAGE) / "server/static/js"
    return [_inline(bokeh / f"{name}.min.js") for name in ("bokeh", *names)]


def _libraries() -> dict[str, Any]:
    itables = folder_of("itables", who=_PAGE) / "html"
    return {
        "bokeh_scripts": plot_scripts("bokeh-api"),
        "table_script": _inline(itables / "dt_bundle.js"),
        "table_style": _inline(itables / "dt_bundle.css"),
    }


@cache
def _inline(path: Path) -> Markup:
    """A library's file as it may stand inside an element: it must not close that element."""
    text = path.read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("//# sourceMappingURL")]
    safe = "\n".join(lines).replace("</script", "<\\/script").replace("<!--", "<\\!--")
    return Markup(safe)  # noqa: S704 - a file of an installed package
