"""Ways to be excused by a kernel, by a tie, by an order of summation or by a shared NaN."""

from __future__ import annotations

import numpy as np
import onnx

from exporter.core.tensors import Case
from exporter.judge.guilty_stage import culprit_records, to_blame
from exporter.judge.layer_results import LayerLink
from exporter.parity.status import worst
from tests.false_passes.way import Told, way
from tests.faults.editor import Editor
from tests.judge.test_graph_or_kernel import long_norm, long_sum, sum_case, walk
from tests.test_layers import X, behind, best, masked_mean


def told(link: LayerLink) -> Told:
    """The answer of a run whose layers are these: exit 0 for what passes, and its words."""
    records = culprit_records(to_blame(link, failed=True), link="layers", stage="export")
    status = worst(tap.status for tap in link.taps if tap.local is not None)
    good = status in ("pass", "finding") and not link.culprits
    return Told(
        exit_code=0 if good else 1,
        text="; ".join(f"{r.stage} {r.op}: {r.reason} [{r.cause}]" for r in records) or status,
    )


@way("a wrong weight in a layer whose kernel loses digits anyway", says="[graph]")
def test_weight_beside_a_kernel_s_loss():
    edit = Editor(long_norm(small=True).model, long_norm(small=True).program)
    edit.store("norm.weight", edit.array("norm.weight") * np.float32(1.01))
    return told(walk(long_norm(small=True), edit.model))


@way("a weight rounded to float16, which float64 arithmetic would hide", says="[graph]")
def test_rounded_weight():
    edit = Editor(long_norm().model, long_norm().program)
    rounded = (edit.array("norm.weight") * np.float32(1.1)).astype(np.float16)
    edit.store("norm.weight", rounded.astype(np.float32))
    return told(walk(long_norm(), edit.model, length=64))


@way("a cast to float16 inside a layer, widened away by the second opinion", says="[graph]")
def test_cast_inside():
    edit = Editor(long_norm().model, long_norm().program)
    node = next(n for n in edit.graph.node if n.op_type == "InstanceNormalization")
    half = edit.add_before(node, "Cast", [node.input[0]], to=onnx.TensorProto.FLOAT16)
    node.input[0] = edit.add_before(node, "Cast", [half], to=onnx.TensorProto.FLOAT)
    return told(walk(long_norm(), edit.model, length=64))


@way("decisions that a kernel's loss turns over, as a finding", says="kernel")
def test_decision_behind_a_kernel_s_loss():
    return told(walk(long_norm(decides=True)))


@way("an output that a kernel moves beyond its limit, as a finding", says="loses digits")
def test_output_of_a_kernel_s_loss():
    return told(walk(long_norm()))


@way("a wrong term in a long sum, excused by the order of summation", says="[graph]")
def test_wrong_term():
    edit = Editor(long_sum().model, long_sum().program)
    node = next(n for n in edit.graph.node if n.op_type == "CumSum")
    wrong = edit.constant(np.float32(2e-7))
    node.input[0] = edit.add_before(node, "Add", [node.input[0], wrong])
    return told(long_sum().judge(edit.model, cases=(sum_case(),)))


@way("indices that are off by one, among equal values", says="differ")
def test_wrong_index_among_ties():
    toy = best()
    edit = Editor(toy.model, toy.program)
    behind(edit.model, "i", "Add", edit.constant(np.int64(1)))
    return told(toy.judge(edit.model, cases=(Case(name="c", inputs={"x": X}, origin=""),)))


@way("one index three times, where three values are equal", says="margin nan")
def test_one_index_three_times():
    toy = best()
    edit = Editor(toy.model, toy.program)
    first = edit.constant(np.int64([0]))
    behind(edit.model, "i", "Gather", first)
    node = next(n for n in edit.graph.node if n.op_type == "Gather" and "i" in n.output)
    node.attribute.append(onnx.helper.make_attribute("axis", 1))
    node.input[1] = edit.constant(np.int64([0, 0, 0]))
    return told(toy.judge(edit.model, cases=(Case(name="c", inputs={"x": X}, origin=""),)))


@way("NaN that all sides share, at an output", says="NaN")
def test_shared_nan_at_an_output():
    return told(masked_mean(shown=True))
