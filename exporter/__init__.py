"""Export a speech pipeline to one ONNX graph, and prove that it is what was trained.

Importing this costs nothing: ``load_pipeline`` and ``run`` are looked up when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exporter.config import load_pipeline
    from exporter.flows.run import run

__version__ = "0.1.0"
__all__ = ["__version__", "load_pipeline", "run"]

_HOMES = {"load_pipeline": "exporter.config", "run": "exporter.flows.run"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'exporter' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
