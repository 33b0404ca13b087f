"""Shapes: every size of every dynamic axis runs, gives the declared shapes, and agrees.

Sizes: minimum, minimum + 1, an odd one, a prime, the traced example, four times it, and the
longest declared. A constant that was baked in while tracing is right at the example and wrong
elsewhere; the node that holds it is named.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from exporter.config.section import Many
from exporter.contracts.compare.agree import Disagreement, disagreement
from exporter.contracts.compare.noise import Noise, noise_of
from exporter.contracts.locate.finite import first_op_not_finite, not_finite
from exporter.contracts.result import (
    ONNX,
    SIDES,
    TORCH,
    Answer,
    ContractResult,
    Location,
    not_applicable,
)
from exporter.contracts.settings import ContractSettings, Named
from exporter.contracts.shapes.baked import find_baked
from exporter.contracts.shapes.sizes import SweepAxis, at_size, example_inputs, sweep_axes
from exporter.contracts.target import ForwardError, Target
from exporter.core.errors import OnnxStoppedError, StageError
from exporter.core.tensors import Arrays
from exporter.parity.status import Status

NAME = "shapes"


class Settings(ContractSettings):
    """Options.

    Attributes:
        sizes: axis -> sizes to try instead of the derived ones.
        longest: axis -> largest size to try; by default the axis's declared maximum.
    """

    sizes: dict[str, Many[int]] = Field(default_factory=dict)
    longest: dict[str, int] = Field(default_factory=dict)

    def names(self) -> Iterator[Named]:
        for key, named in (("sizes", self.sizes), ("longest", self.longest)):
            for name in named:
                yield Named(keys=(key, name), name=name, kind="axis")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """One size that does not work; ``node`` is the one at which onnxruntime stops."""

    axis: str
    size: int
    what: str
    where: Location | None = None
    status: Status = Status.FAIL
    node: str = ""


def check(target: Target, settings: Settings) -> tuple[ContractResult, ...]:
    """Check both sides."""
    axes, left_out = sweep_axes(target, settings.sizes, settings.longest)
    if not axes:
        return tuple(not_applicable(NAME, side, "no input has a dynamic axis") for side in SIDES)
    problem = target.onnx.problem
    torch_bad: list[Bad] = []
    onnx_bad: list[Bad] = []
    rows: list[dict[str, Any]] = []
    noise: Noise | None = None
    for axis in axes:
        for size in axis.sizes:
            inputs = at_size(target, axis, size)
            row: dict[str, Any] = {"axis": axis.name, "size": size}
            rows.append(row)
            try:
                left = target.recall(inputs, keep=axis.time is None)
            except ForwardError as error:
                row["torch"] = f"raises: {error.text}"
                where = target.raised_at(error)
                torch_bad.append(Bad(axis=axis.name, size=size, what=row["torch"], where=where))
                continue
            wrong, where = shape_problem(target, inputs, left), None
            if wrong is None and (wrong := not_finite(left)) is not None:
                where = None if torch_bad else first_op_not_finite(target, inputs)
            row["torch"] = wrong or "ok"
            if wrong:
                torch_bad.append(Bad(axis=axis.name, size=size, what=wrong, where=where))
            if problem is None:
                if noise is None:
                    noise = noise_of(target)
                bad = _onnx_at(target, axis, size, inputs, left, noise)
                row["onnx"] = bad.what if bad else "ok"
                onnx_bad += [bad] if bad else []
    details = {"sizes": rows, "not checked": left_out}
    results = [_verdict(TORCH, torch_bad, axes, details)]
    if problem is not None:
        results.append(_without_file(target.onnx.refusal, details))
    else:
        results.append(_onnx_verdict(target, axes, onnx_bad, details, noise))
    return tuple(results)


def _onnx_at(
    target: Target, axis: SweepAxis, size: int, inputs: Arrays, left: Arrays, noise: Noise
) -> Bad | None:
    try:
        right = target.onnx.recall(inputs, keep=axis.time is None)
    except OnnxStoppedError as error:
        what = f"raises: {str(error)[:300]}"
        return Bad(axis=axis.name, size=size, what=what, node=error.node)
    disagreed: Disagreement | None = disagreement(target, inputs, left, right, noise)
    if disagreed is not None:
        status = Status.AMBIGUOUS if disagreed.fragile else Status.FAIL
        return Bad(axis=axis.name, size=size, what=disagreed.text(), status=status)
    wrong = not_finite(right)
    return Bad(axis=axis.name, size=size, what=f"{wrong}, as in {target.beside}") if wrong else None


def shape_problem(target: Target, inputs: Arrays, outputs: Arrays) -> str | None:
    """What contradicts the declared shapes of the outputs; ``None`` when nothing does."""
    sizes: dict[str, int] = {}
    for spec in target.inputs:
        pairs = zip(spec.shape, inputs[spec.name].shape, strict=False)
        sizes |= {name: size for name, size in pairs if isinstance(name, str)}
    for spec in target.outputs:
        if spec.name not in outputs:
            return f"output '{spec.name}' is missing"
        shape = outputs[spec.name].shape
        if len(shape) != len(spec.shape):
            return f"'{spec.name}' has {len(shape)} axes, declared {len(spec.shape)}"
        for position, (declared, size) in enumerate(zip(spec.shape, shape, strict=True)):
            known = declared if isinstance(declared, int) else sizes.setdefault(declared, size)
            if known != size:
                return (
                    f"'{spec.name}' has size {size} on axis {position} ({declared}), "
                    f"expected {known}"
                )
    return None


def _verdict(
    side: str, bad: list[Bad], axes: list[SweepAxis], details: dict[str, Any]
) -> ContractResult:
    said = Answer(NAME, side, details)
    count = sum(len(axis.sizes) for axis in axes)
    if not bad:
        listed = "; ".join(f"{axis.name} {list(axis.sizes)}" for axis in axes)
        return said.passed(f"{count} of {count} sizes right", "all", listed)
    first = next((item for item in bad if item.status is Status.FAIL), bad[0])
    return said.failed(
        f"{len(bad)} of {count} sizes wrong",
        "0",
        f"{first.axis} = {first.size}: {first.what}",
        where=first.where,
        advice="derive the size from the input, or narrow the declared range of the axis"
        if side == TORCH
        else "take this value from the input's shape in forward, so that it is traced",
        status=first.status,
    )


def _onnx_verdict(
    target: Target,
    axes: list[SweepAxis],
    bad: list[Bad],
    details: dict[str, Any],
    noise: Noise | None,
) -> ContractResult:
    result = _verdict(ONNX, bad, axes, details)
    hard = [item for item in bad if item.status is Status.FAIL]
    if not hard:
        return result
    tried = {(item.axis, item.size) for item in hard}
    at_example = any(
        (axis.name, axis.example) in tried
        or (axis.example not in axis.sizes and _wrong_at_example(target, axis, noise or Noise()))
        for axis in axes
    )
    by_name = {axis.name: axis for axis in axes}
    inputs = at_size(target, by_name[hard[0].axis], hard[0].size)
    try:
        left = target.torch(inputs)
    except ForwardError:
        return result

    def agrees(outputs: Arrays) -> bool:
        away = disagreement(target, inputs, left, outputs, noise or Noise())
        return away is None or away.fragile

    baked = find_baked(
        target,
        axes,
        good=example_inputs(target),
        bad=inputs,
        agrees=agrees,
        stops_at=hard[0].node,
        at_example=at_example,
    )
    return dataclasses.replace(
        result,
        where=baked.place,
        reason=f"{result.reason}; {baked.what}",
        details={**details, "baked constants": baked.candidates},
    )


def _wrong_at_example(target: Target, axis: SweepAxis, noise: Noise) -> bool:
    """The size that was traced, where it was too long to be tried with the others."""
    inputs = at_size(target, axis, axis.example)
    try:
        left = target.torch(inputs)
    except ForwardError:
        return False
    bad = _onnx_at(target, axis, axis.example, inputs, left, noise)
    return bad is not None and bad.status is Status.FAIL


def _without_file(refusal: Exception | None, details: dict[str, Any]) -> ContractResult:
    """An export that was refused because an axis became a constant is a finding."""
    said, problem = Answer(NAME, ONNX, details), str(refusal)[:600]
    if isinstance(refusal, StageError) and refusal.frozen:
        return said.failed(
            "a dynamic axis is a constant",
            "every declared axis is symbolic",
            problem,
            where=Location(source=refusal.source),
            advice="derive the size from the input's shape, without int() or a Python loop",
        )
    return said.not_run(f"no ONNX file: {problem}")
