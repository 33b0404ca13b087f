"""A sample that is labelled low margins first gives the rate of all recordings, at all times."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from exporter.cli import main
from exporter.core.errors import UserInputError
from exporter.flows.labelling import offer
from exporter.monitor.betting import Stratum, bounds_of, rate_of_strata
from exporter.monitor.kept import LOW, OTHER, kept_in, key_of, request_of
from exporter.monitor.log import read_log
from exporter.monitor.shadow import DOOR, SAME, JudgedRequest, Worker, read_state
from exporter.monitor.spool import AGAIN, RESULTS, Spool, requests_in, take
from exporter.monitor.words import error_rate
from tests.monitor.toy import served_file
from tests.test_runtime import said_of

MOST = 30


def population(draw: np.random.Generator, count: int, rate: float) -> list[tuple[int, int]]:
    return [(int(draw.binomial(w, rate)), int(w)) for w in draw.integers(1, MOST, size=count)]


def strata(*held: tuple[list[tuple[int, int]], int]) -> list[Stratum]:
    """Of each a population and how many of it are labelled."""
    return [
        Stratum(name=name, recordings=len(rows), counts=rows[:labelled])
        for (rows, labelled), name in zip(held, (LOW, OTHER), strict=False)
    ]


def true_rate(*populations: list[tuple[int, int]]) -> float:
    rows = np.concatenate(populations)
    return rows[:, 0].sum() / rows[:, 1].sum()


def test_the_rate_is_inside_whichever_stratum_is_labelled_first():
    draw, out, biased = np.random.default_rng(0), 0, 0
    for _ in range(20):
        low, other = population(draw, 40, 0.5), population(draw, 160, 0.05)
        rate, left = true_rate(low, other), False
        for labelled in ((10, 0), (40, 0), (40, 20), (40, 60)):
            found = strata((low, labelled[0]), (other, labelled[1]))
            lowest, highest = bounds_of(found, MOST)
            left |= not lowest <= rate <= highest
        out += left
        assert rate_of_strata(found) == pytest.approx(rate, abs=0.05)
        assert highest - lowest < 0.3
        biased += true_rate(low) > highest
    assert out <= 1
    assert biased == 20, "low margins alone say something else"


def test_a_stratum_without_labels_leaves_the_rate_open():
    low = population(np.random.default_rng(1), 20, 0.5)
    found = strata((low, 20), ([(0, 1)] * 80, 0))
    assert rate_of_strata(found) is None
    assert bounds_of(found, MOST)[1] > 0.9


def test_a_frame_that_is_labelled_whole_is_known():
    draw = np.random.default_rng(2)
    low, other = population(draw, 5, 0.5), population(draw, 15, 0.1)
    found = strata((low, 5), (other, 15))
    assert bounds_of(found, MOST) == pytest.approx((true_rate(low, other),) * 2)


def test_more_labels_say_more():
    draw = np.random.default_rng(3)
    low, other = population(draw, 40, 0.3), population(draw, 400, 0.05)
    widths = []
    for labelled in (10, 100, 300):
        lowest, highest = bounds_of(strata((low, 40), (other, labelled)), MOST)
        widths.append(highest - lowest)
    assert widths == sorted(widths, reverse=True) and widths[-1] < widths[0] / 2


def line(stratum: str, rank: int, reference: str | None, **more: object) -> dict:
    sizes = {LOW: 2, OTHER: 8}
    held = {"stratum": stratum, "rank": rank, "recordings": sizes[stratum], "frame": 10}
    return held | {"longest_s": 2.0, "hypothesis": "a b", "reference": reference} | more


def labels(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_weights_are_those_of_the_frame_and_gaps_end_a_stratum(tmp_path: Path):
    rows = [
        line(LOW, 0, "a c"),  # 1 of 2 words
        line(LOW, 1, None),
        line(OTHER, 0, "a b"),
        line(OTHER, 1, "a b"),
        line(OTHER, 2, None),
        line(OTHER, 3, "x y"),
    ]
    found = error_rate(labels(tmp_path / "l.jsonl", *rows))
    # Two of ten with a rate of a half, eight without an error; not 1 of 6 words.
    assert found.rate == pytest.approx(0.1)
    assert found.low <= 0.1 <= found.high and found.skipped == 1
    assert "of 10 recordings, weighted" in found.sentence()
    assert error_rate(tmp_path / "l.jsonl", "character").unit == "character"


@pytest.mark.parametrize(
    "rows",
    [
        [line(OTHER, 0, "a b")],  # the low margins were taken out
        [line(LOW, 0, "a b"), {"stratum": "random", "hypothesis": "a", "reference": "a"}],
        [line(LOW, 0, "a"), line(OTHER, 0, "a", frame=11)],
        [line(LOW, 0, "a"), line(LOW, 0, "a"), line(OTHER, 0, "a")],
        [line(LOW, 2, "a"), line(OTHER, 0, "a")],
        [line(LOW, 0, "a", hypothesis=None), line(OTHER, 0, "a")],
        [line(LOW, 0, "a", longest_s=0), line(OTHER, 0, "a")],
        [line(LOW, 0, "a", recordings=True), line(OTHER, 0, "a")],
        [line(LOW, 0, None), line(OTHER, 0, None)],
    ],
)
def test_lines_that_are_no_sample_are_refused(rows: list[dict], tmp_path: Path):
    with pytest.raises(UserInputError, match="not labels"):
        error_rate(labels(tmp_path / "l.jsonl", *rows))


def served_in(folder: Path) -> Path:
    folder.mkdir()
    return served_file(folder)


def judged(margins: dict[str, float]):
    return lambda request: JudgedRequest(state=SAME, margin=margins.get(request.name))


def fill(spool: Spool, count: int, draw: np.random.Generator) -> dict[str, float]:
    inputs = {"waveform": np.full(320, 0.25, np.float32)}
    outputs = {"token_ids": np.array([[0, 1, -1]]), "token_lengths": np.array([2])}
    return {spool.add(inputs, outputs): float(draw.random()) for _ in range(count)}


def test_what_is_kept_is_a_sample_by_chance_of_each_stratum(tmp_path: Path):
    spool, draw = Spool(tmp_path), np.random.default_rng(0)
    for keep in (4, 9):  # of what had to go before nothing is made up for
        margins = fill(spool, 60, draw)
        Worker(tmp_path, judged(margins), keep=keep).work(once=True)
        state = read_state(tmp_path)
        assert state is not None
        frame, rows = state["frame"], list(read_log(tmp_path / RESULTS, DOOR))
        for stratum in (LOW, OTHER):
            names = [row["id"] for row in rows if row["stratum"] == stratum]
            assert frame["recordings"][stratum] == len(names) > 4
            held = [request_of(path) for path in kept_in(tmp_path / "kept", frame, stratum)]
            assert held == sorted(names, key=key_of)[: len(held)] and len(held) <= keep
        # As a worker leaves one that is ended between the bound and the file.
        (tmp_path / "kept" / f"b-{'f' * 16}-1-1-1.npz").touch(0o600)
        assert len(kept_in(tmp_path / "kept", frame, OTHER)) == len(held)
    Worker(tmp_path, judged({}), keep=9).work(once=True)
    assert not list((tmp_path / "kept").glob("b-ffff*"))
    assert sum(frame["recordings"].values()) == 120 and frame["longest"] == 320
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "kept").iterdir()} == {0o600}
    low = [row["margin"] for row in rows if row["stratum"] == LOW]
    assert np.mean(low) < 0.3


@pytest.mark.parametrize("rate", ["", "²", "0", "9" * 5000])
def test_a_copy_that_says_no_rate_is_refused(rate: str, tmp_path: Path):
    served = said_of(served_in(tmp_path / "toy"), sample_rate_hz=rate)
    with pytest.raises(UserInputError, match="sample rate"):
        offer(tmp_path, tmp_path / "labelling", onnx=served)


def test_nothing_is_kept_unless_it_is_asked_for(tmp_path: Path):
    fill(Spool(tmp_path), 3, np.random.default_rng(0))
    Worker(tmp_path, judged({})).work(once=True)
    assert not (tmp_path / "kept").exists()
    with pytest.raises(UserInputError, match="no request was kept"):
        offer(tmp_path, tmp_path / "labelling", onnx=served_in(tmp_path / "toy"))


@pytest.mark.parametrize("step", ["_count", "_settle"])
def test_a_worker_that_is_killed_loses_nothing_of_the_sample(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Killed(BaseException):
        pass

    def dies(*given: object) -> None:
        raise Killed

    fill(Spool(tmp_path), 1, np.random.default_rng(0))
    worker = Worker(tmp_path, judged({}), keep=5)
    worker._recover()
    monkeypatch.setattr(worker, step, dies)
    with pytest.raises(Killed):
        worker._one(take(requests_in(tmp_path)[0]))
    Worker(tmp_path, judged({}), keep=5).work(once=True)
    state = read_state(tmp_path)
    assert state is not None and state["frame"]["recordings"] == {LOW: 0, OTHER: 1}
    assert len(kept_in(tmp_path / "kept", state["frame"], OTHER)) == 1
    assert not requests_in(tmp_path, AGAIN)


def test_a_sample_goes_out_to_be_labelled_and_comes_back_as_a_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    spool, folder = tmp_path / "spool", tmp_path / "labelling"
    served = served_in(tmp_path / "run")
    (tmp_path / "run" / "tokens.json").write_text('["▁good", "▁morning"]')
    margins = fill(Spool(spool), 40, np.random.default_rng(0))
    Worker(spool, judged(margins), keep=5).work(once=True)
    words = ["monitor", "sample", str(spool), "--onnx", str(served), "--output", str(folder)]
    assert main(words) == 0
    assert main(words) == 2, "labels that lie there are not written over"
    rows = [json.loads(text) for text in (folder / "labels.jsonl").read_text().splitlines()]
    assert [row["stratum"] for row in rows] == [LOW] * (len(rows) - 5) + [OTHER] * 5
    assert {row["hypothesis"] for row in rows} == {"good morning"}
    assert {row["frame"] for row in rows} == {40}
    with wave.open(str(folder / rows[0]["audio"])) as sound:
        assert (sound.getframerate(), sound.getnframes()) == (16000, 320)
        assert sound.readframes(1) == np.array(0.25 * 32767).round().astype("<i2").tobytes()
    for row in rows:
        row["reference"] = "good evening" if row["stratum"] == LOW else "good morning"
    labels(folder / "labels.jsonl", *rows)
    again = [*words[:-1], str(tmp_path / "again"), "--labels", str(folder / "labels.jsonl")]
    assert main(again) == 0
    text = (tmp_path / "again" / "labels.jsonl").read_text()
    assert [json.loads(one)["reference"] for one in text.splitlines()] == [
        row["reference"] for row in rows
    ]
    capsys.readouterr()
    log, page = spool / RESULTS, tmp_path / "page.html"
    given = ["--labels", str(folder / "labels.jsonl"), "--output", str(page)]
    assert main(["monitor", "report", str(log), *given]) == 0
    low = next(row["recordings"] for row in rows if row["stratum"] == LOW)
    assert f"word error rate: {100 * 0.5 * low / 40:.1f} %" in capsys.readouterr().out
