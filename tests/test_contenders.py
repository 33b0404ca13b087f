"""Contenders are processes that run in turn; their rows are medians, their answers are compared."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from exporter.speech.cmvn import seeded_cmvn
from tests.support.funasr_checkpoint import am_mvn_text, token_table
from tests.support.segment_toys import loud, toy_file

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


def worker(name: str, seconds: list[float], **found: Any) -> Any:
    return SimpleNamespace(name=name, seconds=seconds, peak_mb=12.34, loaded_s=0.5, found=found)


def test_rows_are_medians_over_the_first_contender():
    from contenders import markdown, rows

    found = rows([worker("a", [3.0, 1.0, 2.0]), worker("b", [5.0, 9.0, 1.0])], 10.0, 2)
    assert [row["median_s"] for row in found] == [2.0, 5.0]
    assert [row["times_as_long"] for row in found] == [1.0, 2.5]
    assert found[1]["real_time_factor"] == 0.5 and found[1]["all_s"] == [5.0, 9.0, 1.0]
    assert "| second | 10 | 2 | 5 | 0.5 | 2.5 | 12 |" in markdown(
        found, {"a": "first", "b": "second"}
    )


def test_everybody_runs_once_in_every_round_and_the_first_is_not_measured():
    from contenders import rounds

    said: list[tuple[str, str, bool]] = []

    def run(path: Path, measured: bool, name: str) -> None:
        said.append((name, path.name, measured))

    crew: Any = [SimpleNamespace(run=partial(run, name=name)) for name in "ab"]
    rounds(crew, Path("long"), 2, Path("short"))
    assert said == [
        *(("a", "short", False), ("b", "short", False)),
        *(("a", "long", True), ("b", "long", True)) * 2,
    ]


def test_a_contender_runs_in_a_process_of_its_own(tmp_path: Path):
    from contenders import rounds, started

    np.save(tmp_path / "audio.npy", loud(1, 5))
    settings = {"model": str(toy_file(tmp_path)), "threads": 1}
    with started(["vad"], settings, tmp_path) as workers:
        rounds(workers, tmp_path / "audio.npy", 2)
        (found,) = workers
    assert found.found["segments"] == [[4, 8], [20, 24]]
    assert len(found.seconds) == 2 and min(found.seconds) > 0
    assert found.peak_mb > 20
    assert found.process.poll() is not None


def test_a_contender_that_ends_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    from contenders import started

    settings = {"model": str(tmp_path / "none.onnx"), "threads": 1}
    with pytest.raises(RuntimeError, match="vad ended"), started(["vad"], settings, tmp_path):
        pass
    assert "no such ONNX file" in capfd.readouterr().err


@pytest.mark.parametrize("said", [[[1, 2], [4]], [[1, 2]], []])
def test_other_tokens_are_not_reported(said: list[list[int]]):
    from bench_e2e import _check_equal

    ours = worker("runner", [], tokens=[[1, 2], [3]])
    _check_equal([ours, worker("same", [], tokens=[[1, 2], [3]])])
    with pytest.raises(SystemExit, match="tokens differ"):
        _check_equal([ours, worker("other", [], tokens=said)])


def test_nothing_found_is_no_agreement():
    from bench_e2e import _check_equal

    with pytest.raises(SystemExit, match="segments differ"):
        _check_equal([worker("vad", [], segments=[]), worker("loop", [], segments=[])])


def test_the_minute_is_cut_or_repeated(tmp_path: Path):
    from bench_e2e import save_audio

    minute = np.arange(8, dtype=np.float32)
    assert np.load(save_audio(minute, 1.5, 2, tmp_path)).tolist() == [0, 1, 2]
    assert np.load(save_audio(minute, 5, 2, tmp_path)).tolist() == [*range(8), 0, 1]


def test_other_packages_tokens_are_compared_token_by_token():
    from bench_other_runtimes import _compared

    ours = worker("runner", [], tokens=[[9, 9, 9, 9, 1, 2], [9, 9, 9, 9, 3]])
    assert _compared(ours, ours) == "all 11 tokens equal"
    assert _compared(ours, worker("sherpa_onnx", [], tokens=[[1, 2], [3]])) == (
        "all 3 tokens equal, but for the first 4 of each segment, which it leaves out"
    )
    other = worker("funasr_onnx", [], tokens=[[9, 9, 9, 9, 1], [9, 9, 9, 9, 3]])
    assert _compared(ours, other) == "1 edits in 11 tokens"


def test_text_of_a_tokenizer_is_turned_back_into_ids(tmp_path: Path):
    spm = pytest.importorskip("sentencepiece")
    from other_formats import ids_of_letters, write_bpe_model

    path = write_bpe_model(tmp_path, token_table(50))
    text = spm.SentencePieceProcessor(model_file=str(path)).decode([3, 0, 49, 48])
    assert ids_of_letters(text, 50) == [3, 0, 49, 48]


def test_metadata_is_appended_and_data_comes_along(tmp_path: Path):
    from other_formats import write_sherpa_files

    exported = toy_file(tmp_path, metadata=False)
    (tmp_path / "model.onnx.data").write_bytes(b"weights")
    shift, scale = seeded_cmvn(560, 0)
    (tmp_path / "am.mvn").write_text(am_mvn_text(shift, scale))
    folder = write_sherpa_files(exported, tmp_path / "am.mvn", token_table(3))
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    assert model.graph == onnx.load(exported).graph
    found = {item.key: item.value for item in model.metadata_props}
    assert found["vocab_size"] == "3" and found["lang_en"] == "4"
    assert json.loads(f"[{found['neg_mean']}]") == pytest.approx(shift.tolist())
    assert json.loads(f"[{found['inv_stddev']}]") == pytest.approx(scale.tolist())
    assert (folder / "model.onnx.data").read_bytes() == b"weights"
    assert (folder / "tokens.txt").read_text(encoding="utf-8").splitlines()[2] == "<unk> 2"


def test_the_cost_of_a_batch_is_what_two_times_say():
    from bench_batch_cost import batch_cost

    cost, per_second, padded, spoken, rows = 0.2, 0.1, 62.0, 46.0, 17
    one, each = cost + per_second * padded, rows * cost + per_second * spoken
    assert batch_cost(one, each, padded, spoken, rows) == pytest.approx(2.0)
