"""Loops over an axis: as many turns as an input has frames, in place of the example's.

A trace runs a loop and writes each turn down, which freezes how many there are. Here the functions
of a model that have loops are compiled once more from their own source, with each loop as a turn
that is called (``loop_source``), and a loop whose length is a size of the graph becomes one op
(``loop_turns``). The functions are afterwards what they were.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator

from exporter.graph.repairs.frame import Log, Repair
from exporter.graph.repairs.loop_source import RUNTIME, rewritten
from exporter.graph.repairs.loop_turns import Joining, Turns
from exporter.graph.repairs.model_source import functions_of, recompiled
from exporter.graph.repairs.module_run import ModuleRun


def has_loops(source: ast.FunctionDef) -> bool:
    """True for a function with a loop of its own."""
    return any(isinstance(each, ast.For) for each in ast.walk(source))


@contextlib.contextmanager
def _apply(run: ModuleRun, log: Log) -> Iterator[None]:
    with recompiled(run, has_loops, rewritten, **{RUNTIME: Turns(log)}), Joining():
        yield


REPAIR = Repair(
    name="loops",
    replaces="all turns are one op, as many as the input has (Scan in the file)",
    strategy="loops over an axis as one op",
    matches=lambda run: any(True for _ in functions_of(run, has_loops)),
    apply=_apply,
)
