"""Write a report and what it is rendered to, side by side."""

from __future__ import annotations

from pathlib import Path

from exporter.core.files import remove, write_text
from exporter.report.html import can_render_html, render_html
from exporter.report.junit import render_junit
from exporter.report.markdown import render_markdown
from exporter.report.overlay import render_overlay
from exporter.report.schema import REPORT, Report, write_report

HTML = "report.html"
MARKDOWN = "report.md"
OVERLAY = "model_explorer.json"
TRACE = "stopped.txt"
"""The traceback of a run that stopped."""
RENDERINGS = (HTML, MARKDOWN, OVERLAY)


def clear_reports(folder: Path) -> None:
    """Take away what an earlier run said: beside other files it would be believed."""
    for name in (REPORT, *RENDERINGS, TRACE):
        remove(folder / name)


def write_reports(report: Report, folder: Path) -> None:
    """Write ``report.json`` and what it is rendered to, each atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    write_report(report, folder / REPORT)
    write_renderings(report, folder)


def write_renderings(report: Report, folder: Path) -> tuple[Path, ...]:
    """Write ``report.html``, ``report.md`` and the overlay; each atomically.

    The page is left out where its libraries are not installed, and none of an earlier run stays.

    Raises:
        OSError: the folder cannot be written to.
    """
    texts = {MARKDOWN: render_markdown(report), OVERLAY: render_overlay(report)}
    if can_render_html():
        texts[HTML] = render_html(report)
    else:
        remove(folder / HTML)
    return tuple(write_text(folder / name, text) for name, text in texts.items())


def write_junit(report: Report, path: Path) -> Path:
    """Write JUnit XML, atomically."""
    return write_text(path, render_junit(report))
