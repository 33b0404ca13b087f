"""What a given file lacks of a pipeline, said in the words of people who deploy it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.graph.index import index_graph
from exporter.graph.wrap import wrap
from exporter.interface import interface_problems
from tests.support.pipelines import sensevoice

OUTPUTS = ("segments", "logit_lengths")


@pytest.fixture(scope="module")
def wrapped() -> Any:
    return wrap(sensevoice(settings={"num_blocks": 1, "tp_blocks": 0}, outputs=OUTPUTS))


def problems(
    wrapped: Any,
    inputs: dict[str, tuple[int, list[Any]]],
    *,
    outputs: tuple[str, ...] = OUTPUTS,
    constants: dict[str, np.ndarray] | None = None,
) -> list[str]:
    """Problems of a file of such inputs and outputs, all of them used."""
    made = [helper.make_tensor_value_info(k, t, shape) for k, (t, shape) in inputs.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in outputs]
    first = next(iter(inputs))
    nodes = [helper.make_node("Cast", [first], [name], to=TensorProto.INT64) for name in outputs]
    nodes += [helper.make_node("Neg", [name], [f"{name}_used"]) for name in inputs]
    held = [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()]
    model = helper.make_model(helper.make_graph(nodes, "g", made, ends, held))
    return interface_problems(model, index_graph(model, Path()), wrapped)


PROMPTS = {"language": (TensorProto.INT64, []), "text_norm": (TensorProto.INT64, [])}
FEATURES = {"feats": (TensorProto.FLOAT, ["B", "T", 560])}


def test_features_instead_of_a_waveform(wrapped: Any):
    found = problems(wrapped, {**FEATURES, **PROMPTS})
    assert found[0] == (
        "it takes features, not a waveform: VAD, fbank, LFR, CMVN are outside the graph"
    )
    assert found[1].startswith("it takes feats [B, T, 560], language []")


def test_a_file_that_normalises_its_features_itself_has_the_cmvn(wrapped: Any):
    shift = wrapped.module.cmvn.shift.numpy().reshape(1, 1, -1)
    found = problems(wrapped, {**FEATURES, **PROMPTS}, constants={"mean": shift})
    assert "VAD, fbank, LFR are outside the graph" in found[0]


def test_a_waveform_of_another_name_is_no_feature(wrapped: Any):
    found = problems(wrapped, {"audio": (TensorProto.FLOAT, [1, "N"]), **PROMPTS})
    assert found[0] == "input(s) waveform are missing"
    assert "audio [1, N]" in found[1]


def test_a_waveform_without_a_vad(wrapped: Any):
    inputs = {"waveform": (TensorProto.FLOAT, ["N"]), **PROMPTS}
    assert problems(wrapped, inputs, outputs=("logit_lengths",)) == [
        "output(s) segments are missing: it has no VAD"
    ]


def test_the_pipelines_own_interface_has_no_problem(wrapped: Any):
    inputs = {"waveform": (TensorProto.FLOAT, ["N"]), **PROMPTS}
    assert problems(wrapped, inputs) == []
