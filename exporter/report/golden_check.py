"""What a check of a golden says: for a person, for CI, and as records. Decides nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from exporter.core.errors import EXIT_PASS
from exporter.golden.diff import GoldenDiff
from exporter.golden.outcome import (
    GOOD,
    ORDER,
    CaseOutcome,
    CheckOutcome,
    LayerMove,
    State,
    status_of,
)
from exporter.golden.values import NOT_VOUCHED
from exporter.parity.status import Status
from exporter.report.github import annotation
from exporter.report.junit import render_golden_junit
from exporter.report.safe_text import figure, markdown, printable, times
from exporter.report.schema import GoldenRecord

_SHOWN = 12


def golden_records(outcome: CheckOutcome) -> list[GoldenRecord]:
    """One record per case, or a single one when no case could be judged."""
    if outcome.problem is not None or not outcome.cases:
        return [
            GoldenRecord(
                case="all cases",
                state=outcome.state.value,
                verdict=status_of(outcome.state).value,
                moved=[],
                reason="; ".join([*_mark(outcome), *filter(None, [outcome.reason])]),
                advice=outcome.advice or None,
            )
        ]
    return [_record(outcome, case) for case in outcome.cases]


def _record(outcome: CheckOutcome, case: CaseOutcome) -> GoldenRecord:
    state = case.state
    if state in GOOD and outcome.environment:
        state = State.ENVIRONMENT_MOVED
    first = case.first
    worst = case.outputs[0] if case.outputs and case.outputs[0].observed is not None else None
    return GoldenRecord(
        case=case.case,
        state=state.value,
        # Within the cap that the pipeline declares, an ambiguous case does not fail.
        verdict=Status.PASS.value
        if state is State.AMBIGUOUS and outcome.exit_code == EXIT_PASS
        else status_of(state).value,
        moved=[move.name for move in case.outputs],
        ambiguous=case.ambiguous,
        first_layer=layer_name(first) if first else None,
        observed=first.observed if first else worst.observed if worst else None,
        limit=first.limit if first else worst.limit if worst else None,
        reason="; ".join([*_mark(outcome), *_sentences(outcome, case)]),
        advice=outcome.advice or None,
    )


def golden_headline(outcome: CheckOutcome) -> str:
    """One sentence: the worst case, what moved in it and by how much, the first layer."""
    if outcome.problem is not None or not outcome.cases:
        return f"golden '{outcome.pipeline}' {outcome.state.value}: {outcome.reason}".rstrip(": ")
    case = max(outcome.cases, key=lambda item: ORDER.index(item.state))
    if outcome.state in GOOD:
        count = f"{len(outcome.cases)} case(s)"
        marked = "".join(f", {text}" for text in _mark(outcome))
        return f"golden '{outcome.pipeline}' {outcome.state.value}: {count} as recorded{marked}"
    bad = sum(outcome_of_case.state not in GOOD for outcome_of_case in outcome.cases)
    more = f" (and {bad - 1} more case(s))" if bad > 1 else ""
    said = [
        *(f"output '{move.name}' {move.reason}" for move in case.outputs[:1]),
        *([_first_layer(case.first)] if case.first is not None else []),
    ]
    marked = "".join(f" ({text})" for text in _mark(outcome))
    what = "; ".join(said) or case.reason
    return f"golden '{case.case}' {case.state.value}: {what}{more}{marked}"


def _mark(outcome: CheckOutcome) -> list[str]:
    """What stands beside every verdict of a golden that a file gave of itself."""
    return [] if outcome.vouched else [NOT_VOUCHED]


def _first_layer(first: LayerMove) -> str:
    at = f" at {first.source}" if first.source else ""
    return f"first layer that moved: '{layer_name(first)}', {first.op}{at}: {first.reason}"


def layer_name(move: LayerMove) -> str:
    """Module path of a layer; the root module has none."""
    return move.module or f"(root) {move.tap}"


def _sentences(outcome: CheckOutcome, case: CaseOutcome) -> Iterable[str]:
    if case.reason:
        yield case.reason
    for move in case.outputs:
        yield f"output {move.name}: {move.reason}"
    if case.first is not None:
        yield _first_layer(case.first)
        if case.first.observed is None and case.strain is not None and case.strain > 1:
            yield f"furthest from its limit: '{case.strain_at}', {times(case.strain)} of it"
    if outcome.environment:
        yield f"environment: {_environment(outcome)}"


def _environment(outcome: CheckOutcome) -> str:
    return ", ".join(f"{c.what} {c.recorded} -> {c.now}" for c in outcome.environment)


def golden_lines(outcome: CheckOutcome) -> list[str]:
    """Lines for a terminal; numbers and environment are said apart."""
    marked = "".join(f" ({text})" for text in _mark(outcome))
    lines = [f"golden {outcome.pipeline}: {outcome.state.value}{marked}"]
    if outcome.reason:
        lines.append(f"  {outcome.reason}")
    if outcome.cases:
        numbers = outcome.numbers.value if outcome.numbers else "not judged"
        lines.append(f"  numbers      {numbers} ({outcome.onnx} against {outcome.golden})")
        lines.append(f"  environment  {_environment(outcome) or 'as recorded'}")
        lines.append(f"  graph        {_structure(outcome)}")
    width = max((len(case.case) for case in outcome.cases), default=0)
    for case in outcome.cases:
        strain = "" if case.strain is None else f", worst layer at {_share(case.strain)} of limit"
        taps = f"{case.compared} layers' values, {case.lost} not in the file{strain}"
        nothing = case.compared == case.lost == 0
        lines.append(f"  {case.case:<{width}}  {case.state.value}{'' if nothing else f': {taps}'}")
        if case.state not in GOOD:
            lines += [f"  {'':<{width}}    {line}" for line in _sentences(outcome, case)]
    lines += [f"  note: {note}" for note in outcome.notes]
    if outcome.advice:
        lines.append(f"  {outcome.advice}")
    return [printable(line) for line in lines]


def _share(strain: float) -> str:
    return "more than any share" if math.isinf(strain) else f"{100 * strain:.0f} %"


def _structure(outcome: CheckOutcome) -> str:
    if not outcome.structure:
        return "as recorded"
    count = f"{len(outcome.structure)} node(s) differ"
    return count if outcome.structure_decides else f"{count}, which decides nothing here"


def golden_json(outcome: CheckOutcome) -> str:
    """All of it, for programs; NaN and Inf are words."""
    data = {
        "state": outcome.state.value,
        "exit_code": outcome.exit_code,
        **_plain(asdict(outcome)),
        "records": [record.model_dump(mode="json") for record in golden_records(outcome)],
    }
    return json.dumps(data, indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, State):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value


def golden_junit(outcome: CheckOutcome) -> str:
    """JUnit XML: one test case per case of the golden."""
    return render_golden_junit(outcome.pipeline, golden_records(outcome))


def golden_annotations(outcome: CheckOutcome, file: str) -> list[str]:
    """GitHub workflow commands: an error per case that is not good, a warning for the rest.

    Args:
        file: the pipeline YAML, to which GitHub attaches them.
    """
    lines = []
    for record in golden_records(outcome):
        if record.verdict != Status.PASS.value:
            title = f"golden {outcome.pipeline}, {record.case}: {record.state}"
            text = "\n".join(part for part in (record.reason, record.advice) if part)
            lines.append(annotation("error", file, title, text))
    if not lines and outcome.environment:
        title = f"golden {outcome.pipeline}: environment moved"
        text = f"the numbers are {outcome.numbers}; {_environment(outcome)}"
        lines.append(annotation("warning", file, title, text))
    return lines


def golden_summary(outcome: CheckOutcome) -> str:
    """A job summary in Markdown."""
    lines = [
        f"### Golden {markdown(outcome.pipeline)}: {markdown(outcome.state.value)}",
        "",
        *(f"{markdown(text)}." for text in _mark(outcome)),
        f"Environment: {markdown(_environment(outcome) or 'as recorded')}. "
        f"Graph: {markdown(_structure(outcome))}.",
        "",
        "| case | state | outputs that moved | first layer | off by | limit |",
        "|---|---|---|---|--:|--:|",
    ]
    for record in golden_records(outcome):
        cells = (
            markdown(record.case),
            markdown(record.state),
            markdown(", ".join(record.moved)),
            markdown(record.first_layer or ""),
            figure(record.observed),
            figure(record.limit),
        )
        lines.append(f"| {' | '.join(cells)} |")
    reasons = [r for r in golden_records(outcome) if State(r.state) not in GOOD and r.reason]
    if reasons:
        lines += ["", *(f"- {markdown(r.case)}: {markdown(r.reason)}" for r in reasons)]
    if outcome.advice:
        lines += ["", markdown(outcome.advice)]
    return "\n".join(lines) + "\n"


def diff_lines(diff: GoldenDiff) -> list[str]:
    """Two goldens, for a terminal."""
    lines = [f"{what}: {old} -> {new}" for what, old, new in diff.facts] or ["facts: the same"]
    if diff.taps_added or diff.taps_removed:
        lines.append(f"taps: {len(diff.taps_added)} added, {len(diff.taps_removed)} removed")
    for case in diff.cases:
        if case.note:
            lines.append(f"{case.case}: {case.note}")
            continue
        moved = f"outputs moved: {', '.join(case.outputs)}" if case.outputs else "outputs the same"
        lines.append(
            f"{case.case}: {moved}; {len(case.layers)} layers' values beyond the old limit,"
            f" {case.within} within it"
        )
        lines += [f"  {c.module or '(root)'} {c.tap}: {c.reason}" for c in case.layers[:_SHOWN]]
        if len(case.layers) > _SHOWN:
            lines.append(f"  and {len(case.layers) - _SHOWN} more behind them")
    lines.append("moved" if diff.moved else "nothing moved")
    return [printable(line) for line in lines]


def diff_json(diff: GoldenDiff) -> str:
    """The same for programs."""
    return json.dumps({"moved": diff.moved, **_plain(asdict(diff))}, indent=1, allow_nan=False)
