"""A failure is charged to the graph or to a kernel: the same nodes in float64 decide."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from exporter.core.tensors import Case
from exporter.execution.deployment import Deployment
from exporter.judge.guilty_stage import KERNEL, culprit_records, to_blame
from exporter.judge.layer_results import LayerLink
from exporter.judge.layers import judge_layers
from exporter.parity.nodes_in_float64 import Cause
from exporter.parity.status import Status, Who
from exporter.parity.tolerance import Policy
from tests.faults.editor import Editor
from tests.support.toys import Toy, floats, index, make_toy, spec

LENGTH = 60_000


class LongNorm(nn.Module):
    """One group over a long axis, behind a relu: the mean is large beside the spread."""

    def __init__(self, *, decides: bool = False, small: bool = False) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, 2)
        self.decides, self.small = decides, small

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        y = self.norm(torch.relu(x) + 2)
        if self.decides:
            return y + 1000, (y * 1e4).long()
        # Beside a thousand, what the kernel loses is below float32's rounding.
        return y + 1000 if self.small else y


@cache
def long_norm(*, decides: bool = False, small: bool = False) -> Toy:
    module = LongNorm(decides=decides, small=small)
    shape = ("batch", 2, "samples")
    outputs = (floats("y", *shape), *([spec("steps", "int64", *shape)] if decides else []))
    return make_toy(module, {"x": torch.randn(2, 2, 64)}, (floats("x", *shape),), outputs)


def case(length: int = LENGTH) -> Case:
    x = np.random.default_rng(1).standard_normal((2, 2, length)).astype(np.float32)
    return Case(name="long", inputs={"x": x}, origin="")


def walk(toy: Toy, model: onnx.ModelProto | None = None, *, length: int = LENGTH,
         policy: Policy | None = None) -> LayerLink:  # fmt: skip
    return judge_layers(
        toy.program,
        index(model or toy.model),
        (case(length),),
        policy=policy or Policy(),
        deployment=Deployment(threads=1),
        budget=1 << 28,
    )


def test_a_kernel_that_loses_digits_is_named_and_the_graph_is_right():
    link = walk(long_norm())
    # The normalisation is the output itself, so it fails; no stage of the export is to blame.
    (culprit,) = link.culprits
    assert culprit.opinion is not None
    assert culprit.opinion.cause is Cause.KERNEL
    assert culprit.opinion.nodes == ("InstanceNormalization",)
    assert culprit.opinion.graph_error is not None and culprit.opinion.graph_error < 1e-9
    (record,) = culprit_records(to_blame(link, failed=True), link="layers", stage="export")
    assert (record.stage, record.cause, record.who) == (KERNEL, "kernel", "kernel")
    assert "the graph is right" in record.reason


def test_on_a_short_axis_the_same_kernel_passes():
    link = walk(long_norm(), length=16)
    assert link.culprits == link.findings == ()


def test_what_a_kernel_loses_inside_is_a_finding_while_outputs_hold():
    link = walk(long_norm(small=True))
    assert link.culprits == ()
    (finding,) = link.findings
    assert finding.tap.planned.tap.module == "norm"
    assert {tap.status for tap in link.taps if tap.planned.output} == {Status.PASS}
    behind = [tap for tap in link.taps if tap.propagated
              and tap.propagated.verdict.status is Status.FINDING]  # fmt: skip
    assert behind and all(tap.propagated.verdict.who is Who.KERNEL for tap in behind
                          if tap.propagated)  # fmt: skip


def test_a_policy_may_fail_what_a_kernel_loses():
    link = walk(long_norm(small=True), policy=Policy(kernel_loss="fail"))
    (culprit,) = link.culprits
    assert culprit.opinion is not None and culprit.opinion.cause is Cause.KERNEL
    assert link.findings == ()


def test_a_decision_that_a_kernel_turns_over_fails():
    """Integers that the loss moves are no rounding: the run fails, and the kernel is named."""
    link = walk(long_norm(decides=True))
    status = {tap.planned.onnx_name: tap.status for tap in link.taps if tap.planned.output}
    assert status == {"y": Status.PASS, "steps": Status.FAIL}
    assert link.culprits[0].opinion is not None
    assert link.culprits[0].opinion.cause is Cause.KERNEL


@pytest.mark.parametrize("fault", ["epsilon", "weight", "float16", "cast"])
def test_a_fault_of_the_graph_is_the_graph_s(fault: str):
    toy = long_norm()
    edit = Editor(toy.model, toy.program)
    node = next(n for n in edit.graph.node if n.op_type == "InstanceNormalization")
    if fault == "epsilon":
        edit.set(node, epsilon=1e-2)
    elif fault == "weight":
        edit.store("norm.weight", edit.array("norm.weight") * np.float32(1.001))
    elif fault == "float16":
        rounded = edit.array("norm.weight").astype(np.float16).astype(np.float32)
        edit.store("norm.weight", rounded)
    else:
        half = edit.add_before(node, "Cast", [node.input[0]], to=onnx.TensorProto.FLOAT16)
        node.input[0] = edit.add_before(node, "Cast", [half], to=onnx.TensorProto.FLOAT)
    link = walk(toy, edit.model, length=64)
    (culprit,) = link.culprits
    assert culprit.tap.planned.tap.module == "norm"
    assert culprit.opinion is not None and culprit.opinion.cause is Cause.GRAPH
    (record,) = culprit_records(link.culprits, link="layers", stage="export")
    assert (record.stage, record.who, record.cause) == ("export", "onnx", "graph")


def test_a_fault_of_the_graph_beside_a_kernel_s_loss_is_not_excused():
    """At 60,000 samples the kernel loses digits, and the weights are wrong as well."""
    toy = long_norm(small=True)
    edit = Editor(toy.model, toy.program)
    edit.store("norm.weight", edit.array("norm.weight") * np.float32(1.01))
    link = walk(toy, edit.model)
    assert link.culprits and link.culprits[0].opinion is not None
    assert link.culprits[0].opinion.cause is Cause.GRAPH


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.gelu(x) * 2.0


def test_what_nobody_can_evaluate_is_said_to_be_unknown():
    toy = make_toy(
        Unknown(),
        {"x": torch.randn(2, 9)},
        (floats("x", "batch", "steps"),),
        (floats("y", "batch", "steps"),),
    )
    edit = Editor(toy.model, toy.program)
    gelu = edit.tap("", "gelu")
    edit.model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    node = next(n for n in edit.graph.node if gelu in n.output)
    node.CopyFrom(onnx.helper.make_node("QuickGelu", ["x"], [gelu], domain="com.microsoft"))
    x = np.random.default_rng(0).standard_normal((2, 9)).astype(np.float32)
    link = judge_layers(
        toy.program, index(edit.model), (Case(name="c", inputs={"x": x}, origin=""),),
        policy=Policy(), deployment=Deployment(threads=1), budget=1 << 20,
    )  # fmt: skip
    (culprit,) = link.culprits
    assert culprit.opinion is not None and culprit.opinion.cause is Cause.UNKNOWN
    assert culprit.tap.local is not None
    assert "not known whether graph or kernel" in culprit.tap.local.verdict.reason
    assert link.findings == ()


class LongSum(nn.Module):
    """A phase: the running sum over a long axis."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(torch.cumsum(torch.sigmoid(x), 1))


@cache
def long_sum() -> Toy:
    shape = ("batch", "steps")
    return make_toy(
        LongSum(), {"x": torch.randn(2, 30)}, (floats("x", *shape),), (floats("y", *shape),)
    )


def sum_case() -> Case:
    x = np.random.default_rng(1).standard_normal((2, 24_000)).astype(np.float32)
    return Case(name="long", inputs={"x": x}, origin="")


def test_the_order_of_a_sum_is_float32_s_own_cost():
    link = long_sum().judge(cases=(sum_case(),))
    assert link.culprits == link.findings == ()
    assert {tap.status for tap in link.taps} == {Status.PASS}
    held = next(tap for tap in link.taps if "cumsum" in tap.planned.tap.op)
    assert held.local is not None and "orders of summation" in held.local.verdict.reason


def test_no_order_excuses_a_wrong_node():
    """A sum that starts from zero is wrong by no more than what an order costs at the end."""
    edit = Editor(long_sum().model, long_sum().program)
    node = next(n for n in edit.graph.node if n.op_type == "CumSum")
    small = edit.add_before(node, "Add", [node.input[0], edit.constant(np.float32(2e-7))])
    node.input[0] = small
    link = long_sum().judge(edit.model, cases=(sum_case(),))
    assert link.culprits and link.culprits[0].opinion is not None
    assert link.culprits[0].opinion.cause is Cause.GRAPH
