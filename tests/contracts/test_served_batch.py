"""A batch as served: lengths, languages and loudness mixed; what a row does to another is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.cases.load import load_cases
from exporter.config import load_pipeline
from exporter.contracts.make_target import target_from_wrapped
from exporter.contracts.runner import run_contracts
from exporter.graph.wrap import wrap
from exporter.parity.status import Status
from tests.support.target_from_module import no_file

pytestmark = pytest.mark.slow
YAML = Path(__file__).resolve().parents[2] / "pipelines" / "streams" / "sensevoice_rows.yaml"


@pytest.mark.parametrize(
    ("fault", "where"),
    [
        ("", None),
        ("language of row 0", "model"),
        ("loudest row", "model"),
        ("lengths ignored", "encoders0.0.self_attn"),
        ("rows turned round", "model"),
    ],
)
def test_a_row_is_what_it_is_alone(fault, where):
    pipeline = load_pipeline(YAML).with_trust()
    settings = {**pipeline.model.settings, "fault": fault}
    model = pipeline.model.model_copy(update={"settings": settings})
    pipeline = pipeline.model_copy(update={"model": model})
    wrapped = wrap(pipeline)
    cases = load_cases(pipeline, wrapped.inputs, ["served"])
    target = target_from_wrapped(wrapped, cases, name="rows", file=no_file("PyTorch alone"))
    found, _ = run_contracts(target, {"padding": None}, pipeline=pipeline)
    assert found.status is (Status.FAIL if fault else Status.PASS), found.reason
    if where is not None:
        assert found.where is not None and where in found.where.module, found.where
