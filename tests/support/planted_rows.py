"""What one row of a batch does to another, planted in SenseVoice with a language per row."""

from __future__ import annotations

from exporter.cases.load import load_cases
from exporter.config import load_pipeline
from exporter.contracts.make_target import target_from_wrapped
from exporter.contracts.result import TORCH, ContractResult
from exporter.contracts.runner import run_contracts
from exporter.graph.wrap import wrap
from tests.support.planted_streams import FOLDER
from tests.support.target_from_module import no_file

FAULTS = ("", "language of row 0", "loudest row", "lengths ignored", "rows turned round")


def judged_rows(fault: str) -> ContractResult:
    """PyTorch's side of the contract ``padding``, with a fault or ("") as it is."""
    pipeline = load_pipeline(FOLDER / "sensevoice_rows.yaml").with_trust()
    settings = {**pipeline.model.settings, "fault": fault}
    model = pipeline.model.model_copy(update={"settings": settings})
    pipeline = pipeline.model_copy(update={"model": model})
    wrapped = wrap(pipeline)
    cases = load_cases(pipeline, wrapped.inputs, ["served"])
    target = target_from_wrapped(wrapped, cases, name="rows", file=no_file("PyTorch alone"))
    found = run_contracts(target, {"padding": None}, pipeline=pipeline)
    return next(result for result in found if result.side == TORCH)
