"""Causality of a model that takes one window a call: later calls cannot reach back.

    base      | a | b | c | d | e | f |
    future    | a | b | c | D | E | F |      calls before the cut are equal bit by bit
    prefix    | a | b | c |                  and so they are where the stream ends there

Within a window everything may be seen: a result is as late as its window is long.
"""

from __future__ import annotations

from exporter.contracts.calls import Run, run_calls, stream_of
from exporter.contracts.compare.noise import distance
from exporter.contracts.result import Answer, ContractResult, Location
from exporter.contracts.target import ForwardError, Target
from exporter.core.errors import OnnxStoppedError

NAME = "causality"


def check_calls(target: Target, side: str, run: Run) -> ContractResult:
    """Check one side, with the state handed on."""
    said = Answer(NAME, side)
    stream, other = stream_of(target), stream_of(target, seed=1)
    cut = len(stream) // 2
    try:
        base, _ = run_calls(run, stream, target.states)
        future, _ = run_calls(run, (*stream[:cut], *other[cut:]), target.states)
        prefix, _ = run_calls(run, stream[:cut], target.states)
    except (ForwardError, OnnxStoppedError) as error:
        return said.not_run(f"a call does not run: {error}")
    if not _moved(base[cut:], future[cut:]):
        return said.not_run("another input in later calls changes no output: nothing can be seen")
    for label, outcome in (("another future", future), ("a shorter stream", prefix)):
        moved = _moved(base[:cut], outcome[:cut])
        if moved:
            call, name = moved
            return said.failed(
                f"lookahead {cut - call} calls",
                "lookahead 0 calls",
                f"'{name}' of call {call} changes with {label} from call {cut} on",
                where=Location(value=name),
                advice="what outlives a call beside the states has to be an input and an output",
            )
    sizes = "; ".join(
        f"'{spec.name}' {list(stream[0][spec.name].shape)}"
        for spec in target.inputs
        if spec.name not in target.states.values()
    )
    return said.passed(
        "lookahead 0 calls, past compared bit by bit",
        "lookahead 0 calls",
        f"of {len(stream)} calls no earlier one hangs on a later one; a call sees its own window"
        f" whole ({sizes})",
    )


def _moved(left: list, right: list) -> tuple[int, str] | None:
    for call, (first, second) in enumerate(zip(left, right, strict=True)):
        for name, value in first.items():
            if distance(value, second[name]):
                return call, name
    return None
