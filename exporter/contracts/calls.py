"""A stream as calls: what a call returns as state goes into the next one.

    call        0          1          2          3
    inputs      case       others     others     others        of one shape, from seeds
    state       initial -> returned -> returned -> returned

Cases that are in several calls already (a recording cut into windows) are taken as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from exporter.contracts.probes import replaced
from exporter.contracts.target import Target
from exporter.core.tensors import Arrays

Run = Callable[[Arrays], dict[str, np.ndarray]]
CALLS = 6
_SEED = 31


def stream_of(target: Target, *, seed: int = 0, calls: int = CALLS) -> tuple[Arrays, ...]:
    """Inputs of the calls of one stream; what carries state holds what the case holds.

    Args:
        seed: 0 begins with the case itself; another gives a stream of other values.
    """
    case = target.cases[0]
    given = [case.inputs, *case.later][:calls]
    states = set(target.states.values())
    stream = []
    for number in range(calls):
        inputs = given[number % len(given)]
        if seed or number >= len(given):
            inputs = _others(target, inputs, states, _SEED * seed + number)
        stream.append(inputs)
    return tuple(stream)


def _others(target: Target, inputs: Arrays, states: set[str], seed: int) -> dict[str, np.ndarray]:
    """Other signals; lengths, ids and options such as a sample rate stay what they are."""
    generator = np.random.Generator(np.random.PCG64(seed))
    others = dict(inputs)
    for spec in target.inputs:
        array = np.asarray(inputs[spec.name])
        if spec.name in states or array.dtype.kind != "f":
            continue
        others[spec.name] = replaced(array, spec, generator, 1.0)
    return others


def run_calls(
    run: Run,
    stream: Sequence[Arrays],
    states: Mapping[str, str],
    start: Arrays | None = None,
) -> tuple[list[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Run a stream, the state handed on.

    Args:
        states: output -> input that takes it in the next call.
        start: state before the first call; that of the first call's inputs by default.

    Returns:
        outputs of every call, and the state after the last, by input.
    """
    state = dict(start or {})
    outputs = []
    for inputs in stream:
        results = run({**inputs, **state})
        state = {name: results[output] for output, name in states.items()}
        outputs.append(results)
    return outputs, state
