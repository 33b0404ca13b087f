"""Write a report and what it is rendered to, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from exporter.core.errors import UserInputError
from exporter.core.files import remove, write_text
from exporter.report.beside import place
from exporter.report.digest import SHIPPED
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
    texts = {
        MARKDOWN: render_markdown(report),
        OVERLAY: render_overlay(report, keys=_keys(report, folder)),
    }
    if can_render_html():
        texts[HTML] = render_html(report)
    else:
        remove(folder / HTML)
    return tuple(write_text(folder / name, text) for name, text in texts.items())


def _keys(report: Report, folder: Path) -> Mapping[str, tuple[str, ...]]:
    """What a viewer shows of the judged file; nothing where it does not lie here any more."""
    artifacts = [item for item in report.artifacts if item.nodes]
    chosen = next(
        (item for item in artifacts if item.name == SHIPPED), artifacts[-1] if artifacts else None
    )
    path = place(chosen, folder / REPORT) if chosen else None
    if path is None:
        return {}
    from exporter.graph.taps import read_taps
    from exporter.graph.viewer_keys import viewer_keys

    try:
        keys = viewer_keys(path)
        # An output of the graph is called by its public name in the file.
        taps = read_taps(folder / "taps.json") if (folder / "taps.json").is_file() else {}
        renamed = {tap.name: keys[name] for name, tap in taps.items() if name in keys}
        return {**renamed, **keys}
    except UserInputError:  # not a file that can be read: the verdict says so
        return {}


def write_junit(report: Report, path: Path) -> Path:
    """Write JUnit XML, atomically."""
    return write_text(path, render_junit(report))
