"""The module that ``wrap`` builds: shapes at the edges, captured equals eager, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from exporter.config import load_pipeline
from exporter.core.errors import ConfigError
from exporter.graph.capture import capture
from exporter.graph.wrap import Wrapped, wrap
from tests.support.pipelines import ALL_OUTPUTS, sensevoice

ROOT = Path(__file__).parents[2]
AUDIO = ROOT / "golden" / "audio"
BATCHED_OUTPUTS = ("logits", "logit_lengths", "token_ids", "token_lengths")
PROMPT = (torch.tensor(4), torch.tensor(15))


@pytest.fixture(scope="module")
def tiny() -> Wrapped:
    return wrap(sensevoice())


@pytest.fixture(scope="module")
def batched() -> Wrapped:
    return wrap(sensevoice(vad=False, outputs=BATCHED_OUTPUTS))


def noise(*shape: int) -> torch.Tensor:
    return torch.from_numpy(0.1 * np.random.default_rng(3).standard_normal(shape, dtype=np.float32))


def speech(num_samples: int | None = None) -> torch.Tensor:
    samples, _ = soundfile.read(AUDIO / "english.wav", dtype="float32")
    return torch.from_numpy(samples if num_samples is None else np.resize(samples, num_samples))


def run(wrapped: Wrapped, *inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    results = wrapped.module(*inputs, *PROMPT)
    return dict(zip([spec.name for spec in wrapped.outputs], results, strict=True))


def test_specs_describe_what_comes_out(tiny: Wrapped) -> None:
    found = run(tiny, speech())
    sizes: dict[str, int] = {}
    for spec in tiny.outputs:
        value = found[spec.name]
        assert str(value.dtype) == f"torch.{spec.dtype}"
        assert spec.discrete == (not value.is_floating_point())
        assert len(value.shape) == len(spec.shape)
        for declared, size in zip(spec.shape, value.shape, strict=True):
            assert (
                sizes.setdefault(declared, size) if isinstance(declared, str) else declared
            ) == size
    assert sizes["num_segments"] > 1 and [spec.name for spec in tiny.outputs] == list(ALL_OUTPUTS)


def test_module_paths_are_upstreams(tiny: Wrapped) -> None:
    paths = dict(tiny.module.named_modules())
    assert {"vad", "segmenter", "cut", "fbank", "lfr", "cmvn"} <= set(paths)
    assert "model.encoder.encoders.0.self_attn" in paths and "model.ctc.ctc_lo" in paths
    assert not any(part.training for part in tiny.module.modules())
    assert not any(parameter.requires_grad for parameter in tiny.module.parameters())


def test_the_example_is_fit_for_tracing(tiny: Wrapped, batched: Wrapped) -> None:
    for wrapped in (tiny, batched):
        assert list(wrapped.example) == [spec.name for spec in wrapped.inputs]
        assert len({tensor.data_ptr() for tensor in wrapped.example.values()}) == len(
            wrapped.example
        )
        for name, dims in wrapped.dynamic_shapes.items():
            assert all(wrapped.example[name].shape[number] >= 2 for number in dims)


@pytest.mark.parametrize("num_samples", [1, 2, 399, 400, 559, 32000])
def test_silence_and_scraps_of_audio_have_zero_rows(tiny: Wrapped, num_samples: int) -> None:
    found = run(tiny, torch.zeros(num_samples))
    assert found["segments"].shape == (0, 2)
    assert found["speech_probs"].shape == (-(-num_samples // 512),)
    assert all(found[name].shape[0] == 0 for name in BATCHED_OUTPUTS)


def test_one_long_segment(tiny: Wrapped) -> None:
    wrapped = wrap(sensevoice(min_silence_ms=3000))
    found = run(wrapped, speech())
    assert found["segments"].shape[0] < run(tiny, speech())["segments"].shape[0]
    start, end = found["segments"][0].tolist()
    frames = 1 + (end - start - 400) // 160
    assert found["logit_lengths"][0].item() == -(-frames // 6) + 4


def test_a_segment_alone_gives_the_same_as_among_others(tiny: Wrapped, batched: Wrapped) -> None:
    waveform = speech()
    found = run(tiny, waveform)
    for row, (start, end) in enumerate(found["segments"].tolist()):
        alone = run(batched, waveform[None, start:end], torch.tensor([end - start]))
        length = int(found["logit_lengths"][row])
        assert alone["logit_lengths"].tolist() == [length]
        torch.testing.assert_close(
            alone["logits"][0, :length], found["logits"][row, :length], rtol=0, atol=5e-5
        )


def test_inputs_are_not_written_to(tiny: Wrapped, batched: Wrapped) -> None:
    for wrapped in (tiny, batched):
        inputs = [tensor.clone() for tensor in wrapped.example.values()]
        state = {name: value.clone() for name, value in wrapped.module.state_dict().items()}
        versions = [tensor._version for tensor in inputs]
        wrapped.module(*inputs)
        assert versions == [tensor._version for tensor in inputs]
        for tensor, example in zip(inputs, wrapped.example.values(), strict=True):
            assert torch.equal(tensor, example)
        assert all(
            torch.equal(value, state[name]) for name, value in wrapped.module.state_dict().items()
        )


def test_what_lies_behind_the_length_changes_nothing(batched: Wrapped) -> None:
    waveform, lengths = noise(2, 16000), torch.tensor([16000, 9000])
    loud = waveform.clone()
    loud[1, 9000:] = 0.9
    first, second = run(batched, waveform, lengths), run(batched, loud, lengths)
    valid = first["logit_lengths"][1]
    assert torch.equal(first["logits"][1, :valid], second["logits"][1, :valid])
    assert torch.equal(first["token_ids"], second["token_ids"])


def captured_equals_eager(wrapped: Wrapped, cases: list[tuple[torch.Tensor, ...]]) -> None:
    program = capture(wrapped.module, wrapped.example, wrapped.dynamic_shapes).module()
    for case in cases:
        eager, captured = wrapped.module(*case, *PROMPT), program(*case, *PROMPT)
        for spec, left, right in zip(wrapped.outputs, eager, captured, strict=True):
            assert left.shape == right.shape and left.dtype == right.dtype, spec.name
            torch.testing.assert_close(right, left, rtol=1e-5, atol=1e-5, msg=spec.name)


def test_captured_equals_eager_at_every_length(tiny: Wrapped) -> None:
    cases = [(noise(1),), (noise(400),), (noise(80000),), (speech(320000),), (torch.zeros(16000),)]
    captured_equals_eager(tiny, cases)


def test_captured_equals_eager_in_batches(batched: Wrapped) -> None:
    cases = [
        (noise(1, 1), torch.tensor([1])),
        (noise(3, 399), torch.tensor([399, 0, 100])),
        (noise(1, 400), torch.tensor([400])),
        (noise(4, 33333), torch.tensor([33333, 400, 559, 16000])),
    ]
    captured_equals_eager(batched, cases)


def test_the_digest_covers_more_than_the_model() -> None:
    plain, other = wrap(sensevoice()), wrap(sensevoice())
    assert plain.weights == other.weights
    pipeline = sensevoice()
    pipeline.features.window = "povey"
    assert wrap(pipeline).weights.digest != plain.weights.digest


@pytest.mark.parametrize(
    ("outputs", "vad", "message"),
    [
        (("tokens",), True, "no output 'tokens'"),
        (("segments",), False, "'segments' without a VAD"),
        ((), True, "empty or repeated"),
        (("logits", "logits"), True, "empty or repeated"),
    ],
)
def test_outputs_that_do_not_exist(outputs: tuple[str, ...], vad: bool, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        wrap(sensevoice(outputs=outputs, vad=vad))


def test_features_that_the_model_does_not_take() -> None:
    pipeline = sensevoice()
    pipeline.features.lfr_m = 5
    with pytest.raises(ConfigError, match="80 x 5 = 400 values a frame, but the model takes 560"):
        wrap(pipeline)


def test_outputs_come_in_the_order_asked_for() -> None:
    wrapped = wrap(sensevoice(outputs=("token_ids", "segments")))
    ids, segments = wrapped.module(speech(), *PROMPT)
    assert segments.shape[1] == 2 and ids.shape[0] == segments.shape[0]


def test_the_tiny_pipeline_of_the_repository() -> None:
    pipeline = load_pipeline(ROOT / "pipelines" / "sensevoice_tiny.yaml")
    wrapped = wrap(pipeline)
    assert tuple(spec.name for spec in wrapped.outputs) == pipeline.outputs
    assert run(wrapped, speech())["token_lengths"].sum() > 20


def test_a_rate_that_the_vad_does_not_know() -> None:
    pipeline = sensevoice()
    pipeline.sample_rate_hz = 22050
    with pytest.raises(ConfigError, match=r"sample_rate_hz: the VAD has no network for 22050 Hz"):
        wrap(pipeline)


def test_a_model_without_its_features() -> None:
    pipeline = sensevoice()
    pipeline.features = None
    with pytest.raises(ConfigError, match="takes features, but there are none"):
        wrap(pipeline)
