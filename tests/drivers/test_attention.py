"""Attention decoding against transformers' own ``generate``, and its rules one by one."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from exporter.config.driver import Attention, TimestampRules
from exporter.core.errors import ConfigError
from exporter.drivers import Decider, DriverStoppedError
from exporter.drivers.attention import drive
from exporter.drivers.whisper_rules import allowed_scores
from tests.support.graphs import graph, of_torch, spec

transformers = pytest.importorskip("transformers")
SYSTEMS = Path(__file__).resolve().parents[2] / "pipelines" / "systems"
CONFIG = {
    "vocab_size": 60,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_source_positions": 30,
    "max_target_positions": 40,
    "num_mel_bins": 20,
    "init_std": 0.5,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}


@pytest.fixture(scope="module")
def parts():
    sys.path.insert(0, str(SYSTEMS))
    try:
        import whisper
    finally:
        sys.path.remove(str(SYSTEMS))
    torch.manual_seed(0)
    encoder = whisper.Encoder(CONFIG)
    torch.manual_seed(0)
    step = whisper.DecoderStep(CONFIG)
    torch.manual_seed(0)
    return encoder, step, whisper.whole(CONFIG)


def graphs_of(parts):
    encoder, step, _ = parts
    caches = [f"cache.{n}" for n in range(4)]
    nexts = [f"next.{n}" for n in range(4)]

    def decode(input_ids, encoded, **held):
        found = step(input_ids, encoded, [held[name] for name in caches])
        return [found["logits"], *found["next_cache"]]

    first = graph(
        "encoder",
        [spec("input_features", "float32", "batch", 20, 60)],
        ["encoded"],
        of_torch(encoder),
    )
    states = [spec(name, "float32", "batch", 4, "past", 8, initial=0.0) for name in caches]
    second = graph(
        "decoder",
        [
            spec("input_ids", "int64", "batch", "tokens"),
            spec("encoded", "float32", "batch", 30, 32),
            *states,
        ],
        ["logits", *nexts],
        of_torch(decode),
        dict(zip(nexts, caches, strict=True)),
    )
    return {"encoder": first, "decoder": second}


def sound(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, 20, 60)).astype(np.float32)


def generated(whole, features: np.ndarray, **options) -> tuple[int, ...]:
    """What transformers' own search says, without the first tokens and the end."""
    given = torch.from_numpy(features)
    config = transformers.GenerationConfig(
        max_new_tokens=20,
        decoder_start_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        do_sample=False,
        **options,
    )
    with torch.no_grad():
        # Whisper's own ``generate`` cuts sound into windows; the search below it is the same.
        found = transformers.GenerationMixin.generate(
            whole,
            given,
            generation_config=config,
            decoder_input_ids=torch.tensor([[1, 5]]),
        )
    ids = found[0, 2:].tolist()
    return tuple(ids[: ids.index(2)] if 2 in ids else ids)


def settings(**more) -> Attention:
    given = {
        "kind": "attention",
        "encoder": "encoder",
        "start": (1, 5),
        "end": 2,
        "max_tokens": 20,
        **more,
    }
    return Attention.model_validate(given)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"suppress": (7, 9)}, {"suppress_tokens": [7, 9]}),
        ({"begin_suppress": (2, 3)}, {"begin_suppress_tokens": [2, 3]}),
        ({"beams": 3}, {"num_beams": 3}),
        ({"beams": 4, "length_penalty": 0.3}, {"num_beams": 4, "length_penalty": 0.3}),
        ({"beams": 2, "length_penalty": 2.0}, {"num_beams": 2, "length_penalty": 2.0}),
    ],
)
def test_the_search_is_that_of_transformers(parts, seed, ours, theirs):
    features = sound(seed)
    found = drive(settings(**ours), graphs_of(parts), {"input_features": features}, Decider())
    assert found.tokens == generated(parts[2], features, **theirs)


def without_cache(parts, *, last: bool):
    """A decoder that keeps nothing; ``last``: it gives the scores of the last token alone."""
    whole = parts[2]

    def decode(input_ids, encoded):
        held = whole.model.decoder(input_ids=input_ids, encoder_hidden_states=encoded)
        logits = whole.proj_out(held.last_hidden_state)
        return [logits[:, -1] if last else logits]

    inputs = [
        spec("input_ids", "int64", "batch", "tokens"),
        spec("encoded", "float32", "batch", 30, 32),
    ]
    decoder = graph("decoder", inputs, ["logits"], of_torch(decode))
    return {**graphs_of(parts), "decoder": decoder}


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_decoder_without_states_reads_all_tokens_so_far(parts, beams, last):
    """It was given the newest token alone, on both sides, and both said the same nonsense."""
    for seed in range(3):
        case = {"input_features": sound(seed)}
        found = drive(settings(beams=beams), without_cache(parts, last=last), case, Decider())
        kept = drive(settings(beams=beams), graphs_of(parts), case, Decider())
        assert found.tokens == kept.tokens
        assert found.score == pytest.approx(kept.score, rel=1e-4)


@pytest.mark.parametrize("seed", range(40))
def test_timestamps_follow_the_rules_of_transformers(seed):
    """Score by score against WhisperTimeStampLogitsProcessor, on random hypotheses."""
    from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor

    rng = np.random.default_rng(seed)
    begin, end, vocabulary = 40, 2, 60
    config = transformers.GenerationConfig(eos_token_id=end, bos_token_id=1)
    config.no_timestamps_token_id = begin - 1
    config.max_initial_timestamp_index = 4
    theirs = WhisperTimeStampLogitsProcessor(config, begin_index=2)
    said = []
    for token in rng.integers(3, vocabulary, size=rng.integers(0, 6)).tolist():
        times = [held for held in said if held >= begin]
        said.append(max(token, times[-1]) if token >= begin and times else token)
    scores = rng.standard_normal(vocabulary).astype(np.float32)
    ids = torch.tensor([[1, 5, *said]])
    wanted = theirs(ids, torch.from_numpy(scores)[None].clone())[0].numpy()
    rules = TimestampRules(begin=begin, no_timestamps=begin - 1, max_initial=4)
    ours = allowed_scores(settings(timestamps=rules), scores, said)
    np.testing.assert_array_equal(np.isinf(ours), np.isinf(wanted))


def test_the_hypotheses_that_are_compared_say_something(parts):
    case = ({"input_features": sound(seed)} for seed in range(6))
    said = [drive(settings(beams=3), graphs_of(parts), each, Decider()).tokens for each in case]
    assert len(set(said)) >= 4 and max(map(len, said)) >= 5


def test_timestamps_suppressed_are_never_said(parts):
    for seed in range(3):
        case = {"input_features": sound(seed)}
        free = drive(settings(begin_suppress=(2,)), graphs_of(parts), case, Decider())
        config = settings(begin_suppress=(2,), suppress_from=20)
        held = drive(config, graphs_of(parts), case, Decider())
        assert max(free.tokens) >= 20 > max(held.tokens)


def test_what_was_chosen_can_be_led_again(parts):
    case, first = {"input_features": sound(1)}, Decider()
    said = drive(settings(beams=3), graphs_of(parts), case, first)
    again = drive(settings(beams=3), graphs_of(parts), case, Decider(first.made))
    assert again == said
    other = drive(settings(beams=3), graphs_of(parts), case, Decider({0: (7, 8, 9)}))
    assert other != said


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_no_number_stops_the_search(bad):
    def step(input_ids):
        return np.full((1, input_ids.shape[1], 4), bad, np.float32)

    with np.errstate(invalid="ignore"):
        only = graph("decoder", [spec("input_ids", "int64", "batch", "tokens")], ["logits"], step)
        with pytest.raises(DriverStoppedError, match="NaN"):
            drive(settings(encoder=None), {"decoder": only}, {}, Decider())


def test_beams_need_states_with_a_batch():
    state = spec("cache", "float32", 1, "past", initial=0.0)
    only = graph(
        "decoder",
        [spec("input_ids", "int64", "batch", "tokens"), state],
        ["logits", "next"],
        lambda input_ids, cache: (np.zeros((*input_ids.shape, 9), np.float32), cache),
        {"next": "cache"},
    )
    with pytest.raises(DriverStoppedError, match="batch"):
        drive(settings(encoder=None, beams=2), {"decoder": only}, {}, Decider())


@pytest.mark.parametrize(
    "given",
    [
        {"suppress": (9,)},
        {"begin_suppress": (9,)},
        {"timestamps": {"begin": 5, "no_timestamps": 9}},
    ],
)
def test_a_token_that_has_no_score_is_the_users(given):
    config = Attention.model_validate({"kind": "attention", **given})
    with pytest.raises(ConfigError, match="no token 9"):
        allowed_scores(config, np.zeros(9), [])
