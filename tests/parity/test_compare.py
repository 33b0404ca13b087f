"""Measuring: the blocked pass equals the naive one, whatever the strides, dtypes and blocks."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from exporter.parity import distance
from exporter.parity.compare import measure, measure_exact
from exporter.parity.measurement import Distance, Measurement
from exporter.parity.merge import accumulate, worse
from exporter.parity.status import Status
from exporter.parity.tolerance import Policy
from exporter.parity.verdict import judge
from tests.parity.arrays import healthy, tap

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=7)
ANY = st.floats(width=64, allow_nan=True, allow_infinity=True)
FINITE32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def naive(expected: np.ndarray, actual: np.ndarray, finite: np.ndarray):
    with np.errstate(invalid="ignore"):
        error = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    error = np.where(finite, error, -1.0).reshape(-1)
    at = int(error.argmax())
    held = error[finite.reshape(-1)]
    if not held.size:
        return 0, None, None, None
    rms = float(held.max() * np.sqrt(np.mean((held / held.max()) ** 2))) if held.max() else 0.0
    index = tuple(int(i) for i in np.unravel_index(at, expected.shape)) if held.max() else None
    return held.size, float(held.max()), rms, index


def agrees(found: Distance | None, expected: tuple) -> None:
    assert found is not None
    elements, peak, rms, index = expected
    assert (found.elements, found.max_abs, found.worst_index) == (elements, peak, index)
    assert found.rms == (rms if rms is None else pytest.approx(rms, rel=1e-9, abs=0.0))


def same(left: Measurement, right: Measurement) -> None:
    """Equal in everything; where squares were added in another order, to twelve digits."""
    flat_left, flat_right = flat(left), flat(right)
    for key in [k for k in flat_left if "rms" in k]:
        assert flat_left.pop(key) == pytest.approx(flat_right.pop(key), rel=1e-12, abs=0.0)
    assert flat_left == flat_right


def flat(m: Measurement) -> dict:
    saved = m.to_json()
    sides = {key: saved.pop(key) or {} for key in ("actual", "reference", "direct")}
    return saved | {f"{k}.{name}": v for k, side in sides.items() for name, v in side.items()}


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from([3, 16, 65_536]))
def test_the_blocked_pass_equals_the_naive_one(data, block):
    shape = data.draw(SHAPES)
    values = st.one_of(FINITE32.map(float), ANY.filter(lambda x: not abs(x) > 1e150 or x != x))
    truth = data.draw(hnp.arrays(np.float64, shape, elements=values))
    reference = data.draw(hnp.arrays(np.float32, shape, elements=st.floats(width=32)))
    actual = data.draw(hnp.arrays(np.float32, shape, elements=st.floats(width=32)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distance, "BLOCK", block)
        m = tap(truth, reference, actual, exhaustive=True)
        assert tap(truth, reference, actual).direct is None
    finite = np.isfinite(truth) & np.isfinite(reference) & np.isfinite(actual)
    agrees(m.actual, naive(truth, actual, finite))
    agrees(m.reference, naive(truth, reference, finite))
    agrees(m.direct, naive(reference, actual, finite))
    assert m.nan_truth == np.isnan(truth).sum()
    assert m.nan_expected == np.isnan(reference).sum()
    assert m.nan_actual == np.isnan(actual).sum()
    assert m.inf_actual == np.isinf(actual).sum()
    known = np.isfinite(truth)
    assert m.scale == (float(np.abs(truth[known]).max()) if known.any() else None)


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(3)), st.permutations(range(3)), st.integers(0, 9), st.booleans())
def test_strides_do_not_change_a_measurement(left, right, seed, backwards):
    truth, reference, actual = healthy((4, 5, 6), seed)
    if seed % 2:
        reference[0, 0, 0] = -np.inf

    def stored(array: np.ndarray, order: list[int]) -> np.ndarray:
        inner = np.ascontiguousarray(array.transpose(order))
        same = inner.transpose(np.argsort(order))
        if backwards:
            same = np.ascontiguousarray(same[::-1])[::-1]
        assert (same == array).all()
        return same

    plain = tap(truth, reference, actual)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distance, "BLOCK", 7)
        strided = tap(stored(truth, left), stored(reference, right), actual)
    same(strided, plain)


def test_a_block_is_never_larger_than_the_buffers_whatever_the_shape():
    for shape in [(3, 40_000, 2), (70_000, 3), (2, 2, 70_001), (65_537,)]:
        array = np.zeros(shape[::-1], dtype=np.float32).T
        offsets = []
        for offset, (block,) in distance.walk((array,)):
            assert 0 < block.size <= distance.BLOCK
            offsets.append((offset, block.size))
        assert sum(size for _, size in offsets) == array.size
        assert [o for o, _ in offsets] == [
            sum(s for _, s in offsets[:i]) for i in range(len(offsets))
        ]


def test_large_arrays_are_measured_like_small_ones():
    truth, reference, actual = healthy((3, 70_001))
    m = tap(truth, reference, actual)
    everything = np.ones(truth.shape, bool)
    agrees(m.actual, naive(truth, actual, everything))
    agrees(m.reference, naive(truth, reference, everything))
    assert m.rms_scale == pytest.approx(np.sqrt(np.mean(truth**2)), rel=1e-12)


@pytest.mark.parametrize("size", [1e200, 1e-200, 1e-310])
def test_squares_that_overflow_or_vanish_do_not_spoil_the_rms(size):
    truth = np.zeros(1000)
    m = tap(truth, truth, np.full(1000, size))
    assert m.actual is not None
    assert m.actual.max_abs == size
    assert m.actual.rms == pytest.approx(size, rel=1e-12)


def test_equal_sides_have_distance_zero_and_no_worst_index():
    truth, reference, _ = healthy()
    m = tap(truth, reference, reference.copy(), exhaustive=True)
    assert m.bitwise_equal
    assert m.direct == Distance(elements=reference.size, max_abs=0.0, rms=0.0)


def test_what_was_not_measured_is_none_and_never_zero():
    m = tap(None, np.arange(3), np.arange(3))
    assert (m.scale, m.actual, m.nan_actual, m.cosine) == (None, None, None, None)
    m = tap(np.zeros((0, 5)), np.zeros((0, 5), np.float32), np.zeros((0, 5), np.float32))
    assert m.actual == Distance(elements=0)
    assert (m.scale, m.rms_scale) == (None, None)


def test_a_scalar_is_measured():
    m = tap(np.array(1.0), np.array(1.0, np.float32), np.array(2.0, np.float32))
    assert m.actual == Distance(
        elements=1, max_abs=1.0, rms=1.0, worst_index=(), worst_expected=1.0, worst_actual=2.0
    )


def test_the_inputs_are_not_written_to():
    truth, reference, actual = healthy()
    copies = [x.copy() for x in (truth, reference, actual)]
    for side in (truth, reference, actual):
        side.flags.writeable = False
    tap(truth, reference, actual, exhaustive=True)
    assert all((x == y).all() for x, y in zip(copies, (truth, reference, actual), strict=True))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_widths_are_measured_in_float64(dtype):
    truth, reference, _ = healthy()
    actual = truth.astype(dtype)
    agrees(tap(truth, reference, actual).actual, naive(truth, actual, np.ones(truth.shape, bool)))


def test_bfloat16_is_a_float():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    truth, _, _ = healthy()
    side = truth.astype(ml_dtypes.bfloat16)
    m = tap(truth, side, side.copy())
    assert (m.kind, m.dtype_actual, m.bitwise_equal) == ("float", "bfloat16", True)
    agrees(m.actual, naive(truth, side.astype(np.float64), np.ones(truth.shape, bool)))


@pytest.mark.parametrize("values", [["a"], [None]])
def test_a_dtype_that_cannot_be_compared_is_a_problem(values):
    array = np.array(values)
    assert "cannot be compared" in (tap(None, array, array).problem or "")


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.parametrize("held_as", ["complex", "pairs"])
def test_complex_values_are_compared_as_real_and_imaginary_parts(dtype, held_as: str):
    draw = np.random.default_rng(0)
    truth = draw.standard_normal((3, 4)) + 1j * draw.standard_normal((3, 4))
    reference = truth.astype(dtype)
    moved = reference.copy()
    moved[2, 1] += 0.5j
    actual = moved if held_as == "complex" else np.stack([moved.real, moved.imag], -1)
    m = tap(truth, reference, actual)
    assert m.pairs and m.problem is None and m.shape_actual == (3, 4, 2)
    assert m.actual is not None and m.actual.worst_index == (2, 1, 1)
    assert m.actual.max_abs == pytest.approx(0.5, rel=1e-6)
    judged = judge(m, Policy())
    assert judged.status is Status.FAIL and "real and imaginary" in judged.reason
    clean = tap(truth, reference, np.stack([reference.real, reference.imag], -1))
    assert judge(clean, Policy()).status is Status.PASS
    assert Measurement.from_json(m.to_json()) == m


def test_parts_of_another_width_are_another_dtype():
    reference = np.ones((3, 4), np.complex64)
    wide = np.ones((3, 4, 2), np.float64)
    assert judge(tap(reference, reference, wide), Policy()).status is Status.FAIL


def test_real_values_where_complex_ones_are_expected_are_a_problem():
    reference = np.ones((3, 4), np.complex64)
    assert "shape change" in (tap(reference, reference, reference.real.copy()).problem or "")


def test_bools_are_compared_exactly():
    reference = np.array([True, False, True])
    m = tap(None, reference, ~reference)
    assert (m.kind, m.mismatches, m.first_mismatch) == ("discrete", 3, (0,))


def test_the_first_mismatch_is_found_behind_a_block_and_across_strides():
    reference = np.zeros((300, 300), dtype=np.int64)
    actual = np.asfortranarray(reference.copy())
    actual[250, 7] = actual[290, 0] = 1
    m = tap(None, reference, actual)
    assert (m.mismatches, m.first_mismatch) == (2, (250, 7))


def test_exhaustive_measuring_adds_cosine_and_quantiles():
    truth, reference, actual = healthy((200, 300))
    m = tap(truth, reference, actual, exhaustive=True)
    error = np.abs(actual - truth)
    assert m.cosine == pytest.approx(1.0, abs=1e-12)
    assert m.quantiles == {f"{q:g}": np.quantile(error, q) for q in (0.5, 0.9, 0.99, 0.999)}
    assert tap(truth, reference, -actual, exhaustive=True).cosine == pytest.approx(-1.0)
    zeros = np.zeros_like(truth)
    assert tap(zeros, reference, actual, exhaustive=True).cosine is None


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_json_keeps_every_measurement_as_it_is(data):
    number = st.one_of(st.none(), st.floats(allow_nan=False))
    index = st.one_of(st.none(), st.lists(st.integers(0, 9), max_size=3).map(tuple))
    count = st.one_of(st.none(), st.integers(0, 9))
    side = st.one_of(
        st.none(),
        st.builds(
            Distance,
            elements=st.integers(0, 9),
            max_abs=number,
            rms=number,
            worst_index=index,
            worst_expected=number,
            worst_actual=number,
        ),
    )
    m = data.draw(
        st.builds(
            Measurement,
            name=st.sampled_from(["tap", "nan", "inf"]),
            shape_expected=index,
            shape_actual=index,
            scale=number,
            rms_scale=number,
            natural_scale=number,
            actual=side,
            reference=side,
            direct=side,
            nan_actual=count,
            inf_mismatch=count,
            mismatches=count,
            first_mismatch=index,
            bitwise_equal=st.one_of(st.none(), st.booleans()),
            cosine=number,
            quantiles=st.one_of(
                st.none(), st.dictionaries(st.just("0.5"), st.floats(allow_nan=False))
            ),
            problem=st.one_of(st.none(), st.just("missing in ONNX")),
        )
    )
    text = json.dumps(m.to_json(), allow_nan=False)
    assert Measurement.from_json(json.loads(text)) == m


def test_json_keeps_a_nan():
    m = Measurement(name="inf", cosine=float("nan"), actual=Distance(elements=1, rms=float("nan")))
    back = Measurement.from_json(json.loads(json.dumps(m.to_json(), allow_nan=False)))
    assert back.name == "inf"
    assert back.cosine is not None and np.isnan(back.cosine)
    assert back.actual is not None and back.actual.rms is not None and np.isnan(back.actual.rms)


def test_json_with_an_unknown_key_is_refused():
    with pytest.raises(TypeError):
        Measurement.from_json(Measurement(name="tap").to_json() | {"error": 0.0})


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("broken", [None, np.nan, -np.inf])
def test_slices_accumulate_to_the_measurement_of_the_whole(axis, broken):
    truth, reference, actual = healthy((30, 40))
    actual[21, 33] += 1.0
    if broken is not None:
        actual[5, 5] = truth[6, 6] = broken
    whole = tap(truth, reference, actual)
    cuts = [np.array_split(x, 3, axis=axis) for x in (truth, reference, actual)]
    joined = accumulate([tap(*parts) for parts in zip(*cuts, strict=True)], axis=axis)
    assert joined.actual is not None and joined.actual.worst_index == (21, 33)
    same(joined, whole)


def test_discrete_slices_accumulate():
    reference = np.zeros((6, 2), np.int64)
    actual = reference.copy()
    actual[4, 1] = actual[5, 0] = 1
    parts = [tap(None, reference[i : i + 2], actual[i : i + 2]) for i in (0, 2, 4)]
    joined = accumulate(parts)
    assert joined == tap(None, reference, actual)
    assert (joined.mismatches, joined.first_mismatch) == (2, (4, 1))


def test_a_slice_with_a_problem_is_the_problem_of_the_whole():
    good = tap(*healthy((3, 4)))
    bad = tap(np.zeros((3, 4)), np.zeros((3, 4), np.float32), None)
    assert accumulate([good, bad]).problem == "missing in ONNX"


def test_slices_of_nothing_or_of_different_taps_are_refused():
    truth, reference, actual = healthy()
    with pytest.raises(ValueError, match="no slices"):
        accumulate([])
    other = measure("other", truth=truth, reference=reference, actual=actual)
    with pytest.raises(ValueError, match="different taps"):
        accumulate([tap(truth, reference, actual), other])


def test_the_worse_of_two_cases_has_a_problem_a_nan_or_the_larger_cost():
    truth, reference, actual = healthy()
    good = tap(truth, reference, actual)
    further = tap(truth, reference, actual + np.float32(1e-3))
    with_nan = tap(truth, reference, np.where(truth > 2, np.nan, actual).astype(np.float32))
    with_inf = tap(truth, reference, np.where(truth > 2, np.inf, actual).astype(np.float32))
    missing = tap(truth, reference, None)
    ordered = [good, further, with_inf, with_nan, missing]
    for i, left in enumerate(ordered):
        for right in ordered[i + 1 :]:
            assert worse(left, right) is right
            assert worse(right, left) is right


def test_a_loud_healthy_case_does_not_hide_a_quiet_wrong_one():
    truth, reference, actual = healthy()
    loud = tap(1000 * truth, 1000 * reference, 1000 * actual)
    quiet = tap(truth, reference, actual + np.float32(1e-5))
    assert worse(loud, quiet) is quiet


def test_the_worst_index_is_right_in_a_later_block_that_holds_a_nan(monkeypatch):
    monkeypatch.setattr(distance, "BLOCK", 16)
    truth, reference, actual = healthy((100,))
    actual[50], actual[55] = np.nan, 9.0
    m = tap(truth, reference, actual)
    assert m.actual is not None and m.actual.worst_index == (55,)


def test_compared_counts_finite_positions_and_infinities_that_agree():
    truth, reference, actual = healthy((10,))
    truth[:3] = reference[:3] = actual[:3] = -np.inf
    actual[3], actual[4] = np.inf, np.nan
    m = tap(truth, reference, actual)
    assert (m.elements, m.compared, m.inf_mismatch, m.inf_mismatch_expected) == (10, 8, 1, 0)


def test_a_shape_change_is_a_problem_and_nothing_is_measured():
    m = tap(np.zeros((3, 1)), np.zeros((3, 1), np.float32), np.zeros((1, 3), np.float32))
    assert m.problem == "shape change: PyTorch (3, 1), ONNX (1, 3)"
    assert m.actual is None


def test_threads_do_not_share_buffers():
    sides = [healthy((50, 3000), seed) for seed in range(8)]
    alone = [tap(*x) for x in sides]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda x: tap(*x), sides * 3))
    assert together == alone * 3


def test_exact_measuring_of_equal_arrays_counts_their_infinities():
    values = np.array([[0.0, -np.inf], [1.0, np.inf]], dtype=np.float32)
    m = measure_exact("tap", values.T, np.ascontiguousarray(values.T))
    assert (m.kind, m.bitwise_equal, m.inf_actual, m.compared) == ("exact", True, 2, 4)
    assert m.direct == Distance(elements=2, max_abs=0.0, rms=0.0)


def test_exact_measuring_of_large_finite_values_does_not_mistake_them_for_infinities():
    values = np.full(100, 3e38, dtype=np.float32)
    m = measure_exact("tap", values, values.copy())
    assert (m.nan_actual, m.inf_actual) == (0, 0)
