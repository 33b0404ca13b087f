"""What one utterance of a manifest is worth: the worst of its deployments, results and calls."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from exporter.config.load_system import load_system
from exporter.config.system import Judged
from exporter.core.errors import UserInputError
from exporter.core.tensors import Case
from exporter.drivers import Decider, Outcome
from exporter.flows import manifest_workers
from exporter.parity.status import Status
from exporter.parity.tolerance import Policy
from exporter.report.system import CallsRecord, ResultRecord, stated
from exporter.report.system_verdict import allowed
from exporter.systems import judge_case
from exporter.systems.calls import judged_arrays
from exporter.systems.judge_case import JudgedCase, quick_case, result_of
from exporter.systems.run_manifest import differs_alone, verdict_of
from tests.config.test_load_system import written

CASE = Case(name="one", inputs={}, origin="a test")
SCORES = np.array([[0.5, 2.0]], np.float32)
IDS = np.array([3, 4])


def judged(results: list[Status], calls: list[Status]) -> JudgedCase:
    return JudgedCase(
        results=tuple(
            ResultRecord(
                case="one",
                deployment=str(number),
                verdict=stated(status),
                tokens=[1, 2],
                onnx_tokens=[1, 2] if status is Status.PASS else [1, 3],
            )
            for number, status in enumerate(results)
        ),
        calls=tuple(
            CallsRecord(
                case="one",
                graph="g",
                output="y",
                link="l",
                calls=1,
                verdict=stated(status),
                layer="",
            )
            for status in calls
        ),
        counts={"g": 1},
    )


@pytest.mark.parametrize(
    ("results", "calls", "status"),
    [
        ([Status.PASS], [Status.PASS], Status.PASS),
        ([Status.PASS, Status.FAIL], [Status.PASS], Status.FAIL),
        ([Status.PASS], [Status.AMBIGUOUS, Status.FAIL], Status.FAIL),
        ([Status.AMBIGUOUS], [Status.FAIL], Status.FAIL),
        ([Status.AMBIGUOUS], [Status.PASS], Status.AMBIGUOUS),
        ([Status.EMPTY_AS_DECLARED], [Status.PASS], Status.EMPTY_AS_DECLARED),
    ],
)
def test_the_worst_of_all_deployments_and_calls_counts(results, calls, status):
    assert verdict_of(judged(results, calls))[0] is status


def test_a_call_that_fails_by_itself_is_no_matter_of_an_error_rate():
    assert differs_alone(judged([Status.FAIL], [Status.PASS]))
    assert not differs_alone(judged([Status.FAIL], [Status.FAIL]))
    assert not differs_alone(judged([Status.PASS], [Status.PASS]))


def outcome(**more) -> Outcome:
    return Outcome(tokens=(1, 2), arrays={"second.y": SCORES, "second.ids": IDS, **more})


@pytest.mark.parametrize(
    ("actuals", "quick"),
    [
        ([outcome()], True),
        ([outcome(), outcome()], True),
        ([outcome(), Outcome(tokens=(1, 3), arrays=outcome().arrays)], False),
        ([outcome(**{"second.y": SCORES * np.float32("nan")})], False),
        ([outcome(**{"second.y": SCORES[:, :1]})], False),
        ([outcome(**{"second.ids": IDS + 1})], False),
    ],
)
def test_equal_tokens_pass_quickly_where_all_that_comes_out_can_be_right(
    tmp_path, monkeypatch, actuals, quick
):
    monkeypatch.setattr(judge_case, "eager_side", lambda graphs: outcome())
    monkeypatch.setattr(judge_case, "onnx_side", lambda graphs, session: session)
    bench: Any = SimpleNamespace(
        system=load_system(written(tmp_path)),
        graphs={},
        sessions={str(number): held for number, held in enumerate(actuals)},
        drive=lambda side, case, decider: side,
    )
    assert quick_case(bench, CASE) == ((1, 2) if quick else None)


LIMITS: Any = SimpleNamespace(max_token_error_rate=0.2)


def graphs(**policies: Policy) -> Any:
    return {name: SimpleNamespace(policy=policy) for name, policy in policies.items()}


def test_an_output_is_judged_as_its_own_graph_says():
    strict, loose = Policy(), Policy(factor=1e6)
    off = {"last.y": SCORES * np.float32(1.001)}
    for order in (("last", "first"), ("first", "last")):
        held = graphs(**{name: strict if name == "last" else loose for name in order})
        found = judged_arrays({"last.y": SCORES}, {"last.y": SCORES}, off, held, ())
        assert found["last.y"].status is Status.FAIL


@pytest.mark.parametrize(
    ("actual", "decided"),
    [
        ({"first.ids": IDS + 1}, True),
        ({"first.ids": IDS[:1]}, True),
        ({"first.y": SCORES[:, :1]}, True),
        ({"first.y": SCORES * np.float32("nan")}, False),
        ({"first.y": SCORES + 1}, False),
    ],
)
def test_only_what_a_decision_can_make_may_be_excused_by_one(tmp_path, actual, decided):
    arrays = {"first.y": SCORES, "first.ids": IDS}
    bench: Any = SimpleNamespace(
        system=load_system(written(tmp_path)), graphs=graphs(first=Policy()), decode=None
    )
    sides = Outcome(arrays=arrays), Outcome(arrays={**arrays, **actual}), arrays
    found, of_decisions = result_of(bench, CASE, "cpu", {}, sides, Decider())
    assert (found.verdict.verdict, of_decisions) == ("fail", decided)


@pytest.mark.parametrize(
    ("section", "declared", "beside"),
    [
        ({}, (), False),
        ({"embeddings": {"output": "y"}}, (), True),
        ({"waveforms": {"outputs": ["y"], "min_si_sdr_db": 40.0}}, (), True),
        ({}, ("tokens",), True),
    ],
)
def test_an_error_rate_of_tokens_allows_nothing_but_tokens(tmp_path, section, declared, beside):
    """Tokens differ in all of these; in some a sound, an embedding or a silence fails as well."""
    system = load_system(written(tmp_path))
    system = system.model_copy(update={"judge": Judged.model_validate(section)})
    bench: Any = SimpleNamespace(
        system=system,
        graphs=graphs(first=Policy(factor=1e9)),
        decode=None,
        drive=lambda side, case, decider: side["only"],
    )
    arrays = {"first.y": np.array([[1.0, 0.5]], np.float32)}
    off = {"first.y": arrays["first.y"] + np.array([[0.0, 0.1]], np.float32)}
    case = Case(name="one", inputs={}, origin="a test", expect_empty=declared)
    expected = Outcome(tokens=() if declared else (1, 2), arrays=arrays)
    actual: Any = Outcome(tokens=(1, 3), arrays=off)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(judge_case, "float32_side", lambda graphs: {})
        patched.setattr(judge_case, "float64_side", lambda graphs: {})
        found, _ = result_of(
            bench, case, "cpu", {"only": actual}, (expected, actual, arrays), Decider()
        )
    assert (found.verdict.verdict, found.fails_beside_tokens) == ("fail", beside)
    found = found.model_copy(update={"outputs": {}})  # the numbers by themselves are right
    whole = JudgedCase(results=(found,), calls=(), counts={})
    assert differs_alone(whole) is not beside
    assert (allowed(found, 0.1, LIMITS) is found) is beside


def test_a_process_that_is_ended_within_a_line_is_told_by_its_signal(monkeypatch):
    half = "import os; os.write(1, b'{\"number\": 1'); os.kill(os.getpid(), 9)"
    monkeypatch.setattr(manifest_workers, "_CODE", half)
    job: Any = None
    with pytest.raises(UserInputError, match="ended by signal 9"):
        list(manifest_workers.rows_elsewhere(job, 1, {}))
