"""The limit: derived from float32's own cost and the format, never below the floor."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from exporter.core.errors import ConfigError
from exporter.parity.measurement import Distance, Measurement
from exporter.parity.status import Status
from exporter.parity.tolerance import (
    FORMATS,
    LimitOverride,
    Policy,
    coarser,
    limit,
    natural_scale,
    widened,
)
from tests.parity.arrays import healthy, judged, tap

U = 2.0**-24


def measured(own: float, *, scale: float = 1.0, elements: int = 100_000, **more) -> Measurement:
    return Measurement(
        name="encoder.0.linear",
        elements=elements,
        dtype_expected=more.pop("dtype", "float32"),
        scale=scale,
        rms_scale=scale / 4,
        reference=Distance(elements=elements, max_abs=own, rms=own / 4),
        **more,
    )


def test_the_limit_is_the_factor_times_what_float32_costs():
    found = limit(measured(1e-3), Policy())
    assert (found.max_abs, found.rms) == (4e-3, 1e-3)
    assert "own distance" in found.why


def test_where_pytorch_is_exact_the_floor_counts():
    found = limit(measured(0.0), Policy())
    assert found.max_abs == pytest.approx(4 * 6 * U, rel=1e-3)
    assert found.rms == pytest.approx(4 * 4 * U / 4, rel=1e-3)
    assert "floor" in found.why


def test_the_floor_grows_with_the_scale_of_the_tensor():
    small, large = (limit(measured(0.0, scale=s), Policy()) for s in (1.0, 1000.0))
    assert large.max_abs == pytest.approx(1000 * small.max_abs)


def test_the_floor_of_few_elements_is_wider_and_bounded():
    assert widened(1) == widened(2) == 32.0
    assert 1.0 < widened(64) < 1.16
    assert all(widened(n) >= widened(n + 1) for n in range(100))
    assert widened(0) == 32.0


def test_a_probability_takes_its_scale_from_its_range():
    quiet = limit(measured(0.0, scale=1e-6), Policy())
    ranged = limit(measured(0.0, scale=1e-6, natural_scale=1.0), Policy())
    assert ranged.max_abs == pytest.approx(1e6 * quiet.max_abs)
    assert natural_scale("aten.sigmoid.default") == natural_scale("Sigmoid") == 1.0
    assert natural_scale("aten.linear.default") is None
    assert natural_scale("aten.log_sigmoid.default") is None


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_its_own_floor(name):
    reference = "float64" if name == "float64" else "float32"
    found = limit(measured(0.0, dtype=reference), Policy(precision=name))
    assert found.max_abs == pytest.approx(24 * FORMATS[name].roundoff, rel=1e-3)


def test_the_cost_of_float32_is_converted_to_the_declared_precision():
    found = limit(measured(1e-6), Policy(precision="float16"))
    assert found.max_abs == pytest.approx(4 * 1e-6 * 2**13)
    assert "float16" in found.why


def test_a_reference_in_the_declared_precision_is_not_converted_again():
    found = limit(measured(1.0, dtype="float16"), Policy(precision="float16"))
    assert found.max_abs == 4.0


def test_a_float16_tap_has_the_floor_of_its_own_dtype():
    found = limit(measured(0.0, dtype="float16"), Policy())
    assert found.max_abs == pytest.approx(24 * 2**-11, rel=1e-3)


def test_values_that_a_kernel_flushes_to_zero_pass():
    truth = np.full(100, 1e-39)
    assert judged(truth, truth.astype(np.float32), np.zeros(100, np.float32)).status is Status.PASS


def test_an_override_sets_the_factor_for_tap_or_layer():
    override = LimitOverride(pattern="encoder.*", factor=40.0, reason="long sums")
    policy = Policy(overrides=(override,))
    assert limit(measured(1e-3), policy).max_abs == pytest.approx(4e-2)
    assert limit(measured(1e-3), policy).override is override
    m = tap(*healthy())
    assert limit(m, policy).override is None
    assert limit(m, policy, layer="encoder.3").override is override


def test_an_override_needs_a_reason():
    with pytest.raises(ConfigError, match="no reason"):
        LimitOverride(pattern="*", factor=10.0, reason=" ")


@pytest.mark.parametrize("factor", [0.0, -1.0, math.inf, math.nan])
def test_a_factor_that_lets_everything_or_nothing_pass_is_refused(factor):
    with pytest.raises(ConfigError):
        Policy(factor=factor)
    with pytest.raises(ConfigError):
        LimitOverride(pattern="*", factor=factor, reason="because")


def test_an_unknown_precision_is_refused():
    with pytest.raises(ConfigError, match="int3"):
        Policy(precision="int3")


def dense(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.standard_normal((64, 512)).astype(np.float32)
    w = (random.uniform(-1, 1, (512, 256)) / np.sqrt(512)).astype(np.float32)
    return x, w, x.astype(np.float64) @ w.astype(np.float64)


@pytest.mark.parametrize("seed", range(5))
def test_another_order_of_summation_passes(seed):
    x, w, truth = dense(seed)
    order = np.random.default_rng(seed).permutation(512)
    assert judged(truth, x @ w, x[:, order] @ w[order]).status is Status.PASS


@pytest.mark.parametrize("seed", range(5))
def test_a_weight_matrix_rounded_to_float16_fails_by_far(seed):
    x, w, truth = dense(seed)
    verdict = judged(truth, x @ w, x @ w.astype(np.float16).astype(np.float32))
    assert verdict.status is Status.FAIL
    assert verdict.strain is not None and verdict.strain > 50


@pytest.mark.parametrize("seed", range(5))
def test_a_float16_weight_matrix_passes_where_float16_is_declared(seed):
    x, w, truth = dense(seed)
    rounded = x @ w.astype(np.float16).astype(np.float32)
    assert judged(truth, x @ w, rounded, Policy(precision="float16")).status is Status.PASS


@pytest.mark.parametrize("seed", range(5))
def test_int8_weights_pass_where_int8_is_declared_and_three_bits_do_not(seed):
    # Four bits lie at the limit itself: which side depends on the order in which BLAS adds.
    x, w, truth = dense(seed)
    for levels, status in ((127, Status.PASS), (3, Status.FAIL)):
        step = np.abs(w).max(axis=0) / levels
        coarse = (np.round(w / step) * step).astype(np.float32)
        found = judged(truth, x @ w, x @ coarse, Policy(precision="int8"))
        assert found.status is status


def test_layer_norm_with_another_epsilon_fails():
    random = np.random.default_rng(0)
    x = random.standard_normal((200, 512)).astype(np.float32)

    def norm(values: np.ndarray, epsilon: float) -> np.ndarray:
        centred = values - values.mean(-1, keepdims=True)
        variance = (centred**2).mean(-1, keepdims=True)
        return centred / np.sqrt(variance + values.dtype.type(epsilon))

    truth = norm(x.astype(np.float64), 1e-5)
    assert judged(truth, norm(x, 1e-5), norm(x, 1e-5)).status is Status.PASS
    assert judged(truth, norm(x, 1e-5), norm(x, 1e-6)).status is Status.FAIL


def test_what_the_file_holds_counts_and_not_what_is_declared():
    plain = replace(measured(0.0), held=())
    assert limit(plain, Policy(precision="int8")) == limit(plain, Policy())
    half = replace(measured(0.0), held=("float16",))
    found = limit(half, Policy(precision="int8"))
    assert found.max_abs == pytest.approx(24 * FORMATS["float16"].roundoff, rel=1e-3)
    assert "of float16" in found.why


def test_half_of_the_factor_counts_for_what_a_format_costs():
    cost = Distance(elements=1000, max_abs=0.1, rms=0.02)
    held = replace(measured(0.0), held=("int8",), cost=cost)
    found = limit(held, Policy(precision="int8"))
    assert (found.max_abs, found.rms) == pytest.approx((0.2, 0.04))
    assert limit(held, Policy()).max_abs < 1e-4, "nobody has declared it"


@pytest.mark.parametrize(
    ("declared", "held", "coarse"),
    [
        ("float32", "float16", True),
        ("float32", "int16", True),
        ("float16", "float16", False),
        ("float16", "bfloat16", True),
        ("float16", "int8", True),
        ("bfloat16", "float16", False),
        ("int8", "int8", False),
        ("int8", "int7", False),
        ("int8", "int6", True),
        ("int8", "int4", True),
        ("int8", "float8", True),
        ("int8", "float16", False),
    ],
)
def test_what_is_coarser_than_declared(declared: str, held: str, coarse: bool):
    found = coarser((held,), Policy(precision=declared))
    assert found == ((held,) if coarse else ())
