"""Write what a report is rendered to, beside its report.json."""

from __future__ import annotations

import os
from pathlib import Path

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
    return tuple(_write(folder / name, text) for name, text in texts.items())


def write_junit(report: Report, path: Path) -> Path:
    """Write JUnit XML, atomically."""
    return _write(path, render_junit(report))


def _write(path: Path, text: str) -> Path:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
    return path
