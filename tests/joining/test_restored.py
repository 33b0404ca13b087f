"""Which constant a stored one was rounded from, and by how much its scale is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.graph.index import GraphIndex, index_graph
from exporter.graph.lowered.dequantise import Stored, stored_integers
from exporter.joining.restored import restore

WEIGHT = np.random.default_rng(5).standard_normal((96, 64)).astype(np.float32)
OTHER = np.random.default_rng(6).standard_normal((96, 64)).astype(np.float32)


def held_by(*weights: np.ndarray) -> GraphIndex:
    held = [numpy_helper.from_array(w, f"w{at}") for at, w in enumerate(weights)]
    graph = helper.make_graph([], "main", [], [], held)
    return index_graph(helper.make_model(graph), Path())


def rounded(weight: np.ndarray, *, channels: bool = False, bits: int = 8) -> Stored:
    """As a quantiser stores it; the step of each column of its own with ``channels``."""
    most = 2 ** (bits - 1) - 1
    steps = np.abs(weight).max(axis=0 if channels else None, keepdims=True) / most
    codes = np.rint(weight / steps).astype(np.int8)
    kind = TensorProto.INT8 if bits == 8 else TensorProto.INT4
    return stored_integers("q", codes, steps.astype(np.float64), np.zeros(1), kind)


def scaled(held: Stored, by: float | np.ndarray) -> Stored:
    """With another scale than the one that it was rounded by."""
    factor = np.broadcast_to(np.asarray(by, np.float64), held.values.shape)
    return Stored(
        name=held.name,
        values=held.values * factor,
        steps=held.steps * factor,
        ends=held.ends,
        bits=held.bits,
    )


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("turned", [False, True])
def test_a_rounded_weight_is_found_and_has_no_gain(channels: bool, bits: int, turned: bool):
    found = restore(
        held_by(OTHER, WEIGHT.T if turned else WEIGHT),
        {"q": rounded(WEIGHT, channels=channels, bits=bits)},
    )
    assert np.array_equal(found.arrays["q"], WEIGHT)
    assert not found.gains and not found.shifted and not found.problem(["q"])


def test_what_few_steps_leave_out_is_no_wrong_scale():
    """One large weight takes the grid: of the others less is left, and only by rounding."""
    outlier = WEIGHT.copy()
    outlier[3, 5] = 21.0
    held = rounded(outlier, bits=4)
    assert (held.values * outlier).sum() / np.square(outlier).sum() < 0.85
    found = restore(held_by(OTHER, outlier), {"q": held})
    assert np.array_equal(found.arrays["q"], outlier)
    assert not found.problem(["q"])


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("gain", [0.8, 0.95, 1.03, 1.05, 1.5])
def test_a_wrong_scale_is_said(channels: bool, gain: float):
    held = scaled(rounded(WEIGHT, channels=channels), gain)
    found = restore(held_by(OTHER, WEIGHT), {"q": held})
    assert found.gains["q"] == pytest.approx(gain, rel=0.01)
    assert f"{found.gains['q']:.3g} times" in found.problem(["other", "q"])


def test_the_wrong_scale_of_one_channel_is_said():
    by = np.ones(64)
    by[9] = 1.05
    found = restore(held_by(OTHER, WEIGHT), {"q": scaled(rounded(WEIGHT, channels=True), by)})
    assert found.gains["q"] == pytest.approx(1.05, rel=0.01)


def test_of_two_weights_that_fit_none_is_said():
    near = WEIGHT * np.float32(1.01)
    held = scaled(rounded(WEIGHT), 1.2)
    assert not restore(held_by(near, WEIGHT), {"q": held}).gains


def test_another_weight_has_no_gain():
    assert not restore(held_by(OTHER), {"q": rounded(WEIGHT)}).gains


def test_a_cut_range_is_no_gain():
    """A quantiser that cuts the largest numbers off makes the rest no smaller."""
    steps = np.full((1, 1), 2.0 / 127)
    codes = np.clip(np.rint(WEIGHT / steps), -127, 127).astype(np.int8)
    held = stored_integers("q", codes, steps, np.zeros(1), TensorProto.INT8)
    found = restore(held_by(OTHER, WEIGHT), {"q": held})
    assert np.array_equal(found.arrays["q"], WEIGHT) and not found.gains
