"""The false-alarm rate holds for a lifetime of looking; a move is seen, and only if it has size."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from exporter.core.errors import UserInputError
from exporter.monitor.drift import Drift, plan_tests, share_bound
from exporter.monitor.signals import SIGNALS, Signal, signals_of

LEVEL = Signal(name="level_db", unit="dB", least=3.0)


def drift(reference: np.ndarray, least: float = 3.0, false_alarms: float = 0.01) -> Drift:
    signal = Signal(name="x", unit="", least=least)
    return Drift(plan_tests({"x": reference}, [signal], false_alarms), false_alarms)


def test_the_bound_of_a_share_is_that_of_the_beta_distribution():
    from scipy.stats import beta

    for count, rank, risk in ((20, 18, 1e-4), (100, 90, 1e-3), (500, 450, 0.05), (30, 30, 0.01)):
        wanted = beta.ppf(1 - risk, count - rank + 1, rank)
        assert share_bound(count, rank, risk) == pytest.approx(wanted, rel=1e-9)


SIGNAL = Signal(name="x", unit="", least=0.0)
"""Without a size: the hardest."""


def alarmed(count: int, rate: float, p0: float | None = None) -> float:
    """Share of 400 lives of 3,000 recordings, each with a reference of its own, with an alarm."""
    draw, lives = np.random.default_rng(count), 400
    plans = [plan_tests({"x": draw.normal(size=count)}, [SIGNAL], rate) for _ in range(lives)]
    edges = np.array([[test.edge for test in plan] for plan in plans])
    signs = np.array([test.sign for test in plans[0]])
    held = Drift([replace(t, p0=p0 or t.p0) for t in plans[0]], rate, streams=lives)
    ever = np.zeros(lives, bool)
    for _ in range(3000):
        held.add_beyond(signs * draw.normal(size=(lives, 1)) > signs * edges)
        ever |= (held.evidence >= held.threshold).any(axis=1)
    return float(ever.mean())


@pytest.mark.slow
@pytest.mark.parametrize("count", [20, 100])
def test_stable_lifetimes_raise_no_more_alarms_than_declared(count: int):
    assert alarmed(count, 0.2) <= 0.2


def test_a_test_without_the_bound_would_raise_them():
    """What the check above rests on: the plain 10 % as p0 is not kept by a finite reference."""
    assert alarmed(20, 0.2, p0=0.1) > 0.2


def test_a_move_is_seen_soon_also_after_a_long_stable_time():
    draw = np.random.default_rng(1)
    held = drift(draw.normal(-20, 2, size=100))
    for value in draw.normal(-20, 2, size=3000):
        held.add({"x": float(value)})
    assert not held.alarms
    delay = 0
    while not held.alarms and delay < 100:
        held.add({"x": float(draw.normal(-40, 2))})
        delay += 1
    assert delay < 30
    assert held.shares["x"] > 0.3
    for value in draw.normal(-20, 2, size=60):
        held.add({"x": float(value)})
    assert not held.alarms, "when the move has gone, the alarm goes"


def test_a_move_that_is_significant_and_small_is_none():
    draw = np.random.default_rng(2)
    held = drift(draw.normal(-20, 0.01, size=200), least=3.0)
    for value in draw.normal(-19, 0.01, size=2000):  # a hundred deviations, one decibel
        held.add({"x": float(value)})
    assert not held.alarms
    for value in draw.normal(-16, 0.01, size=50):
        held.add({"x": float(value)})
    assert held.alarms == ("x",)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_never_inside(value: float):
    held = drift(np.linspace(-1, 1, 100))
    for _ in range(60):
        held.add({"x": value})
    assert held.alarms == ("x",)
    missing = drift(np.linspace(-1, 1, 100))
    for _ in range(60):
        missing.add({})
    assert missing.alarms == ("x",)


def test_a_reference_that_says_nothing_is_refused():
    with pytest.raises(UserInputError, match="19 recordings"):
        plan_tests({"level_db": np.zeros(19)}, [LEVEL])
    with pytest.raises(UserInputError, match="no number"):
        plan_tests({"level_db": np.full(20, math.nan)}, [LEVEL])
    for rate in (0.0, 1.0, math.nan):
        with pytest.raises(UserInputError, match="false_alarms"):
            plan_tests({"level_db": np.zeros(20)}, [LEVEL], rate)


def speech(seed: int = 0, seconds: float = 3.0, rate: int = 16000) -> np.ndarray:
    draw = np.random.default_rng(seed)
    envelope = np.repeat(np.abs(draw.normal(size=int(seconds * 10))), rate // 10)
    return (0.05 * envelope * draw.normal(size=len(envelope))).astype(np.float32)


FOUND = {
    "segments": np.array([[0, 16000], [20000, 36000]]),
    "token_ids": np.array([[1, 2, 3, 4], [5, 6, -1, -1]]),
    "token_lengths": np.array([4, 2]),
}


def test_signals_are_those_that_are_declared_and_finite():
    found = signals_of(speech(), 16000, FOUND)
    assert list(found) == [signal.name for signal in SIGNALS]
    assert all(math.isfinite(value) for value in found.values())
    assert found["speech_share"] == pytest.approx(2 / 3)
    assert found["tokens_per_s"] == 3 and found["segments_per_minute"] == 40


@pytest.mark.parametrize(
    ("change", "name", "least"),
    [
        (lambda x: x * 0.1, "level_db", -19.0),
        (lambda x: np.clip(x, -0.05, 0.05), "peak_share", 0.01),
        (lambda x: x + 0.05, "dc_ratio", 0.1),
        (lambda x: x + 0.05 * np.sin(np.arange(len(x)) * 2 * np.pi * 50 / 16000), "low_band_db", 6),
        (
            lambda x: x * np.repeat(np.arange(len(x) // 1000 + 1) % 4 > 0, 1000)[: len(x)],
            "zero_share",
            0.02,
        ),
        (lambda x: np.where(np.arange(len(x)) == 5, np.nan, x), "nonfinite", 1.0),
    ],
)
def test_a_degradation_moves_its_signal(change, name: str, least: float):
    before = signals_of(speech(), 16000, FOUND)[name]
    after = signals_of(change(speech()).astype(np.float32), 16000, FOUND)[name]
    assert (after - before) * np.sign(least) >= abs(least)


@pytest.mark.parametrize("length", [1, 2, 511, 512, 1 << 20])
def test_any_recording_has_signals(length: int):
    for wave in (np.zeros(length, np.float32), np.full(length, np.nan, np.float32), speech()[:1]):
        found = signals_of(wave, 16000, {"segments": np.zeros((0, 2), np.int64)})
        assert all(math.isfinite(value) for value in found.values())


def test_a_loop_of_a_decoder_is_seen():
    ids = np.tile([7, 8], 20).reshape(1, -1)
    found = signals_of(speech(), 16000, {"token_ids": ids, "token_lengths": np.array([40])})
    assert found["repeated_share"] > 0.9
