"""The compiled pass finds what plain numpy finds."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.parity import distance as module
from exporter.parity import one_pass
from exporter.parity.compare import measure, measure_exact, same_bits
from exporter.parity.distance import distances

STEP = 4096  # of the inner loop
SIZES = (1, 2, STEP - 1, STEP, STEP + 1, 3 * STEP + 17, module.BLOCK + 5)


@pytest.fixture(autouse=True)
def _loops_for_small_arrays_too(monkeypatch):
    monkeypatch.setattr(one_pass, "LEAST", 0)


def three(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.standard_normal(size) * 10.0 ** random.integers(-6, 6, size)
    reference = truth.astype(np.float32)
    actual = (truth * (1 + 1e-6 * random.standard_normal(size))).astype(np.float32)
    return truth, reference, actual


def plainly(monkeypatch: pytest.MonkeyPatch, *arrays: np.ndarray) -> module.Pass:
    """The same walk with the compiled loop switched off."""
    with monkeypatch.context() as patch:
        patch.setattr(one_pass, "takes", lambda *arrays: False)
        return distances(*arrays, direct=False)


def assert_same(compiled: module.Pass, plain: module.Pass) -> None:
    for side in ("actual", "reference"):
        one, other = getattr(compiled, side), getattr(plain, side)
        assert (one.elements, one.max_abs, one.worst_index) == (
            other.elements,
            other.max_abs,
            other.worst_index,
        )
        assert one.worst_expected == other.worst_expected
        assert one.worst_actual == other.worst_actual
        # The order of a sum is the only freedom.
        assert one.rms == (None if other.rms is None else pytest.approx(other.rms, rel=1e-13))
    assert compiled.scale == plain.scale
    assert compiled.rms_scale == (
        None if plain.rms_scale is None else pytest.approx(plain.rms_scale, rel=1e-13)
    )
    for counted in ("compared", "counts"):
        assert getattr(compiled, counted) == getattr(plain, counted), counted


@pytest.mark.parametrize("size", SIZES)
def test_every_figure_is_that_of_numpy(monkeypatch, size):
    arrays = three(size)
    assert one_pass.takes(*arrays)
    compiled = distances(*arrays, direct=False)
    assert_same(compiled, plainly(monkeypatch, *arrays))
    truth, reference, actual = arrays
    apart = np.abs(actual.astype(np.float64) - truth)
    assert compiled.actual.max_abs == apart.max()
    assert compiled.actual.worst_index == (int(apart.argmax()),)
    assert compiled.same_bits == bool((reference.view("u4") == actual.view("u4")).all())


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [0, 1, 2])
@pytest.mark.parametrize("at", [0, 7, STEP - 1, STEP, 2 * STEP + 3])
def test_one_value_that_is_not_finite_is_counted_wherever_it_is(monkeypatch, value, side, at):
    arrays = three(2 * STEP + 4)
    arrays[side][at] = value
    compiled = distances(*arrays, direct=False)
    assert_same(compiled, plainly(monkeypatch, *arrays))
    kind = "nan" if np.isnan(value) else "inf"
    counted = [compiled.counts[f"{kind}_{of}"] for of in ("truth", "expected", "actual")]
    assert counted[side] == 1
    assert sum(counted) == 1
    assert not one_pass.compare(*arrays).finite


def test_infinities_that_agree_are_compared_as_numpy_does(monkeypatch):
    arrays = three(3 * STEP)
    for array in arrays:
        array[5::7] = -np.inf
    arrays[2][12] = np.inf
    assert_same(distances(*arrays, direct=False), plainly(monkeypatch, *arrays))


@pytest.mark.parametrize("factor", [0.0, 1e-200, 1e-140, 1e140, 1e200])
def test_squares_that_leave_the_range_of_float64_are_measured_with_care(monkeypatch, factor):
    truth, reference, actual = three(STEP + 3)
    arrays = (truth * factor, reference * np.float32(0.0), actual * np.float32(0.0))
    assert_same(distances(*arrays, direct=False), plainly(monkeypatch, *arrays))


def test_a_difference_that_overflows_is_not_lost(monkeypatch):
    truth, reference, actual = three(10)
    truth[3] = 1.7e308
    actual[3] = -3e38
    assert_same(
        distances(truth, reference, actual, direct=False),
        plainly(monkeypatch, truth, reference, actual),
    )


def test_the_first_of_equal_peaks_is_the_worst_place():
    truth = np.zeros(3 * STEP)
    reference, actual = np.zeros_like(truth, np.float32), np.zeros_like(truth, np.float32)
    actual[[STEP + 4, STEP + 9, 2 * STEP]] = (0.5, -0.5, 0.5)
    found = distances(truth, reference, actual, direct=False)
    assert found.actual.worst_index == (STEP + 4,)
    assert found.reference.worst_index is None
    assert found.reference.max_abs == 0.0


@pytest.mark.parametrize("at", [0, STEP - 1, STEP, 3 * STEP])
def test_a_flipped_last_bit_and_a_flipped_sign_of_zero_are_seen(at):
    _, reference, _ = three(3 * STEP + 1)
    reference[at] = 0.0
    for other in (-0.0, np.nextafter(np.float32(0.0), np.float32(1.0))):
        actual = reference.copy()
        assert same_bits(reference, actual)
        actual[at] = other
        assert not same_bits(reference, actual)
        measured = measure("x", truth=reference.astype("f8"), reference=reference, actual=actual)
        assert measured.bitwise_equal is False
        assert measure_exact("x", reference, actual).bitwise_equal is False
        assert not one_pass.compare(reference.astype("f8"), reference, actual).same


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, STEP, 2 * STEP])
def test_equal_arrays_that_are_not_finite_are_counted(value, at):
    _, reference, _ = three(2 * STEP + 1)
    reference[at] = value
    found = measure_exact("x", reference, reference.copy())
    assert found.bitwise_equal is True
    assert (found.nan_expected, found.inf_expected) == ((1, 0) if np.isnan(value) else (0, 1))


def test_arrays_that_it_is_not_compiled_for_are_left_to_numpy(monkeypatch):
    truth, reference, actual = (np.clip(x, -6e4, 6e4) for x in three(6 * 50))
    turned = [array.reshape(6, 50).T for array in (truth, reference, actual)]
    assert not one_pass.takes(*turned)
    assert_same(distances(*turned, direct=False), plainly(monkeypatch, *turned))
    for index, dtype in ((0, np.float32), (1, np.float64), (2, np.float16)):
        other = [truth, reference, actual]
        other[index] = other[index].astype(dtype)
        assert not one_pass.takes(*other)
    locked = actual.copy()
    locked.flags.writeable = False
    assert not one_pass.takes(truth, reference, locked)
    assert_same(
        distances(truth, reference, locked, direct=False),
        distances(truth, reference, actual, direct=False),
    )
