"""Small modules, broken on purpose or only suspicious, one file per contract."""

from __future__ import annotations

import importlib

from tests.contracts.zoo.toy import Toy

CONTRACTS = (
    "causality",
    "padding",
    "mutation",
    "dtype",
    "determinism",
    "shapes",
    "silence",
    "reset",
)


def toys(contract: str) -> list[Toy]:
    """The modules of one contract."""
    return importlib.import_module(f"tests.contracts.zoo.{contract}").TOYS
