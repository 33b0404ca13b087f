"""All faults: those made on an exported graph, and those made on the module before export."""

from __future__ import annotations

from tests.faults.fault import Fault
from tests.faults.model_faults import MODEL_FAULTS
from tests.faults.module_faults import MODULE_FAULTS
from tests.faults.speech_faults import SPEECH_FAULTS

__all__ = ["GRAPH_FAULTS", "MODULE_FAULTS"]

GRAPH_FAULTS: tuple[Fault, ...] = (*SPEECH_FAULTS, *MODEL_FAULTS)
