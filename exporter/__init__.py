"""Export a speech pipeline to one ONNX graph, and prove that it is what was trained.

Importing this costs nothing: what is named in ``__all__`` is looked up when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exporter.config import load_pipeline
    from exporter.config.run_options import RunOptions
    from exporter.flows.check import check
    from exporter.flows.debug import debug
    from exporter.flows.one_call import export, verify
    from exporter.flows.run import run
    from exporter.report.schema import Report
    from exporter.runtime import SpeechRunner

__version__ = "0.1.0"
__all__ = [
    "Report",
    "RunOptions",
    "SpeechRunner",
    "__version__",
    "check",
    "debug",
    "export",
    "load_pipeline",
    "run",
    "verify",
]

_HOMES = {
    "Report": "exporter.report.schema",
    "RunOptions": "exporter.config.run_options",
    "SpeechRunner": "exporter.runtime",
    "check": "exporter.flows.check",
    "debug": "exporter.flows.debug",
    "export": "exporter.flows.one_call",
    "load_pipeline": "exporter.config",
    "run": "exporter.flows.run",
    "verify": "exporter.flows.one_call",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'exporter' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
