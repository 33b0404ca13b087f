"""Mimi's decoder: two packages, one set of weights; offline, in chunks, and from checkpoints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from exporter.config import load_pipeline
from exporter.core.errors import ConfigError, MissingPackageError, WeightsError, exit_code
from exporter.models.built import Built
from exporter.models.mimi_decoder import Settings, build, upstream_decoder
from exporter.models.mimi_layers import convolutions
from exporter.models.mimi_stream import StreamingMimiDecoder
from exporter.models.settings import read_settings
from tests.support.mimi import PIPELINES, pipeline, write_kyutai, write_transformers

IMPLEMENTATIONS = ("moshi", "transformers")


def frames(batch: int, count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, 512, count, generator=torch.Generator().manual_seed(seed))


def in_chunks(built: Built, z: torch.Tensor, size: int) -> torch.Tensor:
    states = [torch.zeros(z.shape[0], *spec.shape[1:]) for spec in built.inputs[1:]]
    parts = []
    for chunk in z.split(size, dim=-1):
        found = built.module(chunk, *states)
        states = [found[spec.name] for spec in built.outputs[1:]]
        parts.append(found["waveform"])
    return torch.cat(parts, dim=-1)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_published_size_has_15_million_parameters(implementation: Any):
    found = load_pipeline(PIPELINES / "mimi_decoder.yaml")
    settings = read_settings(Settings, found)
    assert settings == Settings()
    decoder = upstream_decoder(settings.model_copy(update={"implementation": implementation}))
    assert sum(parameter.numel() for parameter in decoder.parameters()) == 14_724_641
    assert len(decoder.state_dict()) == 28


@pytest.mark.parametrize("streaming", [False, True])
def test_both_packages_give_the_same_waveform_bit_by_bit(streaming: bool):
    ours, theirs = (
        build(pipeline(implementation=name, streaming=streaming)) for name in IMPLEMENTATIONS
    )
    assert ours.weights == theirs.weights and ours.inputs == theirs.inputs
    assert type(ours.module) is type(theirs.module)
    for batch, count in ((1, 1), (2, 9), (1, 70)):
        z = frames(batch, count)
        states = [torch.randn(batch, *spec.shape[1:]) for spec in ours.inputs[1:]]
        left, right = (built.module(z, *states) for built in (ours, theirs))
        assert left.keys() == right.keys()
        assert left["waveform"].shape == (batch, 1, 960 * count)
        assert left["waveform"].std() > 0.01
        # The difference is 0.0, not merely small.
        assert all(torch.equal(left[name], right[name]) for name in left)


def test_the_classes_are_upstreams_own():
    from moshi.modules.seanet import SEANetDecoder
    from transformers.models.mimi.modeling_mimi import MimiDecoder

    for implementation, kind in zip(IMPLEMENTATIONS, (SEANetDecoder, MimiDecoder), strict=True):
        built = build(pipeline(implementation=implementation))
        assert type(built.module.get_submodule("decoder")) is kind


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_one_chunk_from_zero_state_is_the_offline_decoder(implementation: str):
    offline = build(pipeline(implementation=implementation)).module
    stream = build(pipeline(implementation=implementation, streaming=True))
    z = frames(2, 12)
    assert torch.equal(in_chunks(stream, z, 12), offline(z)["waveform"])


@pytest.mark.parametrize("size", [1, 3, 5])
def test_chunks_are_those_of_moshis_own_streaming(size: int):
    decoder: Any = build(pipeline()).module.get_submodule("decoder")
    stream = build(pipeline(streaming=True))
    z = frames(1, 12)
    with torch.no_grad(), decoder.streaming(1):
        theirs = torch.cat([decoder(chunk) for chunk in z.split(size, dim=-1)], dim=-1)
    assert torch.equal(in_chunks(stream, z, size), theirs)
    # Against the whole at once the sums are in another order.
    assert (theirs - decoder(z)).abs().max() < 2e-6


def test_a_forgotten_state_is_far_away():
    stream = build(pipeline(streaming=True))
    z = frames(1, 12)
    whole = in_chunks(stream, z, 12)
    fresh = [torch.zeros(1, *spec.shape[1:]) for spec in stream.inputs[1:]]
    parts = [stream.module(chunk, *fresh)["waveform"] for chunk in z.split(3, dim=-1)]
    assert (torch.cat(parts, dim=-1) - whole).abs().max() > 0.05


def test_states_are_named_for_their_layers():
    stream = build(pipeline(streaming=True))
    names = [spec.name for spec in stream.inputs]
    assert names == [
        "z", "context_0", "tail_2", "context_3", "tail_5", "context_6",
        "tail_8", "context_9", "tail_11", "context_12", "context_14",
    ]  # fmt: skip
    assert [spec.name for spec in stream.outputs[1:]] == [f"next_{name}" for name in names[1:]]
    assert all(spec.initial == 0.0 for spec in stream.inputs[1:])
    assert stream.inputs[1].shape == ("batch", 512, 6)
    assert stream.inputs[2].shape == ("batch", 64, 8)
    assert isinstance(stream.module, StreamingMimiDecoder)


def test_blocks_of_several_layers_stream_too():
    settings = {"n_residual_layers": 2, "ratios": [3, 2]}
    offline = build(pipeline(**settings)).module
    stream = build(pipeline(streaming=True, **settings))
    z = frames(1, 9)
    whole = offline(z)["waveform"]
    torch.testing.assert_close(in_chunks(stream, z, 2), whole, rtol=0, atol=2e-6)


def test_building_leaves_random_numbers_and_the_screen_alone(capsys: pytest.CaptureFixture[str]):
    before = torch.random.get_rng_state()
    for implementation in IMPLEMENTATIONS:
        built = build(pipeline(implementation=implementation))
        assert not any(part.training for part in built.module.modules())
        assert not any(parameter.requires_grad for parameter in built.module.parameters())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("write", [write_kyutai, write_transformers])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_either_checkpoint_loads_into_either_package(
    tmp_path: Path, write: Any, implementation: str
):
    folder = write(tmp_path / "mimi")
    built = build(pipeline(weights=str(folder), implementation=implementation))
    wanted = build(seeded_with(7))
    assert not built.weights.seeded and built.weights.source == str(folder)
    assert built.weights.digest == wanted.weights.digest


def seeded_with(seed: int) -> Any:
    found = pipeline()
    return found.model_copy(update={"model": found.model.model_copy(update={"seed": seed})})


def test_a_single_file_is_a_checkpoint(tmp_path: Path):
    file = next(write_kyutai(tmp_path).glob("tokenizer-*"))
    assert build(pipeline(weights=str(file))).weights.source == str(file)


def test_weights_in_bfloat16_become_float32(tmp_path: Path):
    folder = write_kyutai(tmp_path, dtype=torch.bfloat16)
    built = build(pipeline(weights=str(folder)))
    assert {parameter.dtype for parameter in built.module.parameters()} == {torch.float32}


def test_a_language_model_alone_holds_no_decoder(tmp_path: Path):
    folder = write_kyutai(tmp_path)
    next(folder.glob("tokenizer-*")).unlink()
    with pytest.raises(WeightsError, match=r"no Mimi decoder in it \(model.safetensors\)"):
        build(pipeline(weights=str(folder)))


def test_a_missing_tensor_is_named(tmp_path: Path):
    file = write_transformers(tmp_path) / "model.safetensors"
    state = load_file(file)
    del state["decoder.layers.5.conv.bias"]
    save_file(state, file)
    with pytest.raises(WeightsError, match=r"missing: model.5.convtr.convtr.bias"):
        build(pipeline(weights=str(tmp_path)))


def test_a_file_that_is_cut_off(tmp_path: Path):
    file = write_transformers(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="no readable safetensors file"):
        build(pipeline(weights=str(tmp_path)))


def test_a_checkpoint_of_another_size(tmp_path: Path):
    folder = write_transformers(tmp_path)
    with pytest.raises(ConfigError, match=r"n_filters is 16, but .*num_filters is 8"):
        build(pipeline(weights=str(folder), n_filters=16))
    (folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"of another shape: model.0.conv.conv.weight"):
        build(pipeline(weights=str(folder), n_filters=16))


def test_a_decoder_that_is_not_causal_is_refused(tmp_path: Path):
    folder = write_transformers(tmp_path, use_causal_conv=False)
    with pytest.raises(WeightsError, match="use_causal_conv is False; only True is supported"):
        build(pipeline(weights=str(folder)))


def test_another_sample_rate_is_refused(tmp_path: Path):
    folder = write_transformers(tmp_path, sampling_rate=48000)
    with pytest.raises(ConfigError, match="sample rate is 24000, but .* says 48000"):
        build(pipeline(weights=str(folder)))


@pytest.mark.parametrize(
    ("implementation", "module"),
    [("moshi", "moshi.modules.seanet"), ("transformers", "transformers.models.mimi.modeling_mimi")],
)
def test_a_missing_package_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, implementation: str, module: str
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError) as caught:
        build(pipeline(implementation=implementation))
    assert f"install it with: scripts/install-upstream {implementation}" in str(caught.value)
    assert exit_code(caught.value) == 2


def test_names_of_convolutions_are_moshis():
    settings = read_settings(Settings, pipeline())
    decoder = upstream_decoder(settings)
    state = set(decoder.state_dict())
    names = {f"{item.name}.{end}" for item in convolutions(decoder) for end in ("weight", "bias")}
    assert names == state


def test_an_unknown_setting_names_file_line_and_key():
    with pytest.raises(ConfigError, match="unknown setting 'n_filter'"):
        build(pipeline(n_filter=3))
