"""Ambiguous decisions are looked for in a step of its own, where an output rests on one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exporter.judge.ambiguity import doubtful_cases, settle
from exporter.judge.outputs import OutputResult
from exporter.parity.measurement import Kind, Measurement
from exporter.parity.status import Status, Who
from exporter.parity.verdict import Verdict
from tests.support.toys import Toy, floats, make_toy, mixed, spec


class Plain(nn.Module):
    """A float that no decision stands in front of, and an integer."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tanh(x), x.argmax(-1)


def plain() -> Toy:
    return make_toy(
        Plain(),
        {"x": torch.randn(3, 8)},
        (floats("x", "batch", 8),),
        (floats("y", "batch", 8), spec("best", "int64", "batch")),
    )


def result(name: str, kind: Kind, *, case: str = "c", status: Status = Status.FAIL,
           problem: str | None = None) -> OutputResult:  # fmt: skip
    verdict = Verdict(name=name, status=status, who=Who.ONNX, reason="3 of 9 differ")
    measured = Measurement(name=name, role="output", kind=kind, problem=problem)
    return OutputResult(link="a -> b", case=case, name=name, measurement=measured, verdict=verdict)


def test_a_float_that_fails_first_walks_no_layers():
    program = plain().program
    assert doubtful_cases(program, [result("y", "float")], {}) == []
    assert doubtful_cases(program, [result("best", "discrete")], {}) == ["c"]


def test_a_float_behind_a_decision_is_in_doubt():
    assert doubtful_cases(mixed().program, [result("y", "float")], {}) == ["c"]


def test_what_was_walked_passes_or_has_another_shape_is_not_walked_again():
    program = plain().program
    discrete = result("best", "discrete")
    assert doubtful_cases(program, [discrete], {"c": None}) == []
    passed = result("best", "discrete", status=Status.PASS)
    broken = result("best", "discrete", problem="shape change")
    assert doubtful_cases(program, [passed, broken], {}) == []


def test_only_outputs_of_a_case_in_doubt_become_ambiguous():
    results = [result("best", "discrete", case="one"), result("best", "discrete", case="two")]
    judged = settle(results, {"one": "'ge' in gate", "two": None}.get)
    assert [r.verdict.status for r in judged] == [Status.AMBIGUOUS, Status.FAIL]
    assert "'ge' in gate" in judged[0].verdict.reason


def test_another_shape_is_never_ambiguous():
    (judged,) = settle([result("best", "discrete", problem="shape change")], {"c": "why"}.get)
    assert judged.verdict.status is Status.FAIL
