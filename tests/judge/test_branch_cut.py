"""An angle beside its branch cut: pi and -pi are the same direction, and rounding picks one."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

from exporter.core.tensors import Case
from exporter.judge.layer_results import JudgedTap
from exporter.parity.status import Status
from tests.faults.editor import Editor
from tests.support.toys import Toy, floats, make_toy

_DRAW = np.random.default_rng(0)
ROW = _DRAW.standard_normal(64)
WEIGHT = _DRAW.standard_normal((50, 64))
WEIGHT -= np.outer(WEIGHT @ ROW, ROW) / (ROW @ ROW)
NOISE = np.stack([ROW, -0.7 * ROW]).astype(np.float32)
"""Of these rows the products with all weights are 0, but for rounding."""


class Angles(nn.Module):
    """Angles of products and of -2."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.from_numpy(WEIGHT).float())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = nn.functional.linear(x, self.weight)
        angle = torch.atan2(y, torch.full_like(y, -2.0))
        return angle, angle * 2.0 + 1.0


@cache
def toy() -> Toy:
    return make_toy(
        Angles(),
        {"x": torch.from_numpy(NOISE)},
        (floats("x", "batch", 64),),
        (floats("angle", "batch", 50), floats("z", "batch", 50)),
    )


def judged(model: onnx.ModelProto | None, x: np.ndarray) -> dict[str, JudgedTap]:
    link = toy().judge(model, cases=(Case(name="one", inputs={"x": x}, origin="drawn"),))
    return {tap.planned.tap.name: tap for tap in link.taps}


def changed(op: str, *nodes: tuple[str, float | None]) -> onnx.ModelProto:
    """The toy's file with nodes between a value of an op and all that read it."""
    edit = Editor(toy().model, toy().program)
    value = edit.tap("", op)
    first = edit.producer(value)
    first.output[0] = source = f"{value}_before"
    place = list(edit.graph.node).index(first) + 1
    for number, (kind, by) in enumerate(nodes):
        target = value if number == len(nodes) - 1 else f"{value}_{number}"
        inputs = [source] if by is None else [source, edit.constant(np.float32(by))]
        edit.graph.node.insert(place + number, helper.make_node(kind, inputs, [target]))
        source = target
    return edit.model


def worst(taps: dict[str, JudgedTap]) -> set[Status]:
    return {judgement.verdict.status for tap in taps.values() for judgement in tap.both}


def test_the_other_side_of_the_cut_is_ambiguous_and_what_is_behind_it():
    taps = judged(changed("linear", ("Add", 5e-7)), NOISE)
    angle = taps["atan2"].propagated
    assert angle is not None and angle.verdict.status is Status.AMBIGUOUS
    assert "side of the branch cut" in angle.verdict.reason
    assert Status.FAIL not in worst(taps)


@pytest.mark.parametrize(
    ("change", "x"),
    [
        (("linear", ("Neg", None)), NOISE + 0.1),  # there no sign is a matter of rounding
        (("atan2", ("Mul", 1.001)), NOISE),
        (("atan2", ("Neg", None), ("Mul", 1.001)), NOISE),
        (("atan2", ("Neg", None)), NOISE + 0.1),
        (("atan2", ("Neg", None)), NOISE),  # fed PyTorch's own y, it has no choice
    ],
    ids=[
        *("another sign", "another angle", "another angle on the other side", "mirrored"),
        "mirrored beside the cut",
    ],
)
def test_what_is_wrong_beside_it_fails(change, x):
    assert Status.FAIL in worst(judged(changed(*change), x))


def test_where_pytorch_is_on_the_other_side_than_float64_the_limit_is_no_full_turn():
    with torch.no_grad():
        x = torch.from_numpy(NOISE)
        y, exact = (nn.functional.linear(v, toy().module.weight.to(v)) for v in (x, x.double()))
    assert ((y < 0) != (exact < 0)).any()
    angle = judged(None, NOISE)["atan2"].propagated
    # onnxruntime may pick either side as well.
    assert angle is not None and angle.verdict.status in (Status.PASS, Status.AMBIGUOUS)
    assert angle.verdict.limit is not None and angle.verdict.limit.max_abs < 1e-4
