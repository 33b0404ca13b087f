"""Memory that a program allocates and has not written yet: it holds no value.

``torch.empty`` gives whatever lay there, another thing in every run and in every library. While
nothing is written to it, it and its views are no values that could be compared.
"""

from __future__ import annotations

from exporter.graph.program import Program

_ALLOCATES = (
    "aten.empty.",
    "aten.empty_like.",
    "aten.empty_strided.",
    "aten.empty_permuted.",
    "aten.new_empty.",
    "aten.new_empty_strided.",
)
_VIEWS = frozenset(
    "view reshape _unsafe_view permute transpose t expand squeeze unsqueeze slice select alias"
    " clone contiguous detach split split_with_sizes unbind chunk getitem narrow _to_copy"
    " flatten unflatten movedim flip as_strided diagonal".split()
)


def allocates(target: str) -> bool:
    """True for an op that gives memory with nothing written to it."""
    return target.startswith(_ALLOCATES)


def unwritten(program: Program) -> frozenset[str]:
    """Values of a program that are memory never written, or a view of such."""
    found: set[str] = set()
    for op in program.ops:
        parts = op.target.split(".")
        moves = len(parts) > 1 and parts[1] in _VIEWS
        source = next(op.refs(), None)
        if allocates(op.target) or (moves and source in found):
            found.add(op.name)
    return frozenset(found)
