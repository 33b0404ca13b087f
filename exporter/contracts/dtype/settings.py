"""Options of the dtype contract."""

from __future__ import annotations

from typing import Literal

from exporter.config.section import Many
from exporter.contracts.settings import ContractSettings

Precision = Literal["float16", "bfloat16", "autocast_float16", "autocast_bfloat16", "as_built"]


class Settings(ContractSettings):
    """Options.

    Attributes:
        precisions: what the model is declared to run in.
        scope: path of the submodule that runs in it; the rest stays float32. "" for all.
        run: also run it for real on this machine.
        export: export the converted module and type-check that file; None: only small models.
    """

    precisions: Many[Precision] = ("float16", "bfloat16")
    scope: str = ""
    run: bool = True
    export: bool | None = None
