"""Paraformer on upstream's modules: size, settings, checkpoints, rows of other lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from exporter.config import load_pipeline
from exporter.core.errors import ConfigError, WeightsError
from exporter.models.built import Built
from exporter.models.paraformer import Settings, build, output_specs, upstream_model
from exporter.models.settings import read_settings
from tests.support.paraformer_checkpoint import token_table, write_checkpoint
from tests.support.pipelines import TINY_PARAFORMER, paraformer

PIPELINES = Path(__file__).parents[2] / "pipelines"


@pytest.fixture(scope="module")
def tiny() -> Built:
    return build(paraformer())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "tiny")


def recognise(built: Built, features: Tensor, counts: list[int]) -> dict[str, Tensor]:
    return built.module(features, torch.tensor(counts))


def test_the_published_size_has_220_million_parameters() -> None:
    settings = read_settings(Settings, load_pipeline(PIPELINES / "paraformer.yaml"))
    assert settings == Settings()
    upstream = upstream_model(settings)
    sizes = {
        part: sum(parameter.numel() for parameter in getattr(upstream, part).parameters())
        for part in ("encoder", "predictor", "decoder")
    }
    assert sizes == {"encoder": 157_975_648, "predictor": 787_457, "decoder": 61_321_428}
    assert sum(parameter.numel() for parameter in upstream.parameters()) == 220_084_533
    assert len(upstream.encoder.encoders) == 49 and len(upstream.decoder.decoders) == 16
    assert upstream.decoder.decoders2 is None and len(upstream.decoder.decoders3) == 1


def test_the_modules_are_upstreams_own(tiny: Built) -> None:
    for path, name in (
        ("encoder.encoders.1", "EncoderLayerSANM"),
        ("decoder.decoders2.0", "DecoderLayerSANM"),
        ("decoder.decoders.0.src_attn", "MultiHeadedAttentionCrossAtt"),
    ):
        found = type(tiny.module.get_submodule(path))
        # FunASR holds the decoder's file twice, letter for letter; which one it runs, it decides.
        assert found.__name__ == name and found.__module__.startswith("funasr.models.")
    upstream = upstream_model(Settings(**TINY_PARAFORMER))
    assert set(tiny.module.state_dict()) == set(upstream.state_dict())


def test_it_is_frozen_and_in_eval_mode(tiny: Built) -> None:
    assert not any(part.training for part in tiny.module.modules())
    assert not any(parameter.requires_grad for parameter in tiny.module.parameters())
    assert tiny.weights.seeded and tiny.inputs == ()


def test_the_outputs_are_those_of_the_specs(tiny: Built) -> None:
    found = recognise(tiny, torch.randn(3, 41, 560), [41, 17, 0])
    assert list(found) == [spec.name for spec in output_specs(Settings(**TINY_PARAFORMER))]
    fired = found["logit_lengths"].tolist()
    assert fired[0] > fired[1] > fired[2] == 0
    assert found["logits"].shape == (3, fired[0], 300) and found["token_ids"].shape == (3, fired[0])
    assert torch.isfinite(found["logits"]).all()
    for row, length in zip(
        found["token_ids"].tolist(), found["token_lengths"].tolist(), strict=True
    ):
        assert all(token > 2 for token in row[:length]) and set(row[length:]) <= {-1}


def test_rows_without_frames_give_no_tokens_and_no_nan(tiny: Built) -> None:
    found = recognise(tiny, torch.zeros(2, 3, 560), [0, 0])
    assert found["logit_lengths"].tolist() == found["token_lengths"].tolist() == [0, 0]
    assert found["token_ids"].tolist() == [[-1], [-1]]
    assert torch.isfinite(found["logits"]).all()


def test_blank_start_and_end_are_no_tokens(tiny: Built) -> None:
    features = torch.randn(1, 60, 560, generator=torch.Generator().manual_seed(0))
    layer: Any = tiny.module.get_submodule("decoder.output_layer")
    bias = layer.bias.clone()
    plain = recognise(tiny, features, [60])
    most = int(plain["token_ids"][0].mode().values)
    try:
        # The most frequent token is now always beaten by 0, 1 or 2, in turn.
        for special in range(3):
            layer.bias.copy_(bias)
            with torch.no_grad():
                wide = plain["logits"][0]
                layer.bias[special] += float((wide[:, most] - wide[:, special]).max()) + 1
            found = recognise(tiny, features, [60])
            beaten = int((found["logits"][0].argmax(1) == special).sum())
            assert beaten > 0
            assert int(found["token_lengths"][0]) == int(found["logit_lengths"][0]) - beaten
            assert special not in found["token_ids"][0].tolist()
    finally:
        layer.bias.copy_(bias)


def test_the_caller_keeps_his_features(tiny: Built) -> None:
    features, counts = torch.randn(2, 6, 560), torch.tensor([6, 3])
    before, version = features.clone(), features._version
    tiny.module(features, counts)
    assert torch.equal(features, before) and features._version == version
    assert counts.tolist() == [6, 3]


@pytest.mark.parametrize("frames", [1, 40, 400])
def test_padding_changes_nothing(tiny: Built, frames: int) -> None:
    features = torch.randn(1, 30, 560)
    padded = torch.cat([features, 50 * torch.randn(1, frames, 560)], dim=1)
    alone, beside = recognise(tiny, features, [30]), recognise(tiny, padded, [30])
    assert alone["token_ids"].tolist() == beside["token_ids"].tolist()
    torch.testing.assert_close(beside["logits"], alone["logits"], rtol=0, atol=2e-5)


def test_it_draws_no_random_numbers(tiny: Built) -> None:
    before = torch.get_rng_state()
    recognise(tiny, torch.zeros(1, 4, 560), [4])
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded_weights_fire_and_their_tokens_are_varied() -> None:
    for seed in range(3):
        found = recognise(build(paraformer(seed=seed)), torch.randn(1, 100, 560), [100])
        assert 10 < int(found["logit_lengths"][0]) < 95
        assert len(set(found["token_ids"].flatten().tolist())) > 8


@pytest.mark.parametrize(
    "wrong", [{"num_blocks": 0}, {"smooth_factor": 1.5}, {"tail_threshold": 0.0}, {"threshold": 2}]
)
def test_an_impossible_setting(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        build(paraformer(settings={**TINY_PARAFORMER, **wrong}))


@pytest.mark.parametrize("layout", ["plain", "state_dict", "prefixed"])
def test_a_checkpoint_loads(tmp_path: Path, layout: str) -> None:
    folder = write_checkpoint(tmp_path / "tiny", layout=layout)
    built = build(paraformer(weights=str(folder), settings={}))
    wanted = build(paraformer(seed=7))
    assert not built.weights.seeded and built.weights.source == str(folder)
    assert built.weights.digest == wanted.weights.digest
    assert built.tokens == tuple(token_table(300))
    assert built.statistics is not None and built.statistics[0].shape == (560,)


def test_a_setting_that_contradicts_the_checkpoint(checkpoint: Path) -> None:
    settings = {"decoder_num_blocks": 5}
    with pytest.raises(ConfigError, match="decoder_num_blocks is 5, but the checkpoint says 3"):
        build(paraformer(weights=str(checkpoint), settings=settings))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("predictor_conf", "threshold", 0.9),
        ("encoder_conf", "input_layer", "linear"),
        ("decoder_conf", "normalize_before", False),
        ("model_conf", "ctc_weight", 0.3),
    ],
)
def test_a_checkpoint_of_a_variant_is_refused(
    tmp_path: Path, section: str, key: str, value: Any
) -> None:
    folder = write_checkpoint(tmp_path / "tiny", change={section: {key: value}})
    with pytest.raises(WeightsError, match=f"{section}.{key} is .*only .* is supported"):
        build(paraformer(weights=str(folder), settings={}))


def test_a_checkpoint_without_a_tail_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny", change={"predictor_conf": {"tail_threshold": 0.0}})
    with pytest.raises(WeightsError, match="(?s)tail_threshold.*of a Paraformer checkpoint"):
        build(paraformer(weights=str(folder), settings={}))


def test_what_a_checkpoint_leaves_out_has_upstreams_default(checkpoint: Path) -> None:
    config = yaml.safe_load((checkpoint / "config.yaml").read_text())
    del config["decoder_conf"]["kernel_size"]
    (checkpoint / "config.yaml").write_text(yaml.safe_dump(config))
    # Upstream's own default is 21; the tensors are those of 11.
    with pytest.raises(WeightsError, match=r"fsmn_block.weight \[512, 1, 11\] instead of .*21"):
        build(paraformer(weights=str(checkpoint), settings={}))


def test_seaco_is_another_model(checkpoint: Path) -> None:
    config = yaml.safe_load((checkpoint / "config.yaml").read_text())
    (checkpoint / "config.yaml").write_text(yaml.safe_dump({**config, "model": "SeacoParaformer"}))
    with pytest.raises(WeightsError, match="'SeacoParaformer', not of Paraformer"):
        build(paraformer(weights=str(checkpoint)))


def test_a_model_without_an_output_layer(checkpoint: Path) -> None:
    state = torch.load(checkpoint / "model.pt", weights_only=True)
    del state["decoder.output_layer.weight"]
    torch.save(state, checkpoint / "model.pt")
    with pytest.raises(WeightsError, match="no tensor decoder.output_layer.weight"):
        build(paraformer(weights=str(checkpoint)))
