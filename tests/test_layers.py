"""Which layer is named, on a small module: local errors, culprits, ambiguity, bad values."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from exporter.core.tensors import COMPARED, Case
from exporter.judge.layer_results import JudgedTap, LayerLink
from exporter.judge.report_records import culprit_record
from exporter.parity.measurement import Measurement
from exporter.parity.status import Status
from tests.faults.editor import Editor
from tests.support.toys import WIDTH, Toy, floats, make_toy, mixed, mixed_case, spec

CASE = mixed_case()


def editor() -> Editor:
    return Editor(mixed().model, mixed().program)


def culprits(link: LayerLink) -> list[str]:
    return [culprit.tap.planned.tap.module for culprit in link.culprits]


def tap(link: LayerLink, module: str, op: str) -> JudgedTap:
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


@pytest.mark.parametrize(
    ("second", "key", "order"),
    [(1e-1, 1e-3, ["second", "attention.key"]), (1e-3, 1e-1, ["attention.key", "second"])],
)
def test_two_faults_are_two_culprits_the_worse_one_first(second: float, key: float, order: list):
    edit = editor()
    linear_weight(edit, "second", second)
    linear_weight(edit, "attention.key", key)
    link = mixed().judge(edit.model, cases=(CASE,))
    assert culprits(link) == order


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
    from exporter.execution.deployment import Deployment
    from exporter.judge.layers import judge_layers
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


class Angle(nn.Module):
    """A running sum and, behind it in the same layer, an angle."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cumsum(x, 1)
        return torch.atan2(y, x) * 2.0


def test_the_worse_op_of_a_layer_is_not_hidden_by_one_in_front_of_it():
    toy = make_toy(
        Angle(),
        {"x": torch.randn(2, 9)},
        (floats("x", "batch", "steps"),),
        (floats("y", "batch", "steps"),),
    )
    edit = Editor(toy.model, toy.program)
    total, angle = edit.tap("", "cumsum"), edit.tap("", "atan2")
    behind(edit.model, total, "Mul", edit.constant(np.float32(1 + 1e-5)))
    behind(edit.model, angle, "Add", edit.constant(np.float32(6.28)))
    link = toy.judge(edit.model, cases=(Case(name="c", inputs={"x": np.random.default_rng(0)
        .standard_normal((2, 9)).astype(np.float32)}, origin=""),))  # fmt: skip
    (culprit,) = link.culprits
    assert culprit.tap.planned.tap.op == "aten.atan2.default"
    assert [other.planned.tap.op for other in culprit.others] == ["aten.cumsum.default"]
    record = culprit_record(culprit, link="layers", stage="export")
    assert record.op == "aten.atan2.default" and "aten.cumsum.default" in record.reason


def behind(model: onnx.ModelProto, name: str, op: str, operand: str) -> None:
    """Put a node behind the one that computes ``name``; the value keeps its name."""
    nodes = list(model.graph.node)
    at = next(i for i, node in enumerate(nodes) if name in node.output)
    nodes[at].output[:] = [f"{value}.before" if value == name else value
                           for value in nodes[at].output]  # fmt: skip
    made = onnx.helper.make_node(op, [f"{name}.before", operand], [name])
    del model.graph.node[:]
    model.graph.node.extend([*nodes[: at + 1], made, *nodes[at + 1 :]])


class Best(nn.Module):
    """The largest of values with ties, by value and by place."""

    def __init__(self, rounded: bool = True) -> None:
        super().__init__()
        self.rounded = rounded

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.round(x) if self.rounded else x + 1
        return torch.topk(y, 3, dim=1)


def best(rounded: bool = True) -> Toy:
    return make_toy(
        Best(rounded),
        {"x": torch.randn(3, 40)},
        (floats("x", "batch", 40),),
        (floats("v", "batch", 3), spec("i", "int64", "batch", 3)),
    )


X = np.random.default_rng(1).standard_normal((3, 40)).astype(np.float32)


def test_which_of_equal_values_comes_first_is_not_defined():
    link = best().judge(cases=(Case(name="ties", inputs={"x": X}, origin=""),))
    assert link.culprits == ()
    found = [t for t in link.taps if t.status is Status.AMBIGUOUS]
    assert [t.planned.onnx_name for t in found] == ["i"]
    assert found[0].local is not None and found[0].propagated is not None
    for judged in (found[0].local, found[0].propagated):
        assert "equal values: which comes first is not defined" in judged.verdict.reason


@pytest.mark.parametrize("rounded", [True, False])
def test_another_index_is_no_tie(rounded: bool):
    """Every index is moved by one: among ties as well as without any, that is wrong."""
    toy = best(rounded)
    edit = Editor(toy.model, toy.program)
    behind(edit.model, "i", "Add", edit.constant(np.int64(1)))
    link = toy.judge(edit.model, cases=(Case(name="c", inputs={"x": X}, origin=""),))
    assert len(link.culprits) == 1


def test_without_ties_a_choice_passes():
    link = best(rounded=False).judge(cases=(Case(name="c", inputs={"x": X}, origin=""),))
    assert {t.status for t in link.taps if t.planned.fate == COMPARED} == {Status.PASS}


class Lines(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        z = torch.fft.rfft(x, dim=1)
        return torch.log1p(z.abs())


def test_complex_values_are_compared_inside():
    toy = make_toy(
        Lines(),
        {"x": torch.randn(2, 32)},
        (floats("x", "batch", "samples"),),
        (floats("y", "batch", "bins"),),
    )
    case = Case(name="c", inputs={"x": X[:, :32]}, origin="")
    link = toy.judge(cases=(case,))
    assert link.culprits == ()
    lines = tap(link, "", "aten._fft_r2c.default")
    assert lines.local is not None and lines.local.measurement.pairs
    assert lines.status is Status.PASS
    edit = Editor(toy.model, toy.program)
    conjugate = edit.constant(np.array([1.0, -1.0], np.float32))
    behind(edit.model, edit.tap("", "_fft_r2c"), "Mul", conjugate)
    assert [c.tap.planned.tap.op for c in toy.judge(edit.model, cases=(case,)).culprits] == [
        "aten._fft_r2c.default"
    ]


class MaskedMean(nn.Module):
    """Means of rows of which some are masked out; another value stands for those."""

    def __init__(self, *, shown: bool = False) -> None:
        super().__init__()
        self.shown = shown

    def forward(self, x: Tensor) -> Tensor:
        keep = x > 1.5
        mean = (x * keep).sum(1) / keep.sum(1)
        return mean if self.shown else torch.where(keep.any(1), mean, -1.0)


def masked_mean(*, shown: bool) -> LayerLink:
    toy = make_toy(
        MaskedMean(shown=shown),
        {"x": torch.randn(3, 5)},
        (floats("x", "batch", "steps"),),
        (floats("y", "batch"),),
    )
    x = np.zeros((3, 5), np.float32)
    x[0, :3] = 2.0
    return toy.judge(cases=(Case(name="one row", inputs={"x": x}, origin=""),))


def test_nan_of_a_masked_mean_is_no_failure_while_no_output_shows_it():
    link = masked_mean(shown=False)
    assert link.culprits == ()
    mean = tap(link, "", "aten.div.Tensor")
    assert mean.status is Status.PASS
    assert mean.local is not None and mean.local.measurement.nan_actual == 2
    assert "NaN at the same places" in mean.local.verdict.reason


def test_nan_at_an_output_always_fails():
    assert masked_mean(shown=True).culprits


def test_nan_on_one_side_alone_fails_inside_as_well():
    toy = make_toy(
        MaskedMean(),
        {"x": torch.randn(3, 5)},
        (floats("x", "batch", "steps"),),
        (floats("y", "batch"),),
    )
    edit = Editor(toy.model, toy.program)
    mean = edit.tap("", "div")
    behind(edit.model, mean, "Where", edit.constant(np.float32(0)))
    node = next(n for n in edit.graph.node if n.op_type == "Where" and mean in n.output)
    zero = node.input[1]
    node.input[:] = [edit.add_before(node, "IsNaN", [f"{mean}.before"]), zero, f"{mean}.before"]
    x = np.zeros((3, 5), np.float32)
    x[0, :3] = 2.0
    link = toy.judge(edit.model, cases=(Case(name="one row", inputs={"x": x}, origin=""),))
    assert [c.tap.planned.tap.op for c in link.culprits] == ["aten.div.Tensor"]


class Shown(nn.Module):
    """Probabilities far from a half, looked at in other shapes."""

    def forward(self, x: Tensor) -> Tensor:
        p = torch.sigmoid(x - 14)
        return torch.stack([p.transpose(0, 1).unflatten(0, (-1, 2))[:, :, :2], p[:2, ::2].T[:, None]
                            .expand(-1, 2, -1)]) * 1.0  # fmt: skip


def test_what_shows_a_sigmoid_has_its_range_as_scale():
    toy = make_toy(
        Shown(),
        {"x": torch.randn(3, 40)},
        (floats("x", "batch", 40),),
        (floats("y", 2, 20, 2, 2),),
    )
    x = np.random.default_rng(0).standard_normal((3, 40)).astype(np.float32)
    link = toy.judge(cases=(Case(name="c", inputs={"x": x}, origin=""),))
    held = {t.planned.tap.op: t for t in link.taps if t.propagated}
    for op in ("aten.sigmoid.default", "aten.transpose.int", "aten.slice.Tensor",
               "aten.expand.default", "aten.stack.default"):  # fmt: skip
        judged = held[op].propagated
        assert judged is not None
        assert judged.measurement.natural_scale == 1.0, op
        assert held[op].status is Status.PASS
    product = held["aten.mul.Tensor"].propagated
    assert product is not None and product.measurement.natural_scale is None


class Folded(nn.Module):
    """A table that a simplifier computes once, repeated for every row."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 9))

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(self.weight).repeat(x.shape[0], 1) + x


@pytest.mark.parametrize(("ulps", "passes"), [(1, True), (2000, False)])
def test_a_constant_that_was_folded_has_a_limit_and_what_it_is_moved_to_as_well(
    ulps: int, passes: bool
):
    toy = make_toy(
        Folded(),
        {"x": torch.randn(3, 9)},
        (floats("x", "batch", 9),),
        (floats("y", "batch", 9),),
    )
    edit = Editor(toy.model, toy.program)
    name = edit.tap("", "exp")
    table = np.exp(edit.array("weight").astype(np.float64)).astype(np.float32)
    table += np.float32(ulps) * np.spacing(table)
    edit.graph.node.remove(next(n for n in edit.graph.node if name in n.output))
    edit.graph.initializer.append(onnx.numpy_helper.from_array(table, name))
    x = np.random.default_rng(0).standard_normal((3, 9)).astype(np.float32)
    link = toy.judge(edit.model, cases=(Case(name="c", inputs={"x": x}, origin=""),))
    assert (not link.culprits) is passes
    assert tap(link, "", "aten.repeat.default").planned.fate == COMPARED
