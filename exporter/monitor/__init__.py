"""Watch a certified file in service: is it still itself, does it still agree, has its input moved.

    from exporter.monitor import Monitor
    runner = SpeechRunner("model.onnx", monitor=Monitor("golden/sensevoice", port=9464))

The serving process needs no PyTorch; only ``shadow``, the worker beside it, does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exporter.monitor.monitor import Monitor

__all__ = ["Monitor"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'exporter.monitor' has no attribute '{name}'")
    return getattr(import_module("exporter.monitor.monitor"), name)
