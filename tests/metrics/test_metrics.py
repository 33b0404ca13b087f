"""Differences as people judge them, on inputs whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from exporter.metrics.embedding import cosine, equal_error, verify_pairs
from exporter.metrics.text import character_errors, no_errors, token_errors, word_errors
from exporter.metrics.waveform import heard, si_sdr_db


def test_errors_are_counted_and_shown_aligned():
    found = token_errors([1, 2, 3, 4], [1, 5, 4, 6])
    assert (found.count, found.length, found.rate) == (3, 4, 0.75)
    assert "REF:" in found.alignment and "HYP:" in found.alignment
    assert token_errors([1, 2], [1, 2]).alignment == ""


def test_of_nothing_expected_every_error_counts():
    assert token_errors([], [4, 5]).rate == 2.0
    assert token_errors([], []).rate == 0.0
    assert token_errors([4, 5], []).rate == 1.0


def test_words_and_characters():
    assert word_errors("good  morning", "good evening").rate == 0.5
    assert character_errors("你好吗", "你坏吗").count == 1


def test_errors_add_up():
    both = no_errors("token") + token_errors([1, 2], [1]) + token_errors([3], [4])
    assert (both.count, both.length) == (2, 3)


def sine(samples: int = 8000) -> np.ndarray:
    return np.sin(np.arange(samples) * 0.3)[None]


def test_a_louder_copy_is_the_same_sound_at_another_level():
    found = heard(sine(), 2 * sine(), 16000)
    assert found.level_db == pytest.approx(6.0206, abs=1e-4)
    assert found.si_sdr_db > 200 and found.max_error == pytest.approx(1, abs=1e-3)


def test_noise_is_heard_at_its_level():
    noise = np.random.default_rng(0).standard_normal(8000)
    wave = sine()[0]
    noise *= np.linalg.norm(wave) / np.linalg.norm(noise) * 10 ** (-20 / 20)
    assert si_sdr_db(wave, wave + noise) == pytest.approx(20, abs=0.3)
    assert heard(wave, wave + noise, 16000).log_spectral_distance_db > 1
    assert heard(wave, wave, 16000).log_spectral_distance_db == 0


def test_silence_is_not_measured():
    found = heard(np.zeros((1, 8000)), sine(), 16000)
    assert found.level_db is None and found.si_sdr_db is None
    assert si_sdr_db(sine()[0], np.zeros(8000)) == -math.inf


@pytest.mark.parametrize("actual", [sine()[:, :-1], sine() * np.nan, np.zeros((1, 0))])
def test_what_cannot_be_heard_is_refused(actual):
    with pytest.raises(ValueError, match="shapes|NaN"):
        heard(sine() if actual.size else actual, actual, 16000)


def test_cosines():
    assert cosine(np.array([1.0, 0]), np.array([0, 2.0])) == 0
    assert cosine(np.array([1.0, 2]), np.array([2.0, 4])) == pytest.approx(1)
    assert cosine(np.zeros(2), np.ones(2)) is None
    assert cosine(np.array([np.nan, 1]), np.ones(2)) is None


def test_equal_error_lies_where_both_kinds_are_wrong_alike():
    scores = np.array([0.9, 0.8, 0.4, 0.5, 0.2, 0.1])
    same = np.array([True, True, True, False, False, False])
    rate, threshold = equal_error(scores, same)
    assert rate == pytest.approx(1 / 3) and 0.4 < threshold < 0.5
    assert equal_error(scores, scores > 0.3)[0] == 0.0


def test_pairs_that_change_sides_are_counted():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((4, 8))
    labels = [f"s{n % 4}" for n in range(20)]
    rows = np.array([centres[n % 4] + 0.6 * rng.standard_normal(8) for n in range(20)])
    alike = verify_pairs(rows, rows * 3, labels)
    assert (alike.flipped, alike.pairs, alike.expected_eer) == (0, 190, alike.actual_eer)
    other = verify_pairs(rows, rows + 0.5 * rng.standard_normal(rows.shape), labels)
    assert other.flipped > 0 and other.nearest > 0


def test_without_pairs_of_both_kinds_there_is_no_equal_error():
    assert verify_pairs(np.eye(3), np.eye(3), ["a", "a", "a"]).expected_eer is None
