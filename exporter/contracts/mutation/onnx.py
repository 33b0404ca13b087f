"""Mutations that the export dropped: by the captured program, and by several calls in a row."""

from __future__ import annotations

from typing import Any

import torch

from exporter.contracts.compare.noise import distance, noise_of, scale_of
from exporter.contracts.mutation.write_watch import Mutated, matches
from exporter.contracts.result import ONNX, Answer, ContractResult, Location
from exporter.contracts.target import ForwardError, Target
from exporter.core.errors import OnnxStoppedError, StageError
from exporter.core.tensors import Arrays
from exporter.graph.capture import keep_recurrent_ops, quiet_exporter
from exporter.graph.program import Program
from exporter.interpret.allowed_ops import resolve

NAME = "mutation"
CALLS = 3
Calls = tuple[Arrays, ...]
"""Outputs of calls in a row, each on the state that the one before left."""
_ADVICE = "make this state an input and an output of the graph, or it is lost after every call"


def check_onnx(
    target: Target,
    inputs: Arrays,
    mutated: list[Mutated],
    calls: Calls | ForwardError,
    caches: tuple[str, ...],
    accepted: tuple[str, ...],
) -> ContractResult:
    """Report writes that the ONNX file does not have.

    Args:
        mutated: what the PyTorch side wrote to.
        calls: what calls of PyTorch in a row gave, or why they stopped.
        caches: declared caches: still lost in ONNX, unless they are inputs and outputs there.
        accepted: patterns of names whose loss is declared.
    """
    # A write to an input is state that is lost only where it is a declared cache.
    writes = [item for item in mutated if item.kind != "input" or matches(item.name, caches)]
    lost = [item for item in writes if not matches(item.name, accepted)]
    said = Answer(NAME, ONNX, {"written by PyTorch": [item.name for item in mutated]})
    if target.onnx.problem is not None:
        return _without_file(target, lost, accepted, said)
    file = target.onnx.file
    if file.program is not None:
        writing = _writing_ops(file.program)
        said.details["ops of the captured program that write"] = writing
        if writing:
            return _dropped(said, writing[0], Location(op=writing[0]))
    try:
        if isinstance(calls, ForwardError):
            raise calls
        gap, limit, name = _several_calls(target, inputs, calls, said.details)
    except (OnnxStoppedError, ForwardError) as error:
        return said.not_run(f"several calls in a row do not run: {error}")
    if not gap <= limit:
        names = ", ".join(item.name for item in lost) or "some state"
        if lost or not writes:
            where = lost[0].where if lost else Location(value=name)
            what = f"{names}; '{name}' of call 2 or 3 differs by {gap:.3g}"
            return _dropped(said, what, where)
    if lost:
        return _dropped(said, ", ".join(item.name for item in lost), lost[0].where)
    reason = f"the graph writes to nothing, and {CALLS} calls in a row agree with PyTorch"
    return said.passed("0 mutations dropped", "0", reason)


def _writing_ops(program: Program) -> list[str]:
    writing = []
    for op in program.ops:
        schema = getattr(resolve(op.target), "_schema", None)
        if schema is not None and schema.is_mutable:
            writing.append(f"{op.target} ({op.name})")
    return writing


def _several_calls(
    target: Target, inputs: Arrays, calls: Calls, details: dict[str, Any]
) -> tuple[float, float, str]:
    """Largest difference between PyTorch, keeping its state, and ONNX, over a few calls.

    The file has no state to keep: one run stands for all of them, and that it would be the same
    again is asked by determinism.
    """
    noise = noise_of(target)
    worst = (0.0, 0.0, "")
    figures, first = [], {}
    right = target.onnx.recall(inputs)
    for call, left in enumerate(calls):
        for name in left:
            if name not in right:
                continue
            pair = (left[name], right[name])
            gap, limit = distance(*pair), noise.limit(name, scale_of(*pair), pair[0].size)
            figures.append(f"call {call + 1}, {name}: {gap:.3g}")
            first.setdefault(name, gap)
            # What is wrong from the first call on is parity's business.
            if call and gap - limit > worst[0] - worst[1] and first[name] <= limit:
                worst = (gap, limit, name)
    details["PyTorch against ONNX"] = figures
    return worst


def _without_file(
    target: Target, lost: list[Mutated], accepted: tuple[str, ...], said: Answer
) -> ContractResult:
    """The model was refused; the captured program still says what would have been dropped."""
    problem = f"no ONNX file: {target.onnx.problem}"
    try:
        captured = target.onnx.captured()
    except StageError as error:
        return said.not_run(f"no ONNX file: {error}")
    if captured is None:
        return said.not_run(problem)
    with torch.no_grad(), keep_recurrent_ops(), quiet_exporter():
        signature = captured.run_decompositions({}).graph_signature
    mutated = [*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()]
    said.details["captured program writes to"] = mutated
    mutated = [name for name in mutated if not matches(name, accepted)]
    if not mutated:
        return said.not_run(problem)
    where = next((item.where for item in lost if item.name in mutated), Location(value=mutated[0]))
    return _dropped(said, ", ".join(mutated), where)


def _dropped(said: Answer, what: str, where: Location) -> ContractResult:
    reason = "the export drops a write silently: the first call agrees, later ones do not"
    limit = "no write is dropped"
    return said.failed(f"dropped: {what}", limit, reason, where=where, advice=_ADVICE)
