"""A pass is earned: one test for each way in which it must not be given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.parity.compare import measure_exact
from exporter.parity.measurement import Distance, Measurement
from exporter.parity.status import Status, Who
from exporter.parity.tolerance import LimitOverride, Policy
from exporter.parity.verdict import apart, judge, judge_discrete
from tests.parity.arrays import POLICY, healthy, judged, tap


def test_two_healthy_sides_pass_and_both_are_within_rounding():
    verdict = judged(*healthy())
    assert verdict.status is Status.PASS
    assert verdict.who is Who.BOTH_WITHIN_ROUNDING
    assert verdict.ratio is not None and verdict.ratio < 4
    assert not verdict.weak


def test_a_nan_on_the_onnx_side_fails_and_onnx_is_wrong():
    truth, reference, actual = healthy()
    actual[3, 4] = np.nan
    verdict = judged(truth, reference, actual)
    assert (verdict.status, verdict.who) == (Status.FAIL, Who.ONNX)


def test_a_nan_on_the_pytorch_side_fails_and_pytorch_is_wrong():
    truth, reference, actual = healthy()
    reference[3, 4] = np.nan
    verdict = judged(truth, reference, actual)
    assert (verdict.status, verdict.who) == (Status.FAIL, Who.PYTORCH)


@pytest.mark.parametrize("role", ["inner", "output"])
def test_a_nan_on_both_sides_still_fails(role):
    truth, reference, actual = healthy()
    for side in (truth, reference, actual):
        side[0, 0] = np.nan
    verdict = judged(truth, reference, actual, role=role)
    assert (verdict.status, verdict.who) == (Status.FAIL, Who.UNKNOWN)


def test_a_nan_in_float64_alone_fails():
    truth, reference, actual = healthy()
    truth[0, 0] = np.nan
    assert judged(truth, reference, actual).status is Status.FAIL


def test_a_nan_that_is_bitwise_equal_behind_an_op_that_moves_data_fails():
    values = np.array([1.0, np.nan], dtype=np.float32)
    m = measure_exact("tap", values, values.copy())
    assert m.bitwise_equal
    assert judge(m, POLICY).status is Status.FAIL


def test_an_infinity_in_a_float_output_fails_even_when_all_sides_agree():
    sides = healthy()
    for side in sides:
        side[0, 0] = -np.inf
    verdict = judged(*sides, role="output")
    assert verdict.status is Status.FAIL
    assert "Inf in an output" in verdict.reason


def test_infinities_of_an_inner_mask_pass_when_sign_and_position_agree():
    sides = healthy()
    for side in sides:
        side[:, 10:] = -np.inf
        side[0, 0] = np.inf
    assert judged(*sides).status is Status.PASS


def test_a_mask_of_infinities_only_passes_at_an_inner_tap():
    truth = np.full((4, 4), -np.inf)
    side = truth.astype(np.float32)
    verdict = judged(truth, side, side.copy())
    assert verdict.status is Status.PASS
    assert "agree in sign and position" in verdict.reason


def test_an_inner_infinity_of_the_other_sign_fails():
    truth, reference, actual = healthy()
    truth[1, 1] = reference[1, 1] = -np.inf
    actual[1, 1] = np.inf
    verdict = judged(truth, reference, actual)
    assert (verdict.status, verdict.who) == (Status.FAIL, Who.ONNX)


def test_an_inner_infinity_at_another_position_fails():
    truth, reference, actual = healthy()
    truth[1, 1] = reference[1, 1] = -np.inf
    actual[1, 2] = -np.inf
    assert judged(truth, reference, actual).status is Status.FAIL


def test_an_inner_infinity_of_both_float32_sides_where_float64_is_finite_fails():
    truth, reference, actual = healthy()
    reference[1, 1] = actual[1, 1] = np.inf
    verdict = judged(truth, reference, actual)
    assert (verdict.status, verdict.who) == (Status.FAIL, Who.UNKNOWN)


def test_an_inner_infinity_of_pytorch_alone_names_pytorch():
    truth, reference, actual = healthy()
    reference[1, 1] = np.inf
    verdict = judged(truth, reference, actual)
    assert (verdict.status, verdict.who) == (Status.FAIL, Who.PYTORCH)


def test_emptiness_that_no_case_declares_fails():
    empty = np.zeros((0, 5))
    side = empty.astype(np.float32)
    assert judged(empty, side, side).status is Status.FAIL


def test_declared_emptiness_has_its_own_status():
    empty = np.zeros((0, 5))
    side = empty.astype(np.float32)
    verdict = judged(empty, side, side, empty_declared=True)
    assert verdict.status is Status.EMPTY_AS_DECLARED


def test_declared_emptiness_of_another_shape_fails():
    truth, reference = np.zeros((0, 5)), np.zeros((0, 5), dtype=np.float32)
    actual = np.zeros((0,), dtype=np.float32)
    assert judged(truth, reference, actual, empty_declared=True).status is Status.FAIL


def test_an_output_that_is_declared_empty_and_is_not_fails():
    assert judged(*healthy(), role="output", empty_declared=True).status is Status.FAIL


def test_an_inner_tap_that_holds_values_in_an_empty_case_is_judged_as_usual():
    assert judged(*healthy(), empty_declared=True).status is Status.PASS


def test_zero_compared_elements_fail():
    m = replace(tap(*healthy()), compared=0)
    assert judge(m, POLICY).status is Status.FAIL


@pytest.mark.parametrize("missing", ["onnx", "pytorch", "float64", "both"])
def test_a_tap_that_is_missing_on_a_side_fails(missing):
    truth, reference, actual = healthy()
    verdict = judged(
        None if missing == "float64" else truth,
        None if missing in ("pytorch", "both") else reference,
        None if missing in ("onnx", "both") else actual,
    )
    assert verdict.status is Status.FAIL
    assert "missing" in verdict.reason
    assert verdict.who is (Who.ONNX if missing == "onnx" else Who.UNKNOWN)


def test_a_dtype_change_fails_even_when_the_values_are_equal():
    truth, reference, _ = healthy()
    verdict = judged(truth, reference, reference.astype(np.float64))
    assert (verdict.status, verdict.who) == (Status.FAIL, Who.ONNX)
    assert "dtype change" in verdict.reason


def test_a_change_from_float_to_integer_fails():
    truth = np.arange(6.0)
    verdict = judged(truth, truth.astype(np.float32), truth.astype(np.int64))
    assert verdict.status is Status.FAIL


def test_an_integer_of_another_width_fails():
    ids = np.arange(6)
    assert judged(None, ids, ids.astype(np.int32)).status is Status.FAIL


@pytest.mark.parametrize(
    ("left", "right"),
    [((3, 1), (1, 3)), ((0,), (0, 5)), ((3, 1), (3,)), ((), (1,)), ((2, 3), (3, 2))],
)
def test_a_shape_change_fails_and_nothing_is_broadcast(left, right):
    verdict = judged(
        np.zeros(left), np.zeros(left, np.float32), np.zeros(right, np.float32), empty_declared=True
    )
    assert verdict.status is Status.FAIL
    assert "shape change" in verdict.reason


def test_a_float64_run_of_another_shape_fails():
    _, reference, actual = healthy((3, 1))
    assert judged(np.zeros((1, 3)), reference, actual).status is Status.FAIL


def test_unsigned_integers_do_not_wrap():
    reference, actual = np.array([0, 255], np.uint8), np.array([255, 255], np.uint8)
    m = tap(None, reference, actual)
    assert (m.mismatches, m.first_mismatch) == (1, (0,))
    assert judge(m, POLICY).status is Status.FAIL


def test_an_error_beyond_the_limit_fails_and_onnx_is_wrong():
    truth, reference, actual = healthy()
    actual[7, 7] += 1e-4
    verdict = judged(truth, reference, actual)
    assert (verdict.status, verdict.who) == (Status.FAIL, Who.ONNX)
    assert "(7, 7)" in verdict.reason


def test_an_error_that_only_the_rms_sees_fails():
    truth, reference, actual = healthy((100, 100))
    truth[0, 0] = reference[0, 0] = actual[0, 0] = 1000.0  # hides every maximum
    actual = (truth + 1e-4 * np.sign(truth)).astype(np.float32)
    verdict = judged(truth, reference, actual)
    assert verdict.status is Status.FAIL
    assert verdict.reason.startswith("rms error")


def test_where_pytorch_is_the_worse_one_onnx_passes_and_pytorch_is_named():
    truth, reference, actual = healthy()
    reference[7, 7] += 1e-3
    verdict = judged(truth, reference, actual)
    assert (verdict.status, verdict.who) == (Status.PASS, Who.PYTORCH)


def test_a_tap_whose_float32_carries_no_information_is_marked_as_weak():
    truth, reference, actual = healthy()
    reference, actual = -reference, -2 * actual
    verdict = judged(truth, reference, actual)
    assert verdict.weak
    assert verdict.who is Who.UNKNOWN


def test_a_distance_that_overflows_fails():
    truth = np.array([1e308, 1.0])
    reference, actual = truth.copy(), np.array([-1e308, 1.0])
    assert judged(truth, reference, actual).status is Status.FAIL
    # An infinite limit, from a reference that overflows as well, lets nothing pass either.
    assert judged(truth, actual, actual.copy()).status is Status.FAIL


def test_a_saved_measurement_without_counts_of_nan_fails():
    m = replace(tap(*healthy()), nan_actual=None)
    assert judge(m, POLICY).status is Status.FAIL


def test_a_saved_measurement_without_distances_fails():
    assert judge(replace(tap(*healthy()), actual=None), POLICY).status is Status.FAIL
    unmeasured = Distance(elements=3)
    assert judge(replace(tap(*healthy()), actual=unmeasured), POLICY).status is Status.FAIL


def test_a_measurement_of_nothing_fails():
    assert judge(Measurement(name="tap"), POLICY).status is Status.FAIL


def test_moved_data_must_be_bitwise_equal():
    values = np.arange(6, dtype=np.float32)
    assert judge(measure_exact("tap", values, values.copy()), POLICY).status is Status.PASS
    moved = np.nextafter(values, np.float32(10))
    verdict = judge(measure_exact("tap", values, moved), POLICY)
    assert (verdict.status, verdict.who) == (Status.FAIL, Who.ONNX)


def test_moved_data_that_differs_in_the_sign_of_zero_passes():
    values = np.array([0.0, 1.0], dtype=np.float32)
    m = measure_exact("tap", values, np.array([-0.0, 1.0], dtype=np.float32))
    assert not m.bitwise_equal
    assert judge(m, POLICY).status is Status.PASS


def test_a_declared_precision_allows_its_dtype_at_inner_taps_only():
    truth, reference, _ = healthy()
    half = truth.astype(np.float16)
    policy = Policy(precision="float16")
    assert judged(truth, reference, half, policy).status is Status.PASS
    assert judged(truth, reference, half, policy, role="output").status is Status.FAIL
    assert judged(truth, reference, half).status is Status.FAIL


def test_float16_values_pass_where_float16_is_declared_and_fail_where_it_is_not():
    truth, reference, _ = healthy()
    rounded = truth.astype(np.float16).astype(np.float32)
    assert judged(truth, reference, rounded, Policy(precision="float16")).status is Status.PASS
    assert judged(truth, reference, rounded).status is Status.FAIL


def test_an_override_lets_its_tap_pass_and_is_named_in_the_reason():
    truth, reference, actual = healthy()
    actual[7, 7] += 1e-5
    override = LimitOverride(pattern="ta*", factor=400.0, reason="a sum over a million terms")
    verdict = judged(truth, reference, actual, Policy(overrides=(override,)))
    assert verdict.status is Status.PASS
    assert "a sum over a million terms" in verdict.reason
    other = replace(override, pattern="another")
    assert judged(truth, reference, actual, Policy(overrides=(other,))).status is Status.FAIL


def test_value_and_limit_are_printed_with_digits_that_tell_them_apart():
    assert apart(1.0000001, 1.0) == ("1.0000001", "1")
    assert apart(2.0, 1.0) == ("2", "1")
    nearest = float(np.nextafter(1.0, 2.0))
    left, right = apart(nearest, 1.0)
    assert left != right
    assert apart(1.0, 1.0) == ("1", "1")


def test_equal_discrete_values_pass():
    ids = np.arange(12).reshape(3, 4)
    assert judged(None, ids, ids.copy()).status is Status.PASS


def test_unequal_discrete_values_fail_without_margins():
    ids = np.arange(12)
    m = tap(None, ids, ids + (ids == 5))
    verdict = judge(m, POLICY)
    assert (verdict.status, verdict.who) == (Status.FAIL, Who.ONNX)
    assert judge_discrete(m, np.array([1e-9]), None).status is Status.FAIL


def test_unequal_discrete_values_are_ambiguous_when_every_margin_is_below_the_noise():
    ids = np.arange(12)
    m = tap(None, ids, ids + (ids > 9))
    assert judge_discrete(m, np.array([1e-9, 1e-8]), 1e-6).status is Status.AMBIGUOUS


def test_one_margin_above_the_noise_fails():
    ids = np.arange(12)
    m = tap(None, ids, ids + (ids > 9))
    assert judge_discrete(m, np.array([1e-9, 1e-2]), 1e-6).status is Status.FAIL


def test_a_margin_that_equals_the_noise_fails():
    ids = np.arange(12)
    m = tap(None, ids, ids + (ids > 10))
    assert judge_discrete(m, np.array([1e-6]), 1e-6).status is Status.FAIL


@pytest.mark.parametrize(
    ("margins", "noise"),
    [([np.nan], 1.0), ([1e-9], np.nan), ([], 1.0), ([1e-9, 1e-9], 1.0), ([1e-9], [1.0, 1.0])],
)
def test_margins_that_are_nan_or_of_another_number_fail(margins, noise):
    ids = np.arange(12)
    m = tap(None, ids, ids + (ids > 10))
    assert judge_discrete(m, np.array(margins), np.asarray(noise)).status is Status.FAIL


def test_a_discrete_shape_change_fails_whatever_the_margins():
    m = tap(None, np.zeros((2, 2), int), np.zeros((3, 2), int))
    assert judge_discrete(m, np.array([0.0]), 1.0).status is Status.FAIL


def test_a_float_tap_is_never_judged_as_discrete():
    assert judge_discrete(tap(*healthy()), None, None).status is Status.FAIL


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-10, 1e3), st.floats(1.0, 1e6), st.integers(0, 5))
def test_judging_is_monotone_in_the_error(error, growth, seed):
    truth, reference, _ = healthy((8, 8), seed)
    direction = np.random.default_rng(seed + 1).standard_normal(truth.shape)
    strains = []
    for size in (error, error * growth):
        m = tap(truth, reference.astype(np.float64), truth + size * direction)
        strains.append(judge(replace(m, dtype_expected="float32", dtype_actual="float32"), POLICY))
    small, large = strains
    assert small.strain is not None and large.strain is not None
    assert small.strain <= large.strain * (1 + 1e-9)
    if small.status is Status.FAIL:
        assert large.status is Status.FAIL
