"""What a report says of kernels that lose digits while the graph is right."""

from __future__ import annotations

from exporter.report.comparison import CulpritRecord
from exporter.report.schema import Report

MOST = 20


def finding_lines(report: Report) -> list[str]:
    """A sentence for each finding; they fail nothing, and are worth knowing."""
    lines = [kernel_sentence(held) for held in report.findings[:MOST]]
    more = len(report.findings) - MOST
    return [*lines, f"{more} more layers alike"] if more > 0 else lines


def kernel_sentence(held: CulpritRecord) -> str:
    """What a kernel loses, where, and that the graph is right."""
    which = f"{' and '.join(held.nodes)} " if held.nodes else ""
    at = f" at {held.source}" if held.source else ""
    own = ""
    if held.float32_error is not None:
        own = f" where float32 PyTorch has {_short(held.float32_error)}"
    exact = "" if held.graph_error is None else f" to {_short(held.graph_error)}"
    return (
        f"kernel of onnxruntime on {held.provider}: {which}loses digits in layer '{held.layer}',"
        f" {held.op}{at}: {_short(held.local_error)}{own}; the graph is right: the same nodes in"
        f" float64 agree{exact}"
    )


def _short(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2g}"
