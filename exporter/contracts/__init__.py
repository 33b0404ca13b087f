"""Properties that users rely on and that equal outputs do not show, one per file.

Each contract is a module with ``Settings`` and ``check(target, settings)``; it returns one
verdict per side, PyTorch and ONNX.
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
