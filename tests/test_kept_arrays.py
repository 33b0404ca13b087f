"""Arrays as text, bit by bit, and back; nothing else is taken for them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from exporter.cache.arrays_as_text import packed, unpacked

ARRAYS = {
    "floats": np.array([[1.5, -0.0, np.nan], [np.inf, 1e-45, 3.0]], dtype=np.float32),
    "wide": np.array(0.1, dtype=np.float64),
    "ids": np.array([-1, 7], dtype=np.int64),
    "mask": np.array([True, False]),
    "none": np.zeros((0, 4), dtype=np.float32),
}


def test_every_bit_comes_back():
    text = json.dumps(packed(ARRAYS, 1 << 20))
    found = unpacked(json.loads(text))
    assert found is not None and list(found) == list(ARRAYS)
    for name, value in ARRAYS.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
        assert found[name].tobytes() == value.tobytes()
        assert found[name].flags.writeable


def test_what_is_larger_than_the_limit_is_not_packed():
    assert packed({"x": np.zeros(100, np.float32)}, 400) is not None
    assert packed({"x": np.zeros(101, np.float32)}, 400) is None


def test_objects_are_not_packed():
    assert packed({"x": np.array(["a"], dtype=object)}, 400) is None


@pytest.mark.parametrize(
    "change",
    [{"shape": [3]}, {"dtype": "O"}, {"dtype": "no such"}, {"data": "####"}, {"data": None}],
    ids=["shape", "object", "dtype", "alphabet", "missing"],
)
def test_what_was_not_packed_so_is_nothing(change):
    entry = {**(packed({"x": np.arange(2, dtype=np.int64)}, 400) or {})["x"], **change}
    assert unpacked({"x": entry}) is None
    assert unpacked(None) is None
