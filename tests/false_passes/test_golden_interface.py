"""``golden check`` without PyTorch: the numbers of the recorded cases are right, the file is not.

Every way is tried twice: against a golden that holds the interface of the file that was judged, and
against one that was recorded before goldens held it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter import cli
from exporter.golden.check import check_golden
from exporter.golden.compare_interface import interface_of
from exporter.golden.outcome import State
from exporter.golden.store import read_golden, write_golden
from exporter.graph.index import index_graph
from exporter.report.golden_check import golden_lines
from tests.false_passes.way import Told, way
from tests.golden import made

Change = Callable[[onnx.ModelProto], object]
OLD, NEW = "recorded before interfaces were", "with the interface"
both = pytest.mark.parametrize("recorded", [OLD, NEW])


def told(folder: Path, recorded: str, change: Change, text: str = made.TEXT) -> Told:
    """What a check says of the changed file; the command must end with the same code."""
    pipeline = made.pipeline(folder, text)
    golden = made.golden(folder, pipeline)
    if recorded == NEW:
        golden = replace(golden, interface=interface_of(index_graph(made.model(), folder)))
    write_golden(golden, folder / "golden" / "made")
    model = made.model()
    change(model)
    path = made.write_onnx(folder, model)
    outcome = check_golden(pipeline, folder / "golden" / "made", path)
    arguments = ["golden", "check", str(folder / "made.yaml"), "--onnx", str(path)]
    arguments += ["--golden-dir", str(folder / "golden"), "--output-dir", str(folder / "out")]
    assert cli.main([*arguments, "--quiet"]) == outcome.exit_code
    return Told(exit_code=outcome.exit_code, text="\n".join(golden_lines(outcome)))


def fix(value: onnx.ValueInfoProto, axis: int, size: int) -> None:
    value.type.tensor_type.shape.dim[axis].dim_value = size


@both
def test_the_recorded_file_is_the_same(tmp_path: Path, recorded: str):
    found = told(tmp_path, recorded, lambda model: None)
    assert found.exit_code == 0 and "interface" not in found.text


@both
def test_other_names_of_axes_and_an_input_with_a_value_are_no_difference(
    tmp_path: Path, recorded: str
):
    def rename(model: onnx.ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "rows"
        # As files were written before IR version 4: each weight is an input that has a value.
        shape = list(model.graph.initializer[0].dims)
        model.graph.input.append(helper.make_tensor_value_info("W1", TensorProto.FLOAT, shape))

    assert told(tmp_path, recorded, rename).exit_code == 0


ONE = made.TEXT.replace(
    "  - {name: two, random: {x: {kind: normal, seed: 2, shape: [7, 64]}}}\n", ""
)


@both
@way("an input axis is fixed to the size of the only case", says="axis 0 ('N') is fixed to 40")
def test_input_axis_fixed(tmp_path: Path, recorded: str) -> Told:
    return told(tmp_path, recorded, lambda m: fix(m.graph.input[0], 0, 40), ONE)


@both
@way("an axis of an output is fixed to the size of a case", says="output 'ids': axis 0")
def test_output_axis_fixed(tmp_path: Path, recorded: str) -> Told:
    return told(tmp_path, recorded, lambda m: fix(m.graph.output[1], 0, 40))


@way("an axis of an output is fixed, and there is one case", says="is fixed to 40")
def test_output_axis_fixed_with_one_case(tmp_path: Path) -> Told:
    return told(tmp_path, NEW, lambda m: fix(m.graph.output[1], 0, 40), ONE)


@both
@way("the file is written in another opset", says="opset 17, recorded was 18")
def test_another_opset(tmp_path: Path, recorded: str) -> Told:
    def older(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = 17

    return told(tmp_path, recorded, older)


@both
@way("a node under another name, in a file that says nothing of itself", says="'hidden' is gone")
def test_another_name_hides_no_weight(tmp_path: Path, recorded: str) -> Told:
    def hidden(model: onnx.ModelProto) -> None:
        weight = numpy_helper.to_array(model.graph.initializer[0]).copy()
        weight[0, 0] = np.nextafter(weight[0, 0], np.float32(9))
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "W1"))
        model.graph.node[0].output[0] = model.graph.node[1].input[0] = "renamed"

    return told(tmp_path, recorded, hidden)


@both
@way("the file gives one output more", says="gives the output 'hidden', which was not recorded")
def test_one_output_more(tmp_path: Path, recorded: str) -> Told:
    value = helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["N", 96])
    return told(tmp_path, recorded, lambda m: m.graph.output.append(value))


@both
@way("the file lacks an output", says="the output 'ids' is gone")
def test_one_output_less(tmp_path: Path, recorded: str) -> Told:
    return told(tmp_path, recorded, lambda m: m.graph.output.pop())


@both
@way("the file needs one input more", says="needs the input 'gain', which was not recorded")
def test_one_input_more(tmp_path: Path, recorded: str) -> Told:
    def more(model: onnx.ModelProto) -> None:
        model.graph.input.append(helper.make_tensor_value_info("gain", TensorProto.FLOAT, [1]))

    return told(tmp_path, recorded, more)


@both
@way("the input has another name", says="the input 'x' is gone (it takes features)")
def test_another_input_name(tmp_path: Path, recorded: str) -> Told:
    def rename(model: onnx.ModelProto) -> None:
        model.graph.input[0].name = model.graph.node[0].input[0] = "features"

    return told(tmp_path, recorded, rename)


@both
@way("an input has another type", says="input 'x' is float64, recorded was float32")
def test_another_input_type(tmp_path: Path, recorded: str) -> Told:
    def double(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
        model.graph.node[0].input[0] = "single"
        cast = helper.make_node("Cast", ["x"], ["single"], to=TensorProto.FLOAT)
        model.graph.node.insert(0, cast)

    return told(tmp_path, recorded, double)


@both
@way("an input has one axis more", says="input 'x' has 3 axes, recorded were 2")
def test_another_input_rank(tmp_path: Path, recorded: str) -> Told:
    def deeper(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim.add(dim_param="T")
        model.graph.initializer.append(numpy_helper.from_array(np.array([-1, 64]), "flat"))
        model.graph.node[0].input[0] = "flat_x"
        model.graph.node.insert(0, helper.make_node("Reshape", ["x", "flat"], ["flat_x"]))

    return told(tmp_path, recorded, deeper)


@both
@way("a fixed axis of an input became dynamic", says="axis 1 is any size, recorded was 64")
def test_fixed_axis_became_dynamic(tmp_path: Path, recorded: str) -> Told:
    def loosen(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "bins"

    return told(tmp_path, recorded, loosen)


@both
@way("discrete outputs have another integer type", says="output 'ids' is int32, recorded was int64")
def test_another_output_type(tmp_path: Path, recorded: str) -> Told:
    def narrow(model: onnx.ModelProto) -> None:
        model.graph.node[3].output[0] = "wide"
        model.graph.node.append(helper.make_node("Cast", ["wide"], ["ids"], to=TensorProto.INT32))
        model.graph.output[1].type.tensor_type.elem_type = TensorProto.INT32

    return told(tmp_path, recorded, narrow)


@way("outputs come in another order", says="another order: ids, scores; recorded was scores, ids")
def test_another_order_of_outputs(tmp_path: Path) -> Told:
    def swap(model: onnx.ModelProto) -> None:
        first = onnx.ValueInfoProto()
        first.CopyFrom(model.graph.output[0])
        del model.graph.output[0]
        model.graph.output.append(first)

    return told(tmp_path, NEW, swap)


def test_a_golden_keeps_its_interface_and_old_ones_are_read(tmp_path: Path):
    golden = made.golden(tmp_path, made.pipeline(tmp_path))
    assert write_golden(golden, tmp_path / "old").interface is None
    held = interface_of(index_graph(made.model(), tmp_path))
    write_golden(replace(golden, interface=held), tmp_path / "new")
    assert read_golden(tmp_path / "new").interface == held


def test_cases_that_cannot_run_are_named_and_not_run(tmp_path: Path):
    pipeline = made.pipeline(tmp_path)
    write_golden(made.golden(tmp_path, pipeline), tmp_path / "golden")
    model = made.model()
    model.graph.input.append(helper.make_tensor_value_info("gain", TensorProto.FLOAT, [1]))
    outcome = check_golden(pipeline, tmp_path / "golden", made.write_onnx(tmp_path, model))
    assert [case.state for case in outcome.cases] == [State.MOVED] * 3
    assert [case.case for case in outcome.cases] == ["(interface)", "one", "two"]
    assert all("not run" in case.reason for case in outcome.cases[1:])
