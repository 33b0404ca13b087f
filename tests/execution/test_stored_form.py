"""A value that the file holds in another shape: compared if it is the same, never if reordered."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from exporter.core.tensors import Case
from exporter.execution.stored_form import as_expected
from exporter.golden.judge_case import judge_tap
from exporter.golden.sketch import sketch
from exporter.golden.values import Expected
from exporter.judge.layer_results import LayerLink
from exporter.parity.measurement import Measurement
from exporter.parity.reshaped import merges_or_splits
from exporter.parity.status import Status
from tests.faults.editor import Editor
from tests.support.toys import Toy, floats, make_toy


@pytest.mark.parametrize(
    ("expected", "held"),
    [
        ((3, 50, 48), (150, 48)),
        ((150, 48), (3, 50, 48)),
        ((1, 50, 48), (50, 48)),
        ((1, 50, 48), (50, 1, 48)),
        ((2, 5, 12), (10, 3, 4)),
        ((2, 4, 5, 6), (8, 5, 6)),
        ((), (1,)),
        ((7,), (7,)),
        ((2, 3, 6), (6, 6)),
    ],
)
def test_neighbouring_axes_may_be_one(expected: tuple[int, ...], held: tuple[int, ...]):
    assert merges_or_splits(expected, held)
    assert merges_or_splits(held, expected)


@pytest.mark.parametrize(
    ("expected", "held"),
    [
        ((2, 3), (3, 2)),
        ((2, 3, 4), (4, 6)),
        ((3, 50, 48), (48, 150)),
        ((3, 50, 48), (50, 3, 48)),
        ((2, 3), (2, 4)),
        ((0, 3), (0,)),
        ((4, 6), (8, 3)),
        ((5,), ()),
    ],
)
def test_other_shapes_of_the_same_size_are_no_such_pair(
    expected: tuple[int, ...], held: tuple[int, ...]
):
    assert not merges_or_splits(expected, held)
    assert as_expected(np.zeros(held), expected) is None


def test_the_order_of_elements_is_kept():
    value = np.arange(24).reshape(6, 4)
    found = as_expected(value, (2, 3, 4))
    assert found is not None
    assert found.ravel().tolist() == list(range(24))
    assert as_expected(value, (6, 4)) is None


class Rows(nn.Module):
    """Two products on flattened rows, with the activation of a GPT-2 block between them."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.empty(8, 16))
        self.down = nn.Parameter(torch.empty(16, 8))
        self.zero = nn.Parameter(torch.empty(16))

    def rows(self, x: Tensor, weight: Tensor) -> Tensor:
        bias = self.zero[: weight.shape[1]]
        flat = torch.addmm(bias, x.view(-1, x.shape[-1]), weight)
        return flat.view(*x.shape[:-1], weight.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.rows(x, self.up)
        hidden = 0.5 * hidden * (1 + torch.tanh(hidden + 0.04 * torch.pow(hidden, 3.0)))
        return x + self.rows(hidden, self.down)


@cache
def rows() -> Toy:
    return make_toy(
        Rows(),
        {"x": torch.randn(3, 6, 8)},
        (floats("x", "batch", "frames", 8),),
        (floats("y", "batch", "frames", 8),),
        simplified=True,
    )


def case(batch: int = 2, frames: int = 5, *, seed: int = 0) -> Case:
    x = np.random.default_rng(seed).standard_normal((batch, frames, 8)).astype(np.float32)
    return Case(name=f"{batch}x{frames}", inputs={"x": x}, origin="by hand")


def behind(edit: Editor, op: str, *steps: tuple[str, dict]) -> None:
    """Give the value of ``op`` the result of further nodes, each on what the one before made."""
    value = edit.tap("", op)
    node = edit.producer(value)
    node.output[0] = "step_0"
    at = list(edit.graph.node).index(node) + 1
    for number, (op_type, options) in enumerate(steps):
        constants = [edit.constant(np.array(held, np.int64)) for held in options.pop("ints", ())]
        made = onnx.helper.make_node(
            op_type,
            [f"step_{number}", *constants],
            [value if number == len(steps) - 1 else f"step_{number + 1}"],
            **options,
        )
        edit.graph.node.insert(at + number, made)


def stored(link: LayerLink) -> dict[str, Measurement]:
    return {
        tap.planned.tap.name: tap.local.measurement
        for tap in link.taps
        if tap.local is not None and tap.local.measurement.shape_stored is not None
    }


@pytest.mark.parametrize("budget", [1, 1 << 24])
def test_what_the_simplifier_holds_as_rows_is_compared(budget: int):
    """tanh and its neighbours are [10, 16] in the file, [2, 5, 16] in PyTorch."""
    cases = (case(), case(1, 5), case(3, 1), case(1, 1))
    link = rows().judge(cases=cases, budget=budget)
    assert link.culprits == ()
    found = stored(link)
    assert "tanh" in found
    assert len(found["tanh"].shape_expected or ()) == len(found["tanh"].shape_stored or ()) + 1
    judged = next(tap.local for tap in link.taps if tap.planned.tap.name == "tanh")
    assert judged is not None
    assert "compared after reshaping" in judged.verdict.reason


def test_a_wrong_number_in_a_value_held_as_rows_is_found_there():
    edit = Editor(rows().model, rows().program)
    node = edit.node("", "tanh")
    edit.insert(node, 0, "Mul", np.float32(1.001))
    link = rows().judge(edit.model, cases=(case(),))
    assert [c.tap.planned.tap.name for c in link.culprits] == ["tanh"]


def test_rows_that_stand_in_another_order_are_no_such_value():
    """As many elements, the very shape of the value that was held as rows; other places."""
    edit = Editor(rows().model, rows().program)
    spread = ("Reshape", {"ints": [[2, -1, 16]]})
    behind(
        edit, "tanh", spread, ("Transpose", {"perm": [1, 0, 2]}), ("Reshape", {"ints": [[-1, 16]]})
    )
    link = rows().judge(edit.model, cases=(case(2, 2),))
    assert "tanh" in [c.tap.planned.tap.name for c in link.culprits]
    local = link.culprits[0].tap.local
    assert local is not None and "compared after reshaping" in local.verdict.reason


def test_a_square_transpose_is_no_such_value():
    """16 rows of 16: the transpose has the shape of the value itself."""
    edit = Editor(rows().model, rows().program)
    behind(edit, "tanh", ("Transpose", {"perm": [1, 0]}))
    link = rows().judge(edit.model, cases=(case(2, 8),))
    assert link.culprits and link.culprits[0].tap.planned.tap.name == "tanh"
    assert link.culprits[0].tap.status is Status.FAIL


def test_a_transpose_of_another_shape_is_a_change_of_shape():
    """As a tool leaves it that moves transposes: turned under the old name, and turned back."""
    edit = Editor(rows().model, rows().program)
    behind(edit, "tanh", ("Transpose", {"perm": [1, 0]}))
    (user,) = edit.users(edit.tap("", "tanh"))
    edit.insert(user, list(user.input).index("tanh"), "Transpose", perm=[1, 0])
    link = rows().judge(edit.model, cases=(case(2, 5),))
    first = link.culprits[0].tap
    assert first.planned.tap.name == "tanh"
    assert first.local is not None and "shape change" in first.local.verdict.reason


def test_an_output_keeps_its_shape():
    edit = Editor(rows().model, rows().program)
    behind(edit, "add", ("Reshape", {"ints": [[-1, 8]]}))
    assert stored(rows().judge(edit.model, cases=(case(),))).keys().isdisjoint({"y", "add_1"})


def test_a_sketch_of_a_golden_is_the_same_with_axes_merged_and_another_when_turned():
    value = np.random.default_rng(0).standard_normal((3, 4, 16)).astype(np.float32)
    wanted = sketch("tap", value)
    expected = Expected(sketch=wanted, limit_max=1e-5, limit_rms=1e-5, witness=b"", close=0)
    assert judge_tap(expected, sketch("tap", value.reshape(12, 16))).strain <= 1e-3
    turned = np.ascontiguousarray(value.transpose(1, 0, 2)).reshape(12, 16)
    assert judge_tap(expected, sketch("tap", turned)).strain > 100
    assert math.isinf(judge_tap(expected, sketch("tap", value.transpose(1, 0, 2))).strain)
