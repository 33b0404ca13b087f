"""Memory that a program allocates and has not written yet: it holds no value.

``torch.empty`` gives whatever lay there, another thing in every run and in every library. While
nothing is written to it, it and its views are no values that could be compared.
"""

from __future__ import annotations

_ALLOCATES = (
    "aten.empty.",
    "aten.empty_like.",
    "aten.empty_strided.",
    "aten.empty_permuted.",
    "aten.new_empty.",
    "aten.new_empty_strided.",
)


def allocates(target: str) -> bool:
    """True for an op that gives memory with nothing written to it."""
    return target.startswith(_ALLOCATES)
