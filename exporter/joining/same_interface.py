"""What two files take and give, held against each other before anything is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from exporter.cases.array_file import read_arrays
from exporter.core.errors import UserInputError
from exporter.graph.index import GraphIndex
from exporter.joining.interface_inputs import inputs_of


def inputs_of_other(a: GraphIndex, b: GraphIndex, paths: tuple[Path, Path]) -> dict[str, str]:
    """Input of the other file -> input of the truth.

    Raises:
        UserInputError: they take other inputs, or one that is no tensor.
    """
    ours, theirs = (inputs_of(g, p) for g, p in zip((a, b), paths, strict=True))
    if set(b.inputs) <= set(a.inputs):
        return {name: name for name in b.inputs}
    alike = [(x.dtype, len(x.shape)) for x in ours] == [(x.dtype, len(x.shape)) for x in theirs]
    if alike and len({(x.dtype, len(x.shape)) for x in ours}) == len(ours):
        # One input of each kind: they cannot be mistaken, and numbers prove the rest.
        return {y.name: x.name for x, y in zip(ours, theirs, strict=True)}
    unknown = [name for name in b.inputs if name not in a.inputs]
    raise UserInputError(
        f"input '{unknown[0]}' is none of the other file's ({', '.join(a.inputs)})",
        where=str(paths[1]),
        remedy="compare files that take the same inputs",
    )


def check_outputs(a: GraphIndex, b: GraphIndex, path: Path) -> None:
    """Check that ``b``, which lies at ``path``, gives nothing that ``a`` does not give.

    Raises:
        UserInputError: it does.
    """
    lost = [name for name in b.outputs if name not in a.outputs]
    if lost:
        raise UserInputError(
            f"output '{lost[0]}' is none of the other file's ({', '.join(a.outputs)})",
            where=str(path),
            remedy="compare files that give the same outputs",
        )


def read_case(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """A user's inputs by name.

    Raises:
        UserInputError: no file of named arrays, or it lacks an input.
    """
    arrays = read_arrays(path)
    lacking = [name for name in names if name not in arrays]
    if lacking:
        raise UserInputError(
            f"holds no array '{lacking[0]}'",
            where=str(path),
            remedy=f"the file takes: {', '.join(names)}",
        )
    return {name: arrays[name] for name in names}
