"""SenseVoice on upstream's modules: size, settings, checkpoints, and what it does to its input."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from exporter.config import load_pipeline
from exporter.core.errors import ConfigError, WeightsError
from exporter.models import load_model_module
from exporter.models.built import Built
from exporter.models.sensevoice import Settings, build, output_specs, upstream_model
from exporter.models.settings import read_settings
from tests.support.funasr_checkpoint import token_table, write_checkpoint
from tests.support.pipelines import TINY, sensevoice


@pytest.fixture(scope="module")
def tiny() -> Built:
    return build(sensevoice())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "tiny")


def recognise(built: Built, features: torch.Tensor, counts: list[int]) -> dict[str, torch.Tensor]:
    return built.module(features, torch.tensor(counts), torch.tensor(4), torch.tensor(15))


def test_the_published_size_has_234_million_parameters() -> None:
    pipeline = load_pipeline(Path(__file__).parents[2] / "pipelines" / "sensevoice.yaml")
    settings = read_settings(Settings, pipeline)
    assert settings == Settings()
    upstream = upstream_model(settings)
    assert sum(parameter.numel() for parameter in upstream.parameters()) == 233_999_167
    assert len(upstream.encoder.encoders) == 49 and len(upstream.encoder.tp_encoders) == 20


def test_the_modules_are_upstreams_own(tiny: Built) -> None:
    from funasr.models.sense_voice.model import MultiHeadedAttentionSANM

    part = tiny.module.get_submodule("encoder.encoders.0.self_attn")
    assert type(part) is MultiHeadedAttentionSANM
    assert set(tiny.module.state_dict()) == set(upstream_model(Settings(**TINY)).state_dict())


def test_it_is_frozen_and_in_eval_mode(tiny: Built) -> None:
    assert not any(part.training for part in tiny.module.modules())
    assert not any(parameter.requires_grad for parameter in tiny.module.parameters())
    assert tiny.weights.seeded and tiny.weights.source == "seeded seed=0"


def test_the_outputs_are_those_of_the_specs(tiny: Built) -> None:
    found = recognise(tiny, torch.randn(3, 11, 560), [11, 5, 0])
    assert list(found) == [spec.name for spec in output_specs(Settings(**TINY))]
    assert found["logits"].shape == (3, 15, 300)
    assert found["token_ids"].shape == (3, 15)
    assert found["logit_lengths"].tolist() == [15, 9, 4]
    assert torch.isfinite(found["logits"]).all()
    for row, length in zip(
        found["token_ids"].tolist(), found["token_lengths"].tolist(), strict=True
    ):
        assert all(token > 0 for token in row[:length]) and set(row[length:]) <= {-1}


def test_the_caller_keeps_his_features(tiny: Built) -> None:
    features, counts = torch.randn(2, 6, 560), torch.tensor([6, 3])
    before, version = features.clone(), features._version
    tiny.module(features, counts, torch.tensor(4), torch.tensor(15))
    assert torch.equal(features, before) and features._version == version
    assert counts.tolist() == [6, 3]


def test_padding_changes_nothing(tiny: Built) -> None:
    features = torch.randn(1, 6, 560)
    padded = torch.cat([features, torch.randn(1, 9, 560)], dim=1)
    alone = recognise(tiny, features, [6])["logits"]
    beside = recognise(tiny, padded, [6])["logits"][:, :10]
    torch.testing.assert_close(beside, alone, rtol=0, atol=2e-5)


def test_language_and_text_norm_are_used(tiny: Built) -> None:
    features, counts = torch.randn(1, 6, 560), torch.tensor([6])
    results = [
        tiny.module(features, counts, torch.tensor(language), torch.tensor(norm))["logits"]
        for language, norm in [(4, 15), (3, 15), (4, 14)]
    ]
    assert not torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_prompts_have_upstreams_names(tiny: Built) -> None:
    language, text_norm = tiny.inputs
    assert (
        language.choices["en"] == 4 and language.choices["zh"] == 3 and len(language.choices) == 7
    )
    assert dict(text_norm.choices) == {"withitn": 14, "woitn": 15}


def test_seeded_tokens_are_varied(tiny: Built) -> None:
    found = recognise(tiny, torch.randn(1, 60, 560), [60])
    assert len(set(found["token_ids"].flatten().tolist())) > 15


def test_an_unknown_setting_names_file_line_and_key() -> None:
    with pytest.raises(
        ConfigError, match=r"(?s)tiny.yaml:1: model.settings.num_block: .*did you mean 'num_blocks'"
    ):
        build(sensevoice(settings={**TINY, "num_block": 3}))


@pytest.mark.parametrize("wrong", [{"num_blocks": 0}, {"num_blocks": "2"}, {"vocab_size": 1.5}])
def test_an_impossible_setting(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        build(sensevoice(settings={**TINY, **wrong}))


def test_an_unknown_kind_suggests_a_known_one() -> None:
    with pytest.raises(ConfigError, match="did you mean sensevoice"):
        load_model_module("sensvoice", where="p.yaml:3: model.kind")


@pytest.mark.parametrize("layout", ["plain", "state_dict", "prefixed"])
def test_a_checkpoint_loads(tmp_path: Path, layout: str) -> None:
    folder = write_checkpoint(tmp_path / "tiny", layout=layout)
    built = build(sensevoice(weights=str(folder)))
    wanted = build(sensevoice(seed=7))
    assert not built.weights.seeded and built.weights.source == str(folder)
    assert built.weights.digest == wanted.weights.digest
    assert built.tokens == tuple(token_table(300))
    assert built.statistics is not None and built.statistics[0].shape == (560,)


def test_sizes_come_from_the_checkpoint(checkpoint: Path) -> None:
    built = build(sensevoice(weights=str(checkpoint), settings={}))
    assert len(built.module.get_submodule("encoder.encoders")) == 1  # type: ignore[arg-type]


def test_a_setting_that_contradicts_the_checkpoint(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="num_blocks is 3, but the checkpoint says 2"):
        build(sensevoice(weights=str(checkpoint), settings={**TINY, "num_blocks": 3}))


def test_features_that_contradict_the_checkpoint(checkpoint: Path) -> None:
    pipeline = sensevoice(weights=str(checkpoint))
    pipeline.features.window = "povey"
    with pytest.raises(ConfigError, match=r"features.window.*window is 'povey'.*'hamming'"):
        build(pipeline)


@pytest.mark.parametrize("name", ["model.pt", "config.yaml", "am.mvn"])
def test_a_missing_file(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    with pytest.raises(WeightsError, match=name):
        build(sensevoice(weights=str(checkpoint)))


def test_missing_and_misshaped_tensors_are_named(checkpoint: Path) -> None:
    state = torch.load(checkpoint / "model.pt", weights_only=True)
    del state["encoder.encoders.0.norm1.bias"]
    state["encoder.after_norm.weight"] = torch.ones(13)
    torch.save(state, checkpoint / "model.pt")
    with pytest.raises(WeightsError) as caught:
        build(sensevoice(weights=str(checkpoint)))
    assert "missing: encoder.encoders.0.norm1.bias" in str(caught.value)
    assert "encoder.after_norm.weight [13] instead of [512]" in str(caught.value)


def test_a_token_table_of_another_size(checkpoint: Path) -> None:
    (checkpoint / "tokens.json").write_text(json.dumps(["a", "b"]))
    with pytest.raises(WeightsError, match="2 entries, the output layer 300"):
        build(sensevoice(weights=str(checkpoint)))


def test_another_model(checkpoint: Path) -> None:
    config = yaml.safe_load((checkpoint / "config.yaml").read_text())
    (checkpoint / "config.yaml").write_text(yaml.safe_dump({**config, "model": "Paraformer"}))
    with pytest.raises(WeightsError, match="'Paraformer', not of SenseVoiceSmall"):
        build(sensevoice(weights=str(checkpoint)))


def test_building_leaves_logging_and_threads_alone(capsys: pytest.CaptureFixture[str]) -> None:
    before = (logging.getLogger().level, torch.get_num_threads())
    build(sensevoice())
    assert (logging.getLogger().level, torch.get_num_threads()) == before
    assert capsys.readouterr() == ("", "")
