"""What a report says of kernels that lose digits while the graph is right."""

from __future__ import annotations

from exporter.report.comparison import CulpritRecord
from exporter.report.schema import Report

MOST = 20


def finding_lines(report: Report) -> list[str]:
    """A sentence for each finding; they fail nothing, and are worth knowing."""
    lines = [kernel_sentence(culprit) for culprit in report.findings[:MOST]]
    more = len(report.findings) - MOST
    return [*lines, f"{more} more layers alike"] if more > 0 else lines


def kernel_sentence(culprit: CulpritRecord) -> str:
    """What a kernel loses, where, and that the graph is right."""
    which = f"{' and '.join(culprit.nodes)} " if culprit.nodes else ""
    at = f" at {culprit.source}" if culprit.source else ""
    own = ""
    if culprit.float32_error is not None:
        own = f" where float32 PyTorch has {_short(culprit.float32_error)}"
    exact = "" if culprit.graph_error is None else f" to {_short(culprit.graph_error)}"
    return (
        f"kernel of onnxruntime on {culprit.provider}: {which}loses digits in layer"
        f" '{culprit.layer}', {culprit.op}{at}: {_short(culprit.local_error)}{own}; the graph is"
        f" right: the same nodes in float64 agree{exact}"
    )


def _short(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2g}"
