"""What a record says of the cause of a failure."""

from __future__ import annotations

from pydantic import BaseModel


class CauseFields(BaseModel):
    """Graph or kernel: what the same nodes of the file, evaluated in float64, say of a failure.

    ``cause`` is graph, kernel or unknown; None where nobody asked. ``engine`` evaluated the nodes;
    ``graph_error`` is their distance from float64 PyTorch, ``float32_error`` that of float32
    PyTorch. ``nodes`` are operators whose kernels, of ``provider``, lose digits.
    """

    cause: str | None = None
    engine: str = ""
    graph_error: float | None = None
    float32_error: float | None = None
    nodes: list[str] = []
    provider: str = ""
