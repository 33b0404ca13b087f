"""FSMN-VAD: the healthy counterpart, and a leak that no number shows.

A memory that looks two frames ahead (``rorder: 2``) in one of four layers, its weights near 1e-3,
moves the past by 6e-6: less than the 1e-5 that a tolerance would allow. Gradient and other future
see 320 samples more whatever it moves (gradient 560 for 240, other future 801 for 481; 560 are
declared), and name the convolution.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from exporter.cases.audio import read_waveform
from exporter.cases.load import load_cases
from exporter.config import load_pipeline
from exporter.contracts.make_target import target_from_wrapped
from exporter.contracts.runner import run_contracts
from exporter.core.errors import ConfigError, WeightsError
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import FileRun
from exporter.graph.capture import capture
from exporter.graph.export import export
from exporter.graph.wrap import Wrapped, wrap
from exporter.models.upstream import quiet_upstream
from exporter.parity.status import Status
from tests.speech.upstream import AUDIO, official_features
from tests.support.files import write_model
from tests.support.fsmn_checkpoint import TINY, write_fsmn_checkpoint
from tests.support.target_from_module import target_from_module

PIPELINES = Path(__file__).resolve().parents[2] / "pipelines"
LIMIT = 1e-5


def pipeline_of(name: str = "fsmn_vad_tiny", **settings: Any) -> Any:
    pipeline = load_pipeline(PIPELINES / f"{name}.yaml")
    model = pipeline.model.model_copy(update={"settings": {**pipeline.model.settings, **settings}})
    return pipeline.model_copy(update={"model": model})


@pytest.fixture(scope="module")
def wrapped() -> Wrapped:
    return wrap(pipeline_of())


@pytest.fixture(scope="module")
def file(wrapped: Wrapped, tmp_path_factory: pytest.TempPathFactory) -> FileRun:
    captured = capture(wrapped.module, wrapped.example, wrapped.dynamic_shapes)
    made = export(captured, inputs=wrapped.inputs, outputs=wrapped.outputs, opset=18)
    path = tmp_path_factory.mktemp("fsmn") / "fsmn.onnx"
    write_model(ir.to_proto(made.model), path, external_data=False, metadata={})
    return FileRun(path, Deployment())


def speech(name: str = "english") -> np.ndarray:
    return read_waveform(AUDIO / f"{name}.wav", 16000)


def run_torch(graph: Wrapped, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with torch.no_grad():
        found = graph.module(*(torch.from_numpy(inputs[spec.name]) for spec in graph.inputs))
    return {spec.name: v.numpy() for spec, v in zip(graph.outputs, found, strict=True)}


def fresh(graph: Wrapped, waveform: np.ndarray, final: int) -> dict[str, np.ndarray]:
    state = {
        spec.name: np.zeros([s if isinstance(s, int) else 0 for s in spec.shape], spec.dtype)
        for spec in graph.inputs[2:]
    }
    return {"waveform": waveform, "final": np.array(final), **state}


def gap(left: np.ndarray, right: np.ndarray) -> float:
    assert left.shape == right.shape and left.size
    return float(np.abs(left.astype(np.float64) - right).max())


def upstream_scores(graph: Wrapped, waveform: np.ndarray, am_mvn: Path | None) -> np.ndarray:
    """FunASR's own front end and network, whole recording at once."""
    features = official_features(
        torch.from_numpy(waveform), lfr_m=5, lfr_n=1, cmvn_file=str(am_mvn) if am_mvn else None
    )
    encoder = graph.module.get_submodule("model.model.encoder")
    with torch.no_grad():
        return encoder(features.unsqueeze(0))[0].numpy()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fsmn_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


def of_checkpoint(folder: Path) -> Wrapped:
    # A pipeline that leaves sizes to the checkpoint.
    pipeline = load_pipeline(PIPELINES / "fsmn_vad_tiny.yaml")
    model = pipeline.model.model_copy(update={"settings": {}, "weights": str(folder)})
    outputs = ("scores", "speech_probs", "next_samples", "next_steps")
    return wrap(pipeline.model_copy(update={"model": model, "outputs": outputs}))


@pytest.mark.parametrize("num_samples", [400, 559, 560, 719, 720, 16000, 174000])
def test_scores_are_those_of_funasrs_front_end_and_network(checkpoint: Path, num_samples: int):
    graph = of_checkpoint(checkpoint)
    waveform = speech()[20000:][:num_samples] if num_samples < 100000 else speech()[:num_samples]
    found = run_torch(graph, fresh(graph, waveform, 1))
    expected = upstream_scores(graph, waveform, checkpoint / "am.mvn")
    # Features agree to 2e-3 in the log domain; a score hardly depends on one of them.
    assert gap(found["scores"], expected) <= 2e-4
    assert gap(found["speech_probs"], 1.0 - found["scores"][:, 0]) <= 1e-6


def test_the_front_end_of_a_stream_is_funasrs_online_one(checkpoint: Path):
    graph = of_checkpoint(checkpoint)
    with quiet_upstream():
        from funasr.frontends.wav_frontend import WavFrontendOnline
    frontend = WavFrontendOnline(cmvn_file=str(checkpoint / "am.mvn"), lfr_m=5, lfr_n=1, dither=0.0)
    waveform, cache, counts, theirs = speech()[16000:48000], {}, [], []
    inputs = fresh(graph, waveform, 0)
    ours = []
    for start in range(0, len(waveform), 3200):
        chunk, last = waveform[start : start + 3200], start + 3200 >= len(waveform)
        features, _ = frontend(
            torch.from_numpy(chunk)[None], torch.tensor([len(chunk)]), cache=cache, is_final=last
        )
        found = run_torch(graph, {**inputs, "waveform": chunk, "final": np.array(int(last))})
        theirs.append(features.shape[1])
        ours.append(len(found["scores"]))
        counts.append(int(found["next_steps"]))
        inputs |= {"samples": found["next_samples"], "steps": found["next_steps"]}
    assert ours == theirs
    assert counts[-1] == sum(ours) == (len(waveform) - 400) // 160 + 1


@pytest.mark.parametrize("size", [97, 160, 1000, 9600])
def test_a_stream_is_the_whole_file(wrapped: Wrapped, file: FileRun, size: int):
    waveform = speech()[12000:44000]
    for run in (lambda given: run_torch(wrapped, given), file.run):
        whole = run(fresh(wrapped, waveform, 1))
        inputs, parts = fresh(wrapped, waveform, 0), []
        for start in range(0, len(waveform), size):
            last = start + size >= len(waveform)
            found = run(
                {**inputs, "waveform": waveform[start : start + size], "final": np.array(int(last))}
            )
            parts.append(found["scores"])
            inputs |= {spec.name: found[f"next_{spec.name}"] for spec in wrapped.inputs[2:]}
        assert gap(np.concatenate(parts), whole["scores"]) <= LIMIT
        assert inputs["steps"] == len(whole["scores"])
        for layer in range(4):
            cache = f"next_cache_{layer}"
            assert gap(found[cache], whole[cache]) <= 10 * LIMIT


def test_a_forgotten_cache_is_seen(wrapped: Wrapped):
    waveform = speech()[12000:44000]
    whole = run_torch(wrapped, fresh(wrapped, waveform, 1))["scores"]
    first = run_torch(wrapped, fresh(wrapped, waveform[:16000], 0))
    kept = {spec.name: first[f"next_{spec.name}"] for spec in wrapped.inputs[2:]}
    rest = {"waveform": waveform[16000:], "final": np.array(1)}
    after = run_torch(wrapped, {**rest, **kept})["scores"]
    kept["cache_2"] = np.zeros_like(kept["cache_2"])
    before = run_torch(wrapped, {**rest, **kept})["scores"]
    tail = whole[len(first["scores"]) :]
    assert gap(before, tail) > 100 * LIMIT
    assert gap(after, tail) <= LIMIT


def test_padding_changes_nothing_not_even_one_bit():
    """The healthy counterpart: garbage behind a recording does not reach its scores."""
    graph = wrap(pipeline_of("fsmn_vad_batch_tiny", streaming=False))
    waveform = speech()[16000:36000]
    rng = np.random.default_rng(3)

    def scores(padding: np.ndarray) -> np.ndarray:
        batch = np.concatenate([waveform, padding.astype(np.float32)])[None]
        given = {"waveform": batch, "waveform_lengths": np.array([len(waveform)])}
        found = run_torch(graph, given)
        count = int(found["score_lengths"][0])
        assert count == (len(waveform) - 400) // 160 + 1
        return found["scores"][0, :count]

    alone = scores(np.zeros(4000))
    for loudness in (1e-3, 1.0, 1000.0):
        assert gap(scores(rng.standard_normal(4000) * loudness), alone) == 0.0


def test_the_padding_contract_passes():
    pipeline = pipeline_of("fsmn_vad_batch_tiny", streaming=False)
    graph = wrap(pipeline)
    cases = load_cases(pipeline, graph.inputs, ("noise_seed_1",))
    subject = target_from_wrapped(graph, cases, name="fsmn")
    for found in run_contracts(subject, {"padding": None}):
        assert found.status is Status.PASS, found.reason


def causality(graph: Wrapped, pipeline: Any, *, onnx: bool = False) -> Any:
    """Verdict on PyTorch; with ``onnx`` on both sides."""
    case = load_cases(pipeline, graph.inputs, ("english",))[0]
    spoken = {**case.inputs, "waveform": case.inputs["waveform"][12000:44000]}
    subject = target_from_module(
        graph.module,
        inputs=graph.inputs,
        outputs=graph.outputs,
        values=spoken,
        with_onnx=onnx,
    )
    options = {**pipeline.contracts["causality"], "streaming": None}
    found = run_contracts(subject, {"causality": options})
    return found if onnx else found[0]


def looks_ahead(graph: Wrapped, layer: int, scale: float) -> None:
    """Give one layer two frames of the future, as ``rorder: 2, rstride: 1`` does, but faintly."""
    block: Any = graph.module.get_submodule(f"model.model.encoder.fsmn.{layer}.fsmn_block")
    conv = torch.nn.Conv2d(block.dim, block.dim, (2, 1), groups=block.dim, bias=False)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        conv.weight.copy_(scale * torch.randn(conv.weight.shape, generator=draw))
    block.conv_right = conv.eval().requires_grad_(False)
    block.rorder, block.rstride = 2, 1


def test_a_memory_of_right_order_two_is_seen_by_structure_and_named(wrapped: Wrapped):
    pipeline = pipeline_of()
    healthy = causality(wrapped, pipeline)
    assert healthy.status is Status.PASS
    before = healthy.details["outputs"]["scores"]
    assert before["lookahead"] <= 560
    broken = wrap(pipeline)
    looks_ahead(broken, 1, 1e-3)
    moved = gap(
        run_torch(broken, fresh(broken, speech(), 1))["scores"],
        run_torch(wrapped, fresh(wrapped, speech(), 1))["scores"],
    )
    assert 0 < moved < 1e-3
    found, in_onnx = causality(broken, pipeline, onnx=True)
    assert found.status is Status.FAIL
    row = found.details["outputs"]["scores"]
    assert row["prefix_difference"] < LIMIT
    # Two frames more than the features need.
    assert row["by_gradient"] == before["by_gradient"] + 2 * 160
    assert row["by_other_future"] == before["by_other_future"] + 2 * 160 > 560
    assert found.where is not None
    assert found.where.module == "model.model.encoder.fsmn.1.fsmn_block.conv_right"
    assert in_onnx.status is Status.FAIL
    assert in_onnx.where is not None
    assert in_onnx.where.module.startswith("model.model.encoder.fsmn.1.fsmn_block")


def test_the_whole_network_with_right_order_two(wrapped: Wrapped):
    pipeline = pipeline_of(rorder=2, rstride=1)
    before = causality(wrapped, pipeline_of()).details["outputs"]["scores"]
    found = causality(wrap(pipeline), pipeline)
    assert found.status is Status.FAIL
    row = found.details["outputs"]["scores"]
    assert row["by_gradient"] == before["by_gradient"] + 4 * 2 * 160 > 560
    assert found.where is not None
    assert found.where.module == "model.model.encoder.fsmn.0.fsmn_block.conv_right"


def test_a_right_order_without_a_stride_is_refused():
    with pytest.raises(ConfigError, match="rstride: 1"):
        wrap(pipeline_of(rorder=2))


def test_sizes_come_from_the_checkpoint(checkpoint: Path):
    graph = of_checkpoint(checkpoint)
    caches = [spec for spec in graph.inputs if spec.name.startswith("cache")]
    assert len(caches) == TINY["fsmn_layers"]
    assert caches[0].shape == (1, TINY["proj_dim"], 19, 1)
    assert not graph.weights.seeded


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "SenseVoiceSmall"}, "not of FsmnVADStreaming"),
        ({"frontend_conf": {"lfr_m": 7}}, "write lfr_m: 7"),
        ({"encoder_conf": {"lorder": 10}}, "of another shape"),
        ({"encoder_conf": {"use_softmax": False}}, "only True is supported"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path, changes: Any, said: str):
    folder = write_fsmn_checkpoint(tmp_path / "odd", **changes)
    with pytest.raises((ConfigError, WeightsError), match=said):
        of_checkpoint(folder)


def test_a_setting_that_contradicts_the_checkpoint_is_refused(checkpoint: Path):
    pipeline = pipeline_of().with_weights(str(checkpoint))
    with pytest.raises(ConfigError, match="fsmn_layers is 4, but the checkpoint says 2"):
        wrap(pipeline)


def test_a_stream_needs_a_stack_around_every_frame():
    pipeline = pipeline_of()
    features = pipeline.features.model_copy(update={"lfr_m": 5, "lfr_n": 3})
    with pytest.raises(ConfigError, match="odd stack around every frame"):
        wrap(pipeline.model_copy(update={"features": features}))
