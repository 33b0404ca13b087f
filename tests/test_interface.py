"""What a given file lacks of a pipeline, said in the words of people who deploy it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.graph.index import index_graph
from exporter.graph.wrap import wrap
from exporter.judge.interface import interface_problems
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
    return interface_problems(index_graph(model, Path()), wrapped)


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


STATE = {"state": (TensorProto.FLOAT, [2, None, 128])}


def test_a_state_is_no_feature_and_is_called_one(wrapped: Any):
    """As the files of silero-vad: a waveform of another name, a state of three axes, a rate."""
    inputs = {"input": (TensorProto.FLOAT, [None, None]), "sr": (TensorProto.INT64, []), **STATE}
    made = [helper.make_tensor_value_info(k, t, shape) for k, (t, shape) in inputs.items()]
    ends = [
        helper.make_tensor_value_info("output", TensorProto.FLOAT, [None, 1]),
        helper.make_tensor_value_info("stateN", TensorProto.FLOAT, [None, None, None]),
    ]
    nodes = [
        helper.make_node("Identity", ["input"], ["output"]),
        helper.make_node("Identity", ["state"], ["stateN"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", made, ends))
    found = interface_problems(index_graph(model, Path()), wrapped)
    assert not any("features" in text for text in found)
    assert "it keeps state between calls ('state' -> 'stateN')" in " ".join(found)
    assert "input [?, ?], sr [], state [2, ?, 128]" in found[1]


@pytest.mark.parametrize("name", ["silero_vad.onnx", "silero_vad_16k_sequence.onnx"])
def test_files_of_silero_take_no_features(name: str):
    import silero_vad

    from exporter.config import load_pipeline
    from exporter.graph.onnx_file import read_model

    root = Path(__file__).resolve().parents[1]
    vad = wrap(load_pipeline(root / "pipelines" / "silero_vad_tiny.yaml"))
    path = Path(silero_vad.__file__).parent / "data" / name
    model = read_model(path)
    found = interface_problems(index_graph(model, path.parent), vad)
    assert found[0].startswith("input(s) waveform, ") and "are missing" in found[0]
    assert not any("features" in text for text in found)


def test_features_beside_a_state_are_features(wrapped: Any):
    found = problems(wrapped, {**FEATURES, **STATE, **PROMPTS}, outputs=(*OUTPUTS, "stateN"))
    assert found[0].startswith("it takes features, not a waveform")


@pytest.mark.parametrize(
    ("dtype", "shape", "said"),
    [
        (TensorProto.INT32, [], "input 'language' is int32, declared int64"),
        (TensorProto.INT64, ["batch"], "input 'language' has 1 axes, declared 0"),
    ],
)
def test_another_type_or_rank_is_said_before_onnxruntime_does(
    wrapped: Any, dtype: int, shape: list[Any], said: str
):
    inputs = {"waveform": (TensorProto.FLOAT, ["N"]), **PROMPTS, "language": (dtype, shape)}
    assert problems(wrapped, inputs) == [f"{said}: export it with what the pipeline gives"]


def test_an_input_that_the_pipeline_does_not_give_is_said(wrapped: Any):
    inputs = {"waveform": (TensorProto.FLOAT, ["N"]), **PROMPTS}
    found = problems(wrapped, {**inputs, "beam": (TensorProto.INT64, [])})
    assert found == ["it needs the input(s) beam, which the pipeline does not give"]
