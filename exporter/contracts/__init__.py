"""Properties that users rely on and that equal outputs do not show, one per folder.

Each contract is a ``check.py`` with ``Settings`` and ``check(target, settings)``; it returns one
verdict per side, PyTorch and ONNX. What several of them need: the frame (``runner``, ``settings``,
``target``, ``result``), inputs to try (``probes``, ``rows``), ``compare/`` and ``locate/``.
"""

from __future__ import annotations

from exporter.contracts.result import ContractResult, Location
from exporter.contracts.runner import CONTRACTS, declared_settings, run_contracts
from exporter.contracts.target import Target

__all__ = [
    "CONTRACTS",
    "ContractResult",
    "Location",
    "Target",
    "declared_settings",
    "run_contracts",
]
