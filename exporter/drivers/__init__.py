"""Drivers: plain Python over named graphs, the same for PyTorch and ONNX.

Each is a module with ``drive(config, graphs, case, decider)``; a driver has no numbers of its own
that differ between two sides, so that a difference is a graph's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from exporter.core.tensors import Arrays
from exporter.drivers import attention, chain, ctc, loop, transducer
from exporter.drivers.decisions import Decider
from exporter.drivers.graph import DriverStoppedError, Graph, Outcome

DRIVERS: Mapping[str, Callable[[Any, dict[str, Graph], Arrays, Decider], Outcome]] = {
    "chain": chain.drive,
    "attention": attention.drive,
    "transducer": transducer.drive,
    "ctc": ctc.drive,
    "loop": loop.drive,
}

__all__ = ["DRIVERS", "Decider", "DriverStoppedError", "Graph", "Outcome"]
