"""Results of a manifest: kept row by row, taken up after a kill, summed up without a lie."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.cases.manifest import read_manifest
from exporter.config.load_system import load_system
from exporter.core.tensors import Case
from exporter.systems.manifest_rows import ROWS, Row, Rows
from exporter.systems.manifest_summary import duration_bucket, summary_of
from exporter.systems.run_manifest import key_of
from tests.config.test_load_system import written

ORIGIN = {"manifest": "a", "system": "b"}


def row(number: int, verdict: str = "pass", **more) -> Row:
    given = {"reason": "", "token_errors": [0, 10], "seconds": 1.5, **more}
    return Row(number=number, key=str(number), name=f"u{number}", verdict=verdict, **given)


@pytest.fixture
def system(tmp_path):
    return load_system(written(tmp_path))


def summed(tmp_path, system, rows, total=None):
    held = Rows(tmp_path, ORIGIN)
    for each in rows:
        held.add(each)
    return summary_of(system, tmp_path / "m.jsonl", held, len(rows) if total is None else total)


def test_results_whose_first_line_is_none_are_begun_anew(tmp_path):
    for text in ("{", "[" * 100_000 + "\n", "null\n"):
        (tmp_path / ROWS).write_text(text)
        assert Rows(tmp_path, ORIGIN).done == {}


def test_results_are_taken_up(tmp_path):
    first = Rows(tmp_path, ORIGIN)
    for number in (1, 2, 3):
        first.add(row(number))
    assert Rows(tmp_path, ORIGIN).done == {1: "1", 2: "2", 3: "3"}


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_half_a_line_is_run_again(tmp_path, cut):
    first = Rows(tmp_path, ORIGIN)
    for number in (1, 2, 3):
        first.add(row(number))
    path = tmp_path / ROWS
    path.write_bytes(path.read_bytes()[:-cut])
    again = Rows(tmp_path, ORIGIN)
    assert set(again.done) == {1, 2} and again.taken_up == 2
    again.add(row(3))
    assert [held.number for held in again] == [1, 2, 3]


def test_what_was_not_run_is_tried_again(tmp_path):
    first = Rows(tmp_path, ORIGIN)
    for each in (row(1), row(2, "not run"), row(3, "fail")):
        first.add(each)
    assert set(Rows(tmp_path, ORIGIN).done) == {1, 3}


def test_results_of_something_else_are_not(tmp_path):
    Rows(tmp_path, ORIGIN).add(row(1))
    assert not Rows(tmp_path, {**ORIGIN, "system": "another"}).done


def test_all_passes_pass(tmp_path, system):
    found = summed(tmp_path, system, [row(n, tags={"room": "hall"}) for n in range(1, 5)])
    assert found.verdict.verdict == "pass"
    assert {bucket.name: bucket.utterances for bucket in found.buckets} == {
        "duration 1-2 s": 4,
        "room=hall": 4,
    }


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        ([row(1), row(2, "fail")], "fail"),
        ([row(1), row(2, "not run")], "not run"),
        ([row(1), row(2, "ambiguous")], "ambiguous"),
        ([row(1), row(2, "who knows")], "fail"),
        ([row(1), row(2, "empty as declared")], "pass"),
        ([row(1, "empty as declared")], "not run"),
        ([], "not run"),
    ],
)
def test_what_is_not_green_stays_so(tmp_path, system, rows, verdict):
    assert summed(tmp_path, system, rows).verdict.verdict == verdict


def test_what_was_not_run_does_not_pass(tmp_path, system):
    assert summed(tmp_path, system, [row(1)], total=2).verdict.verdict == "not run"


def test_a_declared_rate_lets_tokens_differ_and_nothing_else(tmp_path, system):
    judge = system.judge.model_copy(update={"max_token_error_rate": 0.1})
    allowing = system.model_copy(update={"judge": judge})
    good = [row(n) for n in range(1, 20)]
    differs = row(20, "fail", token_errors=[1, 10], differs=True)
    assert summed(tmp_path / "..", system, [*good, differs]).verdict.verdict == "fail"
    (tmp_path / "a").mkdir()
    assert summed(tmp_path / "a", allowing, [*good, differs]).verdict.verdict == "pass"
    (tmp_path / "b").mkdir()
    stopped = row(21, "fail", token_errors=[0, 0])
    assert summed(tmp_path / "b", allowing, [*good, differs, stopped]).verdict.verdict == "fail"
    (tmp_path / "c").mkdir()
    many = [row(n, "fail", token_errors=[5, 10], differs=True) for n in range(1, 9)]
    assert summed(tmp_path / "c", allowing, many).verdict.verdict == "fail"


def test_embeddings_that_were_asked_for_and_not_measured_are_not_green(tmp_path, system):
    asked = type(system.judge).model_validate({"embeddings": {"output": "y"}})
    asking = system.model_copy(update={"judge": asked})
    assert summed(tmp_path, asking, [row(1), row(2)]).verdict.verdict == "not run"
    (tmp_path / "b").mkdir()
    pairs = [
        row(n, tags={"speaker": f"s{n % 2}"}, embedding=[1.0, n % 2], onnx_embedding=[1.0, n % 2])
        for n in range(1, 7)
    ]
    found = summed(tmp_path / "b", asking, pairs)
    assert (found.verdict.verdict, found.pairs.pairs, found.pairs.expected_eer) == ("pass", 15, 0.0)
    (tmp_path / "c").mkdir()
    turned = [each.model_copy(update={"onnx_embedding": [1.0, 0.0]}) for each in pairs]
    found = summed(tmp_path / "c", asking, turned)
    assert found.verdict.verdict == "fail" and found.pairs.flipped > 0


def test_durations_have_buckets():
    assert [duration_bucket(s) for s in (0.2, 1.0, 4.9, 59, 60)] == [
        "duration 0-1 s",
        "duration 1-2 s",
        "duration 2-5 s",
        "duration 20-60 s",
        "duration 60 s and more",
    ]


def test_another_recording_under_the_same_name_replaces_its_result(tmp_path, system):
    first = Rows(tmp_path, ORIGIN)
    for number in (1, 2):
        first.add(row(number))
    again = Rows(tmp_path, ORIGIN)
    assert again.taken_up == 2
    again.add(row(2, "fail").model_copy(update={"key": "of another recording"}))
    assert [(held.number, held.verdict) for held in again] == [(1, "pass"), (2, "fail")]
    assert again.taken_up == 1


def test_what_goes_in_is_part_of_what_a_result_is_of(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"audio": "a.wav"}')
    (line,) = read_manifest(tmp_path / "m.jsonl")
    keys = [
        key_of(line, Case(name="u", inputs={"x": np.array(value)}, origin="a test"))
        for value in ([1.0], [1.0], [2.0], [[1.0]])
    ]
    assert keys[0] == keys[1] and len(set(keys)) == 3


def test_embeddings_of_several_sizes_are_not_measured(tmp_path, system):
    asked = type(system.judge).model_validate({"embeddings": {"output": "y"}})
    asking = system.model_copy(update={"judge": asked})
    rows = [
        row(n, tags={"speaker": "s"}, embedding=[1.0] * n, onnx_embedding=[1.0] * n) for n in (1, 2)
    ]
    found = summed(tmp_path, asking, rows)
    assert found.verdict.verdict == "not run" and "2 sizes" in found.verdict.reason
