"""What a user may call a layer."""

from __future__ import annotations

import pytest

from exporter.core.errors import UserInputError
from exporter.debugging.pair import Pair
from exporter.debugging.select import find_layer

NORM = "model.encoder.encoders.0.norm1"


def names(pair: Pair, text: str) -> set[str]:
    return {tap.tap.module for tap in find_layer(pair, text).taps}


def test_a_module_path_stands_for_all_below_it(pair: Pair):
    found = names(pair, "model.encoder.encoders.0")
    assert {NORM, "model.encoder.encoders.0.self_attn.linear_out"} <= found
    assert all(name.startswith("model.encoder.encoders.0") for name in found)


def test_a_module_path_is_not_a_prefix_of_letters(pair: Pair):
    assert not any(
        n.startswith("model.encoder.encoders0") for n in names(pair, "model.encoder.encoders.0")
    )


def test_a_tap_is_a_layer_of_its_own(pair: Pair):
    tap = next(t for t in pair.planned if t.tap.module == NORM)
    assert find_layer(pair, tap.tap.name).taps == (tap,)


def test_an_onnx_node_leads_to_the_tap_of_its_piece(pair: Pair):
    weights = {name for name in pair.actual.initializers if name.endswith("linear_out.bias")}
    node = next(n for n in pair.actual.nodes if weights & set(n.input))
    (tap,) = find_layer(pair, node.name).taps
    assert tap.tap.op == "aten.linear.default"


def test_an_output_goes_by_its_public_name(pair: Pair):
    (tap,) = find_layer(pair, "token_ids").taps
    assert tap.output


@pytest.mark.parametrize("text", ["model.encoder.*.norm1", "*.encoders.0.norm?", "*norm1"])
def test_a_glob_is_matched_with_paths(pair: Pair, text: str):
    assert NORM in names(pair, text)


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("model.encoder.encoders.0.self_atn", "model.encoder.encoders.0.self_attn"),
        ("model.encodr.encoders.0.norm1", NORM),
        ("speech_prob", "speech_probs"),
    ],
)
def test_a_misspelt_layer_gets_the_nearest_names(pair: Pair, text: str, near: str):
    with pytest.raises(UserInputError) as caught:
        find_layer(pair, text)
    assert near in str(caught.value.remedy)


def test_a_word_that_is_nothing_gets_the_top_of_the_tree(pair: Pair):
    with pytest.raises(UserInputError, match="no layer is called") as caught:
        find_layer(pair, "qqqqqqqqqqqqqqq")
    assert "fbank" in str(caught.value.remedy)
