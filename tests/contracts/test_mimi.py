"""The contracts on Mimi's decoder: healthy, and with one layer broken at a time.

The healthy figures are those before the fault is put in; each broken decoder is named by the
module that was broken, whichever package it is built from.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from exporter.cases.load import load_cases
from exporter.contracts import ContractResult, run_contracts
from exporter.contracts.causality.rounding import without_coarse_arithmetic
from exporter.contracts.compare.noise import noise_of
from exporter.contracts.make_target import target_from_wrapped
from exporter.contracts.target import Target
from exporter.graph.wrap import wrap
from tests.support.mimi import (
    pad_symmetrically,
    pipeline,
    round_when_long,
    to_tf32,
    trim_wrongly,
)
from tests.support.target_from_module import no_file

IMPLEMENTATIONS = ("moshi", "transformers")
CAUSALITY = {"causality": {"lookahead_samples": 0}}


def subject(break_it: Any = None, *, onnx: bool = False, **settings: Any) -> tuple[Target, Any]:
    made = pipeline(**settings)
    wrapped = wrap(made)
    broken = break_it(wrapped.module.get_submodule("model.decoder")) if break_it else None
    cases = load_cases(made, wrapped.inputs, (made.default_case,))
    if onnx:
        return target_from_wrapped(wrapped, cases, name="mimi"), broken
    return Target(
        name="mimi",
        module=wrapped.module,
        inputs=wrapped.inputs,
        outputs=wrapped.outputs,
        cases=cases,
        onnx=no_file("not needed here"),
        example=wrapped.example,
    ), broken


def figures(result: ContractResult) -> dict[str, Any]:
    return dict(result.details["outputs"]["waveform"])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_decoder_is_causal(implementation: str):
    made, _ = subject(implementation=implementation)
    found, _ = run_contracts(made, CAUSALITY)
    assert found.status == "pass", found.reason
    row = figures(found)
    assert row["by_gradient"] == 0 and row["by_other_future"] == 0
    assert 0.0 < row["prefix_difference"] < 2e-6


def test_the_figures_of_a_cuda_device_are_not_invented():
    if torch.cuda.is_available():
        pytest.skip("there is a device")
    made, _ = subject()
    found, _ = run_contracts(made, CAUSALITY)
    assert found.details["backends"] == "not run (no CUDA device)"


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("break_it", "least"), [(pad_symmetrically, 0.05), (trim_wrongly, 0.1)])
def test_a_layer_that_looks_ahead_is_named(implementation: str, break_it: Any, least: float):
    made, broken = subject(break_it, implementation=implementation)
    found, _ = run_contracts(made, CAUSALITY)
    assert found.status == "fail" and found.where is not None
    assert found.reason.startswith("really not causal: 'waveform' sees 1 step ahead")
    assert found.where.module.startswith(f"model.decoder.{broken}")
    row = figures(found)
    assert row["by_gradient"] == 1 and row["by_other_future"] == 1
    # Before the fault this was below 2e-6.
    assert row["prefix_difference"] > least


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_tf32_from_a_length_on_is_numerics_and_not_structure(implementation: str):
    made, _ = subject(round_when_long, implementation=implementation)
    found, _ = run_contracts(made, CAUSALITY)
    assert found.status == "fail" and found.where is not None
    assert found.reason.startswith("numerics of the convolution backend, not structure")
    row = figures(found)
    assert row["by_gradient"] == 0 and row["by_other_future"] == 0
    # float32 alone gave 5e-7; in float64 nothing is left.
    assert 1e-4 < row["prefix_difference"] < 1e-2
    assert row["prefix_difference_float64"] < 1e-14
    # The first convolution that is long in one run (24 frames) and short in the other (6 frames).
    layers = {"moshi": "model.3.block.1.conv.conv", "transformers": "layers.3.block.1.conv"}
    assert found.where.module == f"model.decoder.{layers[implementation]}"
    assert found.where.op == "CoarseConv"


def test_a_coarse_backend_does_not_set_its_own_limit():
    made, _ = subject(round_when_long)
    measured = noise_of(made).shares["waveform"]
    # Layers behind a transposed convolution are long, however short the input is.
    assert measured > 1e-4
    assert without_coarse_arithmetic(made, noise_of(made)).shares["waveform"] < measured / 10


def test_a_healthy_backend_keeps_its_measured_noise():
    made, _ = subject()
    noise = noise_of(made)
    assert without_coarse_arithmetic(made, noise).shares["waveform"] == noise.shares["waveform"]


def test_the_stand_in_rounds_like_tf32():
    values = torch.tensor([1.0, 1.0 + 2.0**-10, 1.0 + 2.0**-12, 1.0 + 2.0**-11 + 2.0**-20])
    assert to_tf32(values).tolist() == [1.0, 1.0 + 2.0**-10, 1.0, 1.0 + 2.0**-10]
    assert torch.equal(to_tf32(values.double()), values.double())


@pytest.mark.slow
@pytest.mark.parametrize("break_it", [pad_symmetrically, trim_wrongly])
def test_the_exported_file_names_the_layer_too(break_it: Any):
    made, broken = subject(break_it, onnx=True, implementation="transformers")
    _, found = run_contracts(made, CAUSALITY)
    assert found.side == "onnx" and found.status == "fail" and found.where is not None
    assert found.where.module.startswith(f"model.decoder.{broken}")
    assert "1 steps ahead" in found.reason


@pytest.mark.slow
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_chunks_add_up_to_the_whole_on_both_sides(implementation: str):
    made_pipeline = pipeline(name="mimi_decoder_streaming_tiny", implementation=implementation)
    wrapped = wrap(made_pipeline)
    cases = load_cases(made_pipeline, wrapped.inputs, (made_pipeline.default_case,))
    made = target_from_wrapped(wrapped, cases, name="mimi")
    options = {"causality": made_pipeline.contracts["causality"]}
    rows = run_contracts(made, options)
    assert [row.name for row in rows] == ["causality"] * 2 + ["causality.streaming"] * 2
    for found in rows:
        assert found.status == "pass", (found.name, found.side, found.reason)
    for found in rows[2:]:
        assert any("chunks of 7" in key for key in found.details["streaming"])


@pytest.mark.slow
def test_a_state_that_is_not_handed_on_is_seen():
    made_pipeline = pipeline(name="mimi_decoder_streaming_tiny")
    wrapped = wrap(made_pipeline)
    model: Any = wrapped.module.get_submodule("model")
    forward = type(model).forward

    class Forgetful(type(model)):
        def forward(self, z: Any, *states: Any) -> Any:
            return forward(self, z, torch.zeros_like(states[0]), *states[1:])

    model.__class__ = Forgetful
    made = Target(
        name="mimi",
        module=wrapped.module,
        inputs=wrapped.inputs,
        outputs=wrapped.outputs,
        cases=load_cases(made_pipeline, wrapped.inputs, (made_pipeline.default_case,)),
        onnx=no_file("not needed here"),
        example=wrapped.example,
    )
    rows = run_contracts(made, {"causality": made_pipeline.contracts["causality"]})
    found, other = rows[2:]
    assert other.status == "not run"
    assert found.status == "fail" and "in chunks of 1, 'waveform' differs" in found.reason
    figure = re.search(r"differs by ([\d.e+-]+) ", found.reason)
    assert figure is not None and 0.05 < float(figure[1]) < 10
