"""Which layer is named, on a small module: local errors, culprits, ambiguity, bad values."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from exporter.graph.taps import COMPARED
from exporter.layers import LayerLink, TapResult
from exporter.parity.measurement import Measurement
from exporter.parity.status import Status
from exporter.tensors import Case
from tests.faults.editor import Editor
from tests.support.toys import WIDTH, Toy, floats, make_toy, mixed, mixed_case, spec

CASE = mixed_case()


def editor() -> Editor:
    return Editor(mixed().model, mixed().program)


def culprits(link: LayerLink) -> list[str]:
    return [culprit.tap.planned.tap.module for culprit in link.culprits]


def tap(link: LayerLink, module: str, op: str) -> TapResult:
    for found in link.taps:
        if (found.planned.tap.module, found.planned.tap.op) == (module, op):
            return found
    raise LookupError(f"{module} {op}")


def linear_weight(edit: Editor, module: str, change: float) -> None:
    """Move one element of a layer's weight."""
    node = edit.behind(edit.tap(module, "linear"), "MatMul")
    held = edit.behind(node.input[1], "Transpose").input[0]
    weight = edit.array(held).copy()
    weight[0, 0] += change
    edit.store(held, weight)


@pytest.mark.parametrize("simplified", [False, True])
@pytest.mark.parametrize("budget", [1, 20_000, 1 << 24])
def test_a_clean_file_passes_with_any_budget(budget: int, simplified: bool):
    toy = mixed(simplified=simplified)
    link = toy.judge(cases=(CASE, mixed_case(1, batch=1, frames=1)), budget=budget)
    assert link.culprits == ()
    compared = [t for t in link.taps if t.planned.fate == COMPARED]
    assert len(compared) > 20
    assert {t.status for t in compared} == {Status.PASS}


def test_a_tap_that_was_not_compared_was_not_run():
    link = mixed(simplified=True).judge(cases=(CASE,))
    lost = [t for t in link.taps if t.planned.fate != COMPARED]
    assert lost
    assert {t.status for t in lost} == {Status.NOT_RUN}


@pytest.mark.parametrize("budget", [1, 1 << 24])
@pytest.mark.parametrize(
    "module", ["attention.query", "attention.value", "first", "second", "gate.score"]
)
def test_one_weight_element_accuses_its_layer_and_nobody_else(module: str, budget: int):
    edit = editor()
    linear_weight(edit, module, 1e-3)
    link = mixed().judge(edit.model, cases=(CASE,), budget=budget)
    assert culprits(link) == [module]
    assert link.culprits[0].local


def test_measurements_do_not_depend_on_the_budget():
    edit = editor()
    linear_weight(edit, "first", 1e-3)
    one, other = (mixed().judge(edit.model, cases=(CASE,), budget=b) for b in (1, 1 << 24))
    for left, right in zip(one.taps, other.taps, strict=True):
        assert left.status is right.status
        if left.local and right.local and left.local.measurement.actual:
            assert same(left.local.measurement, right.local.measurement), left.planned.tap.name


def same(left: Measurement, right: Measurement) -> bool:
    if left.actual is None or right.actual is None or left.actual.max_abs is None:
        return left.actual == right.actual
    return left.actual.max_abs == pytest.approx(right.actual.max_abs, rel=0.5, abs=1e-6)


def test_two_faults_are_two_culprits_in_order():
    edit = editor()
    linear_weight(edit, "second", 1e-3)
    linear_weight(edit, "attention.key", 1e-3)
    link = mixed().judge(edit.model, cases=(CASE,))
    assert culprits(link) == ["attention.key", "second"]


def test_what_lies_behind_a_culprit_fails_in_the_free_run_alone():
    edit = editor()
    linear_weight(edit, "attention.query", 0.1)
    link = mixed().judge(edit.model, cases=(CASE,))
    behind = tap(link, "first", "aten.linear.default")
    assert behind.local and behind.local.verdict.status is Status.PASS
    assert behind.propagated and behind.propagated.verdict.status is Status.FAIL
    before = tap(link, "norm", "aten.layer_norm.default")
    assert before.status is Status.PASS


def test_the_worst_case_is_kept_with_its_name():
    edit = editor()
    linear_weight(edit, "first", 1e-3)
    cases = tuple(mixed_case(seed) for seed in range(3))
    alone = {
        case.name: tap(mixed().judge(edit.model, cases=(case,)), "first", "aten.linear.default")
        for case in cases
    }
    together = tap(mixed().judge(edit.model, cases=cases), "first", "aten.linear.default").local
    strains = {n: t.local.verdict.strain for n, t in alone.items() if t.local}
    assert together is not None
    assert together.case == max(strains, key=lambda name: strains[name] or 0)


def test_a_lost_tap_is_named_behind_which_a_piece_fails():
    """The file has no value for ``first`` any more: the next one fails, and says so."""
    edit = editor()
    linear_weight(edit, "first", 1e-2)
    name = edit.tap("first", "linear")
    rename(edit.model, name, "somewhere_else")
    link = mixed().judge(edit.model, cases=(CASE,), expected_taps=frozenset({name}))
    (culprit,) = link.culprits
    assert culprit.tap.planned.tap.op == "aten.relu.default"
    assert [lost.tap.module for lost in culprit.lost] == ["first"]
    unexpected = mixed().judge(edit.model, cases=(CASE,))
    assert unexpected.culprits[0].lost == ()


def rename(model: onnx.ModelProto, name: str, other: str) -> None:
    for node in model.graph.node:
        node.input[:] = [other if value == name else value for value in node.input]
        node.output[:] = [other if value == name else value for value in node.output]


def test_a_piece_that_stops_is_the_culprit_and_the_others_pass():
    edit = editor()
    product = edit.behind(edit.tap("second", "linear"), "MatMul")
    edit.insert(product, 0, "Slice", [0], [31], [2])
    link = mixed().judge(edit.model, cases=(CASE,))
    assert culprits(link) == ["second"]
    assert "onnxruntime stopped" in link.culprits[0].tap.local.verdict.reason  # type: ignore[union-attr]
    others = [
        t.local.verdict.status for t in link.taps if t.local and t.planned.tap.module != "second"
    ]
    assert len(others) > 20
    assert set(others) == {Status.PASS}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_values_are_the_layer_s_own(bad: float):
    edit = editor()
    linear_weight(edit, "second", bad)
    link = mixed().judge(edit.model, cases=(CASE,))
    assert culprits(link) == ["second"]


def test_a_constant_that_was_changed_accuses_its_reader():
    edit = editor()
    node = edit.node("norm", "layer_norm")
    edit.set(node, epsilon=1e-2)
    assert culprits(mixed().judge(edit.model, cases=(CASE,))) == ["norm"]


class Threshold(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, x: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
        score = self.layer(x).squeeze(-1)
        above = score >= limit
        return torch.where(above, score + 1, score), above.sum()


@pytest.fixture(scope="module")
def threshold() -> Toy:
    return make_toy(
        Threshold(),
        {"x": torch.randn(5, 4), "limit": torch.zeros(())},
        (floats("x", "n", 4), floats("limit")),
        (floats("y", "n"), spec("count", "int64")),
    )


def on_the_edge(toy: Toy, share: float, *, above: float = 0.0) -> tuple[Case, onnx.ModelProto]:
    """A case whose best row scores the limit or a share above it, and a file that scores less."""
    x = np.random.default_rng(3).standard_normal((6, 4)).astype(np.float32)
    with torch.no_grad():
        scores = toy.module.get_submodule("layer")(torch.from_numpy(x)).squeeze(-1).numpy()
    best = scores.max()
    limit = np.float32(best - above * abs(best))
    case = Case(name="edge", inputs={"x": x, "limit": limit}, origin="by hand")
    edit = Editor(toy.model, toy.program)
    edit.store("layer.bias", edit.array("layer.bias") - share * abs(float(best)))
    return case, edit.model


def test_a_decision_within_rounding_is_ambiguous_and_so_is_everything_behind(threshold: Toy):
    case, model = on_the_edge(threshold, 2.0**-21)
    link = threshold.judge(model, cases=(case,))
    ge = tap(link, "", "aten.ge.Tensor")
    assert ge.propagated is not None
    assert ge.propagated.verdict.status is Status.AMBIGUOUS
    for found in link.taps:
        if found.planned.output:
            assert found.propagated is not None
            assert found.propagated.verdict.status is Status.AMBIGUOUS
            assert "behind an ambiguous decision" in found.propagated.verdict.reason


def test_a_decision_beyond_rounding_is_a_failure(threshold: Toy):
    case, model = on_the_edge(threshold, 1e-2, above=5e-3)
    link = threshold.judge(model, cases=(case,))
    assert culprits(link) == ["layer"]
    ge = tap(link, "", "aten.ge.Tensor")
    assert ge.propagated is not None
    assert ge.propagated.verdict.status is Status.FAIL


def test_the_decision_is_right_where_nothing_was_changed(threshold: Toy):
    case, _ = on_the_edge(threshold, 0.0)
    assert threshold.judge(cases=(case,)).culprits == ()


def test_where_the_time_went_is_told():
    seconds = mixed().judge(cases=(CASE,)).clock.seconds
    assert {"torch float32", "torch float64", "onnx free", "onnx forced", "session building",
            "wall"} <= seconds.keys()  # fmt: skip
    assert all(value >= 0 for value in seconds.values())


def test_progress_is_told_each_case():
    from exporter.execution.onnxruntime import Deployment
    from exporter.layers import judge_layers
    from exporter.parity.tolerance import Policy
    from tests.support.toys import index

    told: list[str] = []
    judge_layers(
        mixed().program,
        index(mixed().model),
        (CASE, mixed_case(5)),
        policy=Policy(),
        deployment=Deployment(threads=1),
        budget=1 << 24,
        progress=told.append,
    )
    assert told == ["seed_0", "seed_5"]
    assert WIDTH == 16
