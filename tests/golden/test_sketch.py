"""A sketch tells how far a tensor has moved, and never raises an alarm by chance."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.golden.sketch import BUCKETS, SLACK, STATS, distance, project, seed_of, sketch, slack

draw = np.random.default_rng(5)


def rms(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))


@pytest.mark.parametrize(
    "difference",
    [
        draw.normal(size=50_000),
        np.where(np.arange(50_000) % 512 == 3, 1.0, 0.0),  # one channel
        np.where(np.arange(50_000) < 200, 1.0, 0.0),  # one frame
        np.ones(50_000),
        np.linspace(-1, 1, 50_000) ** 9,
    ],
    ids=["noise", "one channel", "one frame", "constant", "heavy tail"],
)
def test_the_estimate_is_near_the_rms_whatever_the_difference_looks_like(difference):
    x = draw.normal(size=difference.size)
    ratios = []
    for number in range(60):
        left, right = project(f"tap_{number}", x + difference), project(f"tap_{number}", x)
        ratios.append(distance(left, right, x.size) / rms(difference))
    assert max(ratios) < SLACK
    assert min(ratios) > 0.5
    assert np.mean(np.square(ratios)) == pytest.approx(1.0, abs=0.12)


def test_one_element_alone_is_measured_exactly():
    x = np.zeros(10_000)
    y = x.copy()
    y[1234] = 3.0
    assert distance(project("t", y), project("t", x), 10_000) == pytest.approx(rms(y - x))


def test_few_elements_are_kept_and_exact():
    x, y = draw.normal(size=BUCKETS), draw.normal(size=BUCKETS)
    assert distance(project("t", x), project("t", y), BUCKETS) == pytest.approx(rms(x - y))
    assert slack(BUCKETS) == 1.0 and slack(BUCKETS + 1) == SLACK


def test_the_projection_never_changes():
    assert seed_of("linear_12") == 0x3F098A306F909873229BAF84FD9FC04C
    found = project("linear_12", np.arange(1000, dtype=np.float32))
    assert found[:4].tolist() == [1527.0, 1674.0, -692.0, 4056.0]
    assert float(np.abs(found).sum()) == 75166.0


def test_blocks_and_strides_do_not_matter():
    array = draw.normal(size=(700, 900)).astype(np.float32)
    strided = np.asfortranarray(array)
    left, right = sketch("t", array), sketch("t", strided)
    assert left.bits == right.bits
    assert np.array_equal(left.buckets, right.buckets) and np.array_equal(left.stats, right.stats)


def test_infinities_and_nan_are_counted_and_located():
    x = draw.normal(size=100).astype(np.float32)
    x[3], x[4], x[5] = np.inf, -np.inf, np.nan
    y = x.copy()
    y[3], y[6] = 0.0, np.inf
    left, right = sketch("t", x), sketch("t", y)
    assert left.nonfinite == right.nonfinite == (1, 1, 1)
    assert left.places != right.places
    assert np.isfinite(left.buckets).all() and np.isfinite(left.stats).all()


def test_bits_see_dtype_shape_and_the_sign_of_zero():
    zeros = np.zeros((2, 3), np.float32)
    variants = [zeros, zeros.reshape(3, 2), zeros.astype(np.float64), -zeros]
    assert len({sketch("t", v).bits for v in variants}) == 4


@pytest.mark.parametrize("shape", [(0,), (3, 0), ()])
def test_empty_and_scalar_tensors_have_sketches(shape):
    found = sketch("t", np.zeros(shape, np.float32))
    assert found.shape == shape and np.isfinite(found.stats).all()


def test_stats_move_by_no_more_than_the_tensor_does():
    x = draw.normal(size=200_000)
    noise = draw.uniform(-1e-3, 1e-3, size=x.size)
    for name, now, then in zip(
        STATS, sketch("t", x + noise).stats, sketch("t", x).stats, strict=True
    ):
        bound = rms(noise) if name in ("mean", "rms") else np.abs(noise).max()
        assert abs(now - then) <= bound
