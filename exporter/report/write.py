"""Write what a report is rendered to, beside its report.json."""

from __future__ import annotations

from pathlib import Path

from exporter.core.files import write_text
from exporter.report.html import render_html
from exporter.report.junit import render_junit
from exporter.report.markdown import render_markdown
from exporter.report.overlay import render_overlay
from exporter.report.schema import Report

HTML = "report.html"
MARKDOWN = "report.md"
OVERLAY = "model_explorer.json"
RENDERINGS = (HTML, MARKDOWN, OVERLAY)


def write_renderings(report: Report, folder: Path) -> tuple[Path, ...]:
    """Write ``report.html``, ``report.md`` and the overlay; each atomically.

    Raises:
        MissingPackageError: a library of the HTML report is not installed.
        OSError: the folder cannot be written to.
    """
    texts = {
        HTML: render_html(report),
        MARKDOWN: render_markdown(report),
        OVERLAY: render_overlay(report),
    }
    return tuple(write_text(folder / name, text) for name, text in texts.items())


def write_junit(report: Report, path: Path) -> Path:
    """Write JUnit XML, atomically."""
    return write_text(path, render_junit(report))
