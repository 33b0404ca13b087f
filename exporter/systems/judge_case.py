"""One case of a system: both sides driven, every call judged, what comes out judged as it is read.

float32 PyTorch, call by call beside ONNX   ->  which graph is wrong by itself, at which call
ONNX on its own values                      ->  tokens, text, sound: what a user gets
float64 PyTorch                             ->  the truth of what comes out as numbers
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from exporter.build.artifacts import Artifacts
from exporter.build.build import users_code
from exporter.config.system import System, Waveforms
from exporter.core.errors import ExportVerifyError
from exporter.core.stages import Stages
from exporter.core.tensors import Arrays, Case
from exporter.drivers import DRIVERS, Decider, DriverStoppedError, Graph, Outcome
from exporter.metrics.embedding import cosine
from exporter.metrics.text import Errors, character_errors, token_errors, word_errors
from exporter.metrics.waveform import heard
from exporter.parity.status import Status, Who, is_failing, is_good, severity, status_of, worst
from exporter.parity.verdict_record import Verdict
from exporter.report.comparison import VerdictRecord
from exporter.report.system import (
    CallsRecord,
    DifferenceRecord,
    ErrorsRecord,
    HeardRecord,
    ResultRecord,
    stated,
)
from exporter.systems.calls import CallJudge, Sessions, judged_arrays
from exporter.systems.case_inputs import TOKENS
from exporter.systems.differences import ExplainedChoices, Sides, explain_difference
from exporter.systems.opened import OpenedGraph
from exporter.systems.sides import eager_side, float32_side, float64_side, onnx_side
from exporter.systems.tokenizer import Detokenize


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A system with everything that is needed to run it.

    Attributes:
        folders: of each graph's own run. budget: bytes that compared values may hold.
        decode: makes text of tokens; None where nothing is known of them.
    """

    system: System
    graphs: Mapping[str, OpenedGraph]
    sessions: Sessions
    folders: Mapping[str, Artifacts]
    budget: int
    progress: Stages
    decode: Detokenize | None = None

    def drive(self, graphs: dict[str, Graph], case: Arrays, decider: Decider) -> Outcome:
        """The declared driver on one side."""
        driver = self.system.driver
        return DRIVERS[driver.kind](driver, graphs, case, decider)

    @contextlib.contextmanager
    def users_code(self):  # noqa: ANN201 - a context manager of nothing
        """Where the graphs' own modules run: what stops one is said with its file and line."""
        with contextlib.ExitStack() as stack:
            for graph in self.graphs.values():
                stack.enter_context(users_code(graph.pipeline))
            yield


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCase:
    """What was found on one case.

    Attributes:
        results: one per deployment. calls: of every graph. counts: calls by graph.
        expected, actual: outcomes of PyTorch and of the first deployment; None where one stopped.
    """

    results: tuple[ResultRecord, ...]
    calls: tuple[CallsRecord, ...]
    counts: Mapping[str, int]
    expected: Outcome | None = None
    actual: Outcome | None = None


def judge_case(bench: Bench, case: Case) -> JudgedCase:
    """Drive and judge one case.

    Raises:
        ModelError: a graph's own module stops on what the system gives it.
    """
    empty = case.expect_empty
    calls = CallJudge(bench.graphs, bench.sessions, case.name, empty)
    decider = Decider()
    try:
        with bench.users_code():
            expected = bench.drive(calls.side(), case.inputs, decider)
            calls.settle(bench.folders, bench.budget, bench.progress)
            truth: Arrays = {}
            if expected.arrays:
                led = Decider(decider.made)
                truth = bench.drive(float64_side(bench.graphs), case.inputs, led).arrays
    except DriverStoppedError as error:
        # With no result of PyTorch's there is nothing to hold ONNX against.
        why = f"PyTorch's own drive stops in '{error.graph}': {error}"
        stopped = [_failed(case, label, why, Who.PYTORCH) for label in bench.sessions]
        return _judged(bench, calls, stopped)
    results: list[ResultRecord] = []
    actuals: list[Outcome | None] = []
    for label, sessions in bench.sessions.items():
        side = onnx_side(bench.graphs, sessions)
        try:
            actual = bench.drive(side, case.inputs, Decider())
        except (ExportVerifyError, KeyError, IndexError, ValueError) as error:
            who = f" in '{error.graph}'" if isinstance(error, DriverStoppedError) else ""
            results.append(_failed(case, label, f"ONNX stops{who}: {error}", Who.ONNX))
            actuals.append(None)
            continue
        actuals.append(actual)
        result, decided = result_of(bench, case, label, side, (expected, actual, truth), decider)
        results.append(_excused(result, calls) if decided else result)
    judged = _judged(bench, calls, results)
    return replace(judged, expected=expected, actual=actuals[0])


def quick_case(bench: Bench, case: Case) -> tuple[int, ...] | None:
    """Tokens that the modules and ONNX, however deployed, say; None where there is more to look at.

    For many cases: where all say the same there is nothing to explain. Numbers beside the tokens
    are not measured here, but for what cannot be right: another shape, NaN, another integer.
    """
    judge = bench.system.judge
    if judge.waveforms is not None or judge.embeddings is not None:
        return None  # equal tokens say nothing of these
    try:
        expected = bench.drive(eager_side(bench.graphs), case.inputs, Decider())
        for sessions in bench.sessions.values():
            actual = bench.drive(onnx_side(bench.graphs, sessions), case.inputs, Decider())
            alike = all(alike_at_a_glance(v, actual.arrays[k]) for k, v in expected.arrays.items())
            if actual.tokens != expected.tokens or not alike:
                return None
    except (ExportVerifyError, KeyError, ValueError, RuntimeError):
        return None  # ``judge_case`` says why
    return expected.tokens


def alike_at_a_glance(expected: np.ndarray, actual: np.ndarray) -> bool:
    """True where shape and dtype are the same, floats are finite, and all else is equal."""
    if (expected.shape, expected.dtype) != (actual.shape, actual.dtype):
        return False
    if expected.dtype.kind in "fc":
        return bool(np.isfinite(expected).all() and np.isfinite(actual).all())
    return bool((expected == actual).all())


def _judged(bench: Bench, calls: CallJudge, results: Sequence[ResultRecord]) -> JudgedCase:
    return JudgedCase(
        results=tuple(results),
        calls=tuple(calls.records()),
        counts={name: calls.count(name) for name in bench.graphs},
    )


def result_of(
    bench: Bench,
    case: Case,
    label: str,
    side: dict[str, Graph],
    outcomes: tuple[Outcome, Outcome, Arrays],
    decider: Decider,
) -> tuple[ResultRecord, bool]:
    """The result, and whether all that fails in it are decisions: tokens, and other integers."""
    expected, actual, truth = outcomes
    graphs = list(bench.graphs.values())
    verdicts = judged_arrays(truth, expected.arrays, actual.arrays, bench.graphs, case.expect_empty)
    told = ResultRecord(
        case=case.name,
        deployment=label,
        verdict=stated(Status.NOT_RUN),
        outputs={name: VerdictRecord.of(verdict) for name, verdict in verdicts.items()},
    )
    statuses = [(verdict.status, f"{name}: {verdict.reason}") for name, verdict in verdicts.items()]
    decided = all(
        not is_failing(verdict.status) or may_follow(expected.arrays[name], actual.arrays.get(name))
        for name, verdict in verdicts.items()
    )
    if expected.tokens is not None and actual.tokens is not None:
        explained = None
        if expected.tokens != actual.tokens:
            sides = Sides(
                float32=float32_side(bench.graphs), float64=float64_side(bench.graphs), onnx=side
            )

            def again(which: dict[str, Graph], led: Decider) -> Outcome:
                return bench.drive(which, case.inputs, led)

            policy = _widest(graphs).policy
            try:
                explained = explain_difference(again, sides, expected, decider.made, policy)
            except (ExportVerifyError, KeyError, ValueError, RuntimeError):
                # Led another way, a side stops: nothing explains it, and nothing excuses it.
                explained, decided = ExplainedChoices(differences=(), ties_only=False), False
        status, reason = _of_tokens(expected.tokens, actual.tokens, explained, case.expect_empty)
        statuses.insert(0, (status, reason))
        told = told.model_copy(
            update=read_tokens(expected.tokens, actual.tokens, bench.decode)
            | {"differences": list(explained.differences) if explained else []}
        )
    extra, more = as_people_judge(bench.system, expected.arrays, actual.arrays)
    statuses += more
    beside = any(is_failing(status_of_part) for status_of_part, _ in more) or (
        TOKENS in case.expect_empty and bool(told.onnx_tokens or told.tokens)
    )
    decided = decided and not beside
    status, reason = of_all(statuses)
    who = Who.ONNX if status is Status.FAIL else Who.BOTH_WITHIN_ROUNDING
    verdict = stated(status, reason, who)
    update = {"verdict": verdict, "fails_beside_tokens": beside, **extra}
    return told.model_copy(update=update), decided


def may_follow(expected: np.ndarray, actual: np.ndarray | None) -> bool:
    """True for what another decision alone may make of an output: other integers, another size."""
    if actual is None or expected.dtype != actual.dtype:
        return False
    if expected.dtype.kind in "iub":
        return True
    return expected.shape != actual.shape and bool(np.isfinite(actual).all())


def of_all(judged: Sequence[tuple[Status, str]]) -> tuple[Status, str]:
    """The verdict on a result: the worst of its parts, with that part's reason.

    Args:
        found: of every part, the hypothesis first, if there is one. What it is decides where all
            is good: beside an empty one, a number that agrees is no pass.
    """
    if not judged:
        return Status.NOT_RUN, "nothing came out"
    bad = [pair for pair in judged if not is_good(pair[0])]
    return max(bad, key=lambda pair: severity(pair[0])) if bad else judged[0]


def _widest(graphs: Sequence[OpenedGraph]) -> OpenedGraph:
    return max(graphs, key=lambda item: item.policy.factor)


def _of_tokens(
    expected: Sequence[int],
    actual: Sequence[int],
    explained: ExplainedChoices | None,
    empty: Collection[str],
) -> tuple[Status, str]:
    if not expected and not actual:
        if TOKENS in empty:
            return Status.EMPTY_AS_DECLARED, "no token on both sides, as the case declares"
        remedy = f"say 'expect_empty: [{TOKENS}]' where that is right"
        return Status.NOT_RUN, f"no token on both sides: nothing was compared; {remedy}"
    if TOKENS in empty:
        return Status.FAIL, f"declared to be empty, but {len(expected)} tokens came"
    if explained is None:
        return Status.PASS, f"all {len(expected)} tokens equal"
    last: DifferenceRecord | None = explained.differences[-1] if explained.differences else None
    if last is None:
        return (
            Status.FAIL,
            "other tokens, and no choice of the driver explains it: a graph gave them",
        )
    where = f"{last.what} {last.at} of '{last.graph}'"
    if explained.ties_only:
        ties = len(explained.differences)
        return Status.AMBIGUOUS, f"{ties} choice(s) differ, first at {where}: {last.reason}"
    return Status.FAIL, f"other tokens, decided at {where}: {last.reason}"


def read_tokens(
    expected: Sequence[int], actual: Sequence[int], decode: Detokenize | None
) -> dict[str, object]:
    """Tokens, text and errors of a result, as fields of its record."""
    errors = [token_errors(expected, actual)]
    fields: dict[str, object] = {"tokens": list(expected), "onnx_tokens": list(actual)}
    if decode is not None:
        texts = decode(expected), decode(actual)
        fields |= {"text": texts[0], "onnx_text": texts[1]}
        errors += [character_errors(*texts), word_errors(*texts)]
    return {**fields, "errors": [errors_record(error) for error in errors]}


def errors_record(errors: Errors) -> ErrorsRecord:
    """Errors as plain values."""
    return ErrorsRecord(
        unit=errors.unit,
        substitutions=errors.substitutions,
        deletions=errors.deletions,
        insertions=errors.insertions,
        length=errors.length,
        rate=errors.rate,
        alignment=errors.alignment,
    )


def as_people_judge(
    system: System, expected: Arrays, actual: Arrays
) -> tuple[dict[str, object], list[tuple[Status, str]]]:
    """Sound and embeddings among what came out, and what fails in them."""
    judge = system.judge
    fields: dict[str, object] = {}
    statuses: list[tuple[Status, str]] = []
    if judge.waveforms is not None:
        sounds = [
            _heard(judge.waveforms, name, expected, actual) for name in judge.waveforms.outputs
        ]
        fields["heard"] = [record for record, _ in sounds if record is not None]
        statuses += [status for _, status in sounds]
    if judge.embeddings is not None:
        name = judge.embeddings.output
        both = _named(expected, name), _named(actual, name)
        value = None if both[0] is None or both[1] is None else cosine(both[0], both[1])
        fields["cosine"] = value
        least = judge.embeddings.min_cosine
        if value is None:
            statuses.append(
                (Status.NOT_RUN, f"'{name}' has no direction: it is zero, or not there")
            )
        elif value < least:
            statuses.append((Status.FAIL, f"cosine {value:.9g} of '{name}' is below {least:g}"))
    return fields, statuses


def _heard(
    config: Waveforms, name: str, expected: Arrays, actual: Arrays
) -> tuple[HeardRecord | None, tuple[Status, str]]:
    left, right = _named(expected, name), _named(actual, name)
    if left is None or right is None:
        return None, (Status.NOT_RUN, f"no output '{name}' came out")
    try:
        difference = heard(left, right, config.sample_rate_hz)
    except ValueError as error:
        return None, (Status.FAIL, f"'{name}' cannot be heard: {error}")
    record = HeardRecord(
        output=name,
        level_db=difference.level_db,
        si_sdr_db=difference.si_sdr_db,
        log_spectral_distance_db=difference.log_spectral_distance_db,
        max_error=difference.max_error,
    )
    least = config.min_si_sdr_db
    if least is not None and (difference.si_sdr_db is None or difference.si_sdr_db < least):
        shown = (
            "not measured: silence"
            if difference.si_sdr_db is None
            else f"{difference.si_sdr_db:.2f} dB"
        )
        return record, (Status.FAIL, f"SI-SDR of '{name}' {shown}, at least {least:g} dB asked")
    return record, (Status.PASS, "")


def _named(arrays: Arrays, name: str) -> np.ndarray | None:
    """An output by ``graph.output``, or by its own name alone."""
    if name in arrays:
        return arrays[name]
    return next((array for key, array in arrays.items() if key.partition(".")[2] == name), None)


def _excused(result: ResultRecord, calls: CallJudge) -> ResultRecord:
    """A graph that decides within rounding says other tokens: then nobody is wrong.

    Only where decisions are all that fails, the driver itself has chosen nothing differently, and
    no call of any graph fails.
    """
    if status_of(result.verdict.verdict) is not Status.FAIL or result.differences:
        return result
    status = worst(status_of(call.verdict.verdict) for call in calls.records())
    if status is not Status.AMBIGUOUS:
        return result
    why = f"{result.verdict.reason}; a graph decides it, within rounding in float64"
    verdict = result.verdict.model_copy(update={"verdict": Status.AMBIGUOUS.value, "reason": why})
    return result.model_copy(update={"verdict": verdict})


def _failed(case: Case, label: str, why: str, who: Who) -> ResultRecord:
    verdict = Verdict(name=case.name, status=Status.FAIL, who=who, reason=why)
    return ResultRecord(case=case.name, deployment=label, verdict=VerdictRecord.of(verdict))
