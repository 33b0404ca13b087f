"""CTC decoding against torch's own sum over all alignments, and against a library's search."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from exporter.config.driver import Ctc
from exporter.core.errors import ConfigError
from exporter.drivers import Decider, DriverStoppedError
from exporter.drivers.ctc import drive
from tests.support.graphs import graph, spec


def graphs_of(scores: np.ndarray, length: int | None = None):
    outputs = ["scores"] if length is None else ["scores", "lengths"]
    found = [scores[None]] if length is None else [scores[None], np.array([length])]
    return {"encoder": graph("encoder", [spec("x", "float32", "n")], outputs, lambda x: found)}


def run(scores: np.ndarray, length: int | None = None, **more):
    config = Ctc.model_validate({"kind": "ctc", "scores": "scores", **more})
    case = {"x": np.zeros(1, np.float32)}
    return drive(config, graphs_of(scores, length), case, Decider())


def likeliest(scores: np.ndarray) -> tuple[tuple[int, ...], float]:
    """The best of all hypotheses, each with the sum over all of its alignments."""
    logs = torch.log_softmax(torch.from_numpy(scores).double(), dim=-1)[:, None]
    frames, vocabulary = scores.shape
    found = {}
    for count in range(frames + 1):
        for said in itertools.product(range(1, vocabulary), repeat=count):
            loss = torch.nn.functional.ctc_loss(
                logs,
                torch.tensor([said], dtype=torch.long).reshape(1, count),
                torch.tensor([frames]),
                torch.tensor([count]),
                reduction="sum",
            )
            found[said] = -float(loss)
    best = max(found, key=lambda said: found[said])
    return best, found[best]


@pytest.mark.parametrize("seed", range(6))
def test_a_wide_beam_finds_the_likeliest_of_all_hypotheses(seed):
    scores = np.random.default_rng(seed).standard_normal((5, 4)).astype(np.float32)
    found = run(scores, beams=256)
    said, score = likeliest(scores)
    assert found.tokens == said
    assert found.score == pytest.approx(score, abs=1e-12)


def by_library(scores: np.ndarray, beams: int) -> tuple[tuple[int, ...], float]:
    """The likeliest of pyctcdecode and its log probability, with nothing pruned but by beams."""
    from pyctcdecode.decoder import build_ctcdecoder

    letters = "abc"
    decoder = build_ctcdecoder(["", *letters])
    logs = torch.log_softmax(torch.from_numpy(scores).double(), dim=-1).numpy()
    none = {"beam_prune_logp": -1e9, "token_min_logp": -1e9, "prune_history": False}
    best = decoder.decode_beams(logs, beam_width=beams, **none)[0]
    return tuple(1 + letters.index(letter) for letter in best[0]), best[-1]


# A beam of the library is a text and its last frame, ours is a text: the same beams where they hold
# all there are, and in effect where scores are as peaked as a trained model's.
@pytest.mark.parametrize(("frames", "peak", "near"), [(5, 1, 1e-12), (9, 3, 1e-3)])
@pytest.mark.parametrize("seed", range(8))
def test_a_wide_beam_finds_what_a_librarys_does(seed, frames, peak, near):
    scores = np.random.default_rng(seed).standard_normal((frames, 4)).astype(np.float32) * peak
    said, score = by_library(scores, 256)
    found = run(scores, beams=256)
    assert said and found.tokens == said
    assert found.score == pytest.approx(score, abs=near)


def test_greedy_collapses_repeats_and_drops_blanks():
    path = [0, 3, 3, 0, 3, 1, 1, 0, 2]
    scores = np.eye(4, dtype=np.float32)[path] * 9
    assert run(scores).tokens == (3, 3, 1, 2)
    assert run(scores, beams=4).tokens == (3, 3, 1, 2)
    assert run(scores, blank=3).tokens == (0, 0, 1, 0, 2)


def test_a_beam_is_not_greedy_where_alignments_add_up():
    # 0.4 blank, 0.3 + 0.3 of two tokens in both frames: greedy says nothing, the sums say 'a'.
    scores = np.log(np.array([[0.4, 0.35, 0.25]] * 2, np.float32))
    assert run(scores).tokens == ()
    assert run(scores, beams=8).tokens == (1,)


def test_frames_beyond_the_length_do_not_count():
    scores = np.eye(4, dtype=np.float32)[[1, 2, 3, 1]] * 9
    assert run(scores, 2, lengths="lengths").tokens == (1, 2)


@pytest.mark.parametrize("length", [-1, 5, float("nan"), float("inf")])
def test_a_length_that_cannot_be_stops(length):
    with pytest.raises(DriverStoppedError, match="for 4 frames"):
        run(np.zeros((4, 4), np.float32), length, lengths="lengths")


@pytest.mark.parametrize("beams", [1, 3])
def test_nan_stops(beams):
    scores = np.zeros((3, 4), np.float32)
    scores[1, 2] = np.nan
    with pytest.raises(DriverStoppedError, match="NaN"):
        run(scores, beams=beams)


@pytest.mark.parametrize("beams", [1, 4])
def test_a_blank_that_has_no_score_is_the_users(beams):
    with pytest.raises(ConfigError, match="no token 4"):
        run(np.zeros((9, 4), np.float32), blank=4, beams=beams)
