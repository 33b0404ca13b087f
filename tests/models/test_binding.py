"""Which parameter of forward takes which input, and what a model's results are called."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch

from exporter.models.binding import UnboundError, bind_inputs
from exporter.models.caches import dynamic_cache
from exporter.models.results import MissingError, UnnamedError, by_name, flat_results


def call(forward: Any, *names: str) -> Any:
    """What ``forward`` gets when each input is its own name."""
    positional, named = bind_inputs(forward, names).arguments(names)
    return forward(*positional, **named)


def plain(x, mask=None, lengths=None):
    return {"x": x, "mask": mask, "lengths": lengths}


def listed(x, caches):
    return x, caches


def test_names_of_parameters_count_whatever_their_order():
    assert call(plain, "lengths", "x") == {"x": "x", "mask": None, "lengths": "lengths"}


def test_other_names_go_by_position():
    assert call(plain, "audio", "valid") == {"x": "audio", "mask": "valid", "lengths": None}
    assert call(plain, "lengths", "audio") == {"x": "audio", "mask": None, "lengths": "lengths"}
    assert call(lambda *tensors: tensors, "a", "b") == ("a", "b")


@pytest.mark.parametrize(
    "names",
    [
        ("cache0", "cache1"),
        ("cache_0", "cache_1"),
        ("caches0", "caches1"),
        ("caches.0", "caches.1"),
        ("left", "right"),
    ],
)
def test_numbered_inputs_are_a_list(names):
    assert call(listed, "x", *names) == ("x", list(names))


def test_they_come_in_the_order_of_their_numbers():
    assert call(listed, "cache10", "x", "cache2") == ("x", ["cache2", "cache10"])
    assert call(listed, "caches.1", "caches.0", "x") == ("x", ["caches.0", "caches.1"])


def test_one_of_a_plural_is_a_list_and_one_of_a_singular_is_not():
    assert call(listed, "x", "cache0") == ("x", ["cache0"])
    assert call(lambda x, cache: cache, "x", "cache0") == "cache0"


def test_annotations_say_which_container():
    def forward(x: Any, state: tuple[Any, ...], memories: list[dict[str, Any]] | None = None):
        return state, memories

    held = call(forward, "x", "state.0", "state.1", "memories.0.key", "memories.0.value")
    assert held == (
        ("state.0", "state.1"),
        [{"key": "memories.0.key", "value": "memories.0.value"}],
    )


class State(NamedTuple):
    h: Any
    c: Any


@dataclass
class Record:
    h: Any
    c: Any


def test_words_are_a_dict_or_the_record_that_is_asked_for():
    def bare(x, state):
        return state

    def with_tuple(x, state: State):
        return state

    def with_record(x, state: Record):
        return state

    names = ("x", "state.c", "state.h")
    assert call(bare, *names) == {"c": "state.c", "h": "state.h"}
    assert call(with_tuple, *names) == State(h="state.h", c="state.c")
    assert call(with_record, *names) == Record(h="state.h", c="state.c")


def test_inputs_that_nobody_takes_are_named():
    with pytest.raises(UnboundError) as raised:
        bind_inputs(lambda x: x, ["x", "y", "z"])
    assert raised.value.names == ("y", "z") and raised.value.parameters == ("x",)
    with pytest.raises(UnboundError):
        bind_inputs(lambda x, y: x, ["x", "cache.0", "cache.1"])


# -- results -------------------------------------------------------------------------------------


def test_results_are_flat_and_named_in_order():
    assert flat_results(("y", ["a", "b"]), ["y", "n0", "n1"]) == {"y": "y", "n0": "a", "n1": "b"}
    assert flat_results(("y", None), ["y"]) == {"y": "y"}


def test_what_has_names_keeps_them():
    returned = {"y": 1, "caches": [{"k": 2}, {"k": 3}], "none": None}
    assert flat_results(returned, ["y", "caches.1.k"]) == {"y": 1, "caches.0.k": 2, "caches.1.k": 3}
    assert flat_results(returned, ["one", "two", "three"]) == {"one": 1, "two": 2, "three": 3}
    assert flat_results({"y": 1, "x": 2}, ["z"]) == {"y": 1, "x": 2}
    assert flat_results({"y": 1, "cache": 2}, ["y", "next"]) == {"y": 1, "next": 2}
    assert flat_results({"cache": 2, "y": 1}, ["y", "next"]) == {"y": 1, "cache": 2}
    pair = namedtuple("pair", "a b")
    assert flat_results(pair(1, 2), ["b"]) == {"a": 1, "b": 2}
    assert flat_results(Record(1, None), ["h"]) == {"h": 1}


def test_too_few_names_and_missing_names_are_errors():
    with pytest.raises(UnnamedError, match="returns 3 values, 2 are named"):
        flat_results((1, [2, 3]), ["a", "b"])
    with pytest.raises(MissingError, match="no 'z', but y, x"):
        by_name({"y": 1, "x": 2}, ["z"])


# -- caches, records, numbers, complex numbers ---------------------------------------------------


def test_layers_are_a_cache_where_the_parameter_says_so_and_a_list_where_it_does_not():
    transformers = pytest.importorskip("transformers.cache_utils")

    def annotated(x, cache: Any = None):
        return cache

    annotated.__annotations__["cache"] = transformers.DynamicCache | None

    def bare(x, cache):
        return cache

    names = ("x", "cache.1.keys", "cache.1.values", "cache.0.keys", "cache.0.values")
    tensors = [torch.full((1, 1, 2, 1), float(n)) for n in range(5)]
    positional, named = bind_inputs(annotated, names).arguments(tensors)
    cache = annotated(*positional, **named)
    assert isinstance(cache, transformers.DynamicCache)
    assert [layer.keys[0, 0, 0, 0].item() for layer in cache.layers] == [3.0, 1.0]
    positional, named = bind_inputs(bare, names).arguments(tensors)
    held = bare(*positional, **named)
    assert isinstance(held, list) and set(held[0]) == {"keys", "values"}


def test_the_layers_of_a_cache_come_back_by_number_without_those_that_are_empty():
    transformers = pytest.importorskip("transformers.cache_utils")
    cache = transformers.EncoderDecoderCache(
        transformers.DynamicCache(), transformers.DynamicCache()
    )
    cache.self_attention_cache.update(torch.ones(1, 1, 2, 1), torch.zeros(1, 1, 2, 1), 1)
    found = flat_results({"kept": cache}, [])
    assert list(found) == [f"kept.self_attention_cache.1.{part}" for part in ("keys", "values")]


def test_a_layer_that_is_written_in_place_is_not_its_callers():
    pytest.importorskip("transformers.cache_utils")
    state = torch.ones(1, 2, 3)
    cache = dynamic_cache(**{"0": {"conv_states": state, "recurrent_states": state}})
    cache.layers[0].update_conv_state(torch.zeros(1, 2, 1))
    cache.layers[0].update_recurrent_state(torch.zeros(1, 2, 3))
    assert state.eq(1).all()
    held = flat_results([cache], ["conv", "recurrent"])
    assert held["conv"][0, 0].tolist() == [1, 1, 0] and held["recurrent"].eq(0).all()


class Plain:
    def __init__(self, h, c=None):
        self.h, self.c = h, c


@dataclass
class Outer:
    first: Record
    others: list[Record]


def test_records_inside_of_records_and_classes_of_ones_own():
    def forward(x, state: Outer, kept: Plain | None = None):
        return state, kept

    names = ("x", "state.first.h", "state.first.c", "state.others.0.h", "state.others.0.c")
    state, kept = call(forward, *names, "kept.h")
    assert state == Outer(Record(*names[1:3]), [Record(*names[3:5])])
    assert isinstance(kept, Plain) and kept.h == "kept.h"


def test_what_no_parameter_takes_goes_to_the_others_by_name():
    def forward(x, mask=None, **others):
        return x, mask, others

    assert call(forward, "audio", "mask", "bias", "state.h") == (
        "audio",
        "mask",
        {"bias": "bias", "state": {"h": "state.h"}},
    )


def test_numbers_and_complex_numbers_come_back_as_onnx_has_them():
    found = flat_results({"n": 3, "on": True, "z": torch.tensor([1 + 2j]).conj()}, [])
    assert found["n"].dtype == torch.int64 and found["n"].shape == ()
    assert found["on"].dtype == torch.bool
    assert found["z"].tolist() == [[1.0, -2.0]]
