"""Graphs one after the other, each once."""

from __future__ import annotations

import numpy as np

from exporter.config.driver import Chain
from exporter.core.tensors import Arrays
from exporter.drivers.decisions import Decider
from exporter.drivers.frames import counts
from exporter.drivers.graph import DriverStoppedError, Graph, Outcome, Pool


def drive(config: Chain, graphs: dict[str, Graph], case: Arrays, decider: Decider) -> Outcome:
    """Outputs of the last graph, and the tokens of the one that gives them.

    Raises:
        DriverStoppedError: token ids that are no integers, or lengths that do not fit them.
    """
    pool = Pool(case, config.feed)
    found: dict[str, np.ndarray] = {}
    outputs: Arrays = {}
    for name in config.order:
        outputs = pool.call(graphs[name])
        found |= {f"{name}.{key}": value for key, value in outputs.items()}
    tokens = None if config.tokens is None else _tokens(config, found)
    last = config.order[-1]
    return Outcome(tokens=tokens, arrays={f"{last}.{key}": held for key, held in outputs.items()})


def _tokens(config: Chain, found: dict[str, np.ndarray]) -> tuple[int, ...]:
    """Ids of all rows, one row behind the other."""
    name = config.tokens or ""
    ids = found[name]
    graph = name.partition(".")[0]
    if ids.dtype.kind not in "iu" or ids.ndim not in (1, 2):
        raise DriverStoppedError(
            f"'{name}' is {ids.dtype} {list(ids.shape)}; integers [T] or [rows, T] are wanted",
            graph=graph,
        )
    rows = ids.reshape(1, -1) if ids.ndim == 1 else ids
    if config.lengths is None:
        return tuple(int(token) for token in rows.reshape(-1))
    lengths = counts(found[config.lengths], config.lengths, rows.shape, graph)
    return tuple(int(t) for row, count in zip(rows, lengths, strict=True) for t in row[:count])
