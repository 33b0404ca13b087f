"""Windows of a stream: context on both sides, a tail, a first one that is special, odd sizes."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from exporter.cases.windows import cut_stream, windows_of
from exporter.config.stream import Stream
from exporter.core.errors import ConfigError
from exporter.core.tensors import Axis, TensorSpec

FRAMES = Axis(name="frames", minimum=1)
SPECS = {
    "x": TensorSpec.of("x", "float32", 1, FRAMES),
    "mask": TensorSpec.of("mask", "bool", 1, FRAMES),
    "seen": TensorSpec.of("seen", "int64", 1),
    "x_lengths": TensorSpec.of("x_lengths", "int64", 1),
    "last": TensorSpec.of("last", "int64", 1),
}


def calls(stream: Stream, steps: int = 10):
    whole = {
        "x": np.arange(1.0, steps + 1, dtype=np.float32)[None],
        "mask": np.ones((1, steps), bool),
        "seen": np.array([100]),
        "x_lengths": np.array([steps]),
        "last": np.array([0]),
    }
    return cut_stream(stream, whole, SPECS, "here")


def edges(**options) -> list[tuple[int, int, int, int]]:
    found = windows_of(Stream(**options), 10)
    return [(w.begin, w.start, w.stop, w.end) for w in found]


def test_windows_overlap_by_their_context_and_zeros_fill_both_ends():
    assert edges(hop=4, left=2, right=1) == [(-2, 0, 4, 5), (2, 4, 8, 9), (6, 8, 12, 13)]
    _, found = calls(Stream(hop=4, left=2, right=1))
    assert [call["x"][0].tolist() for call in found] == [
        [0, 0, 1, 2, 3, 4, 5],
        [3, 4, 5, 6, 7, 8, 9],
        [7, 8, 9, 10, 0, 0, 0],
    ]


def test_a_short_flush_gives_what_is_left_and_a_short_start_no_zeros():
    options = {"hop": 4, "left": 2, "right": 1, "flush": "short", "start": "short"}
    assert edges(**options) == [(0, 0, 4, 5), (2, 4, 8, 9), (6, 8, 10, 10)]


def test_a_dropped_tail_makes_no_call():
    assert edges(hop=4, right=1, flush="drop") == [(0, 0, 4, 5), (4, 4, 8, 9)]


def test_a_rest_from_which_nothing_comes_makes_no_call():
    assert len(edges(hop=4, right=2, flush="short", least=3)) == 2
    assert len(edges(hop=4, right=2, flush="short", least=2)) == 3


def test_the_first_window_may_be_another_and_sizes_may_vary():
    assert [w[1:3] for w in edges(hop=4, first=1)] == [(0, 1), (1, 5), (5, 9), (9, 13)]
    assert [w[1:3] for w in edges(sizes=(1, 3))] == [
        (0, 1),
        (1, 4),
        (4, 5),
        (5, 8),
        (8, 9),
        (9, 12),
    ]


def test_a_tail_of_zeros_is_streamed_too():
    assert [w[1:3] for w in edges(hop=4, tail=3)][-1] == (12, 16)


def test_what_counts_is_given_with_each_call():
    stream = Stream(hop=4, position="seen", position_per=2, at_end={"last": 1})
    _, found = calls(stream)
    assert [int(call["seen"][0]) for call in found] == [100, 102, 104]
    assert [int(call["last"][0]) for call in found] == [0, 0, 1]
    assert [int(call["x_lengths"][0]) for call in found] == [4, 4, 4]
    assert found[-1]["mask"].tolist() == [[True, True, False, False]]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({}, "give 'hop'"),
        ({"window": 4, "left": 2, "right": 2}, "nothing new"),
        ({"window": 9, "hop": 4, "left": 2, "right": 2}, "is not left 2 . hop 4"),
        ({"hop": 4, "sizes": [1, 2]}, "one of 'hop' and 'sizes'"),
        ({"window": 4, "sizes": [1, 2]}, "'window' has one size"),
        ({"hop": 0}, "greater than or equal to 1"),
        ({"hop": 4, "flush": "later"}, "'zeros', 'short' or 'drop'"),
    ],
)
def test_windows_that_do_not_fit_together_are_refused(options, word):
    with pytest.raises(ValidationError, match=word):
        Stream(**options)


def test_a_window_says_its_hop():
    assert Stream(window=9, left=2, right=3).hop == 4


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"hop": 10}, "no seam"),
        ({"hop": 4, "input": "y"}, "no input can be cut"),
        ({"hop": 4, "position": "x"}, "no input of integers"),
    ],
)
def test_what_cannot_be_cut_is_refused_with_a_remedy(options, word):
    with pytest.raises(ConfigError, match=word) as caught:
        calls(Stream(**options))
    assert caught.value.remedy


def test_a_number_names_a_place_and_not_an_axis_of_that_size():
    specs = {"x": TensorSpec.of("x", "float32", 2, FRAMES, 1)}
    whole = {"x": np.zeros((2, 10, 1), np.float32)}
    streamed, (first, *_) = cut_stream(Stream(hop=4, axis=1), whole, specs, "here")
    assert (streamed.axis, first["x"].shape) == (1, (2, 4, 1))
    named, _ = cut_stream(Stream(hop=4, axis="frames"), whole, specs, "here")
    assert named.axis == 1
