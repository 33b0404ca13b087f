"""A file of somebody else that kills onnxruntime ends in a sentence, not with this process."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter import cli
from exporter.core.errors import ArtifactError
from exporter.core.tensors import Case
from exporter.execution import onnx_windows, trial
from exporter.execution.deployment import Deployment
from exporter.execution.trial import Limits, try_file
from exporter.golden.store import write_golden
from exporter.graph.certificate import is_own
from exporter.graph.index import index_graph
from tests.golden import made

CASE = Case(name="one", inputs={"x": np.ones((2, 64), np.float32)}, origin="made")
CPU = Deployment(threads=1)


def constant(name: str, value: object, dtype: type) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, dtype), name)


def adding(*nodes: onnx.NodeProto, held: tuple[onnx.TensorProto, ...]) -> onnx.ModelProto:
    """The made model, and beside it nodes that nothing of it reads; ``late`` is an output."""
    model = made.model()
    model.graph.initializer.extend(held)
    model.graph.node.extend(nodes)
    model.graph.output.append(helper.make_empty_tensor_value_info("late"))
    return model


SMALLEST = (constant("smallest", -(2**63), np.int64), constant("minus", -1, np.int64))


def dies_as_it_is_loaded() -> onnx.ModelProto:
    """The smallest integer divided by -1 is no integer: the processor stops the process."""
    return adding(helper.make_node("Div", ["smallest", "minus"], ["late"]), held=SMALLEST)


def dies_as_it_is_run() -> onnx.ModelProto:
    return adding(
        helper.make_node("Cast", ["ids"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Mul", ["whole", "none"], ["nothing"]),
        helper.make_node("Add", ["nothing", "smallest"], ["lowest"]),
        helper.make_node("Div", ["lowest", "minus"], ["late"]),
        held=(*SMALLEST, constant("none", 0, np.int64)),
    )


def takes_memory() -> onnx.ModelProto:
    return adding(
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Mul", ["sizes", "many"], ["huge"]),
        helper.make_node("ConstantOfShape", ["huge"], ["late"]),
        held=(constant("many", [100_000, 100], np.int64),),
    )


def never_ends() -> onnx.ModelProto:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Add", ["v", "v"], ["w"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["trips", "yes", "active"], ["late"], body=body)
    trips = constant("trips", 2**60, np.int64)
    return adding(loop, held=(trips, constant("yes", True, np.bool_)))


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    return made.write_onnx(folder, model, "given.onnx")


def refused(folder: Path, model: onnx.ModelProto, **limits: float) -> str:
    with pytest.raises(ArtifactError) as caught:
        try_file(saved(folder, model), [CPU], [CASE], limits=Limits(**limits))  # type: ignore
    assert caught.value.remedy
    return caught.value.problem


def test_a_healthy_file_passes_and_one_that_is_refused_is_not_judged_here(tmp_path: Path):
    try_file(saved(tmp_path, made.model()), [CPU], [CASE])
    model = made.model()
    model.graph.node[1].op_type = "NoSuchOperator"
    try_file(saved(tmp_path, model), [CPU], [CASE])


def test_an_input_may_have_any_name(tmp_path: Path):
    model = dies_as_it_is_run()
    model.graph.input[0].name = model.graph.node[0].input[0] = "file"
    case = Case(name="one", inputs={"file": CASE.inputs["x"]}, origin="made")
    with pytest.raises(ArtifactError, match="as it ran the case 'one'"):
        try_file(saved(tmp_path, model), [CPU], [case])


def test_death_while_loading_and_while_running_are_told_apart(tmp_path: Path):
    assert "died of SIGFPE as it loaded the file" in refused(tmp_path, dies_as_it_is_loaded())
    assert "died of SIGFPE as it ran the case 'one'" in refused(tmp_path, dies_as_it_is_run())


def test_time_and_memory_have_limits_that_are_named(tmp_path: Path):
    said = refused(tmp_path, never_ends(), step_seconds=4.0)
    assert "did not end within 4 s as it ran the case 'one'" in said
    said = refused(tmp_path, takes_memory(), bytes=1 << 30)
    assert "took more than the 1.0 GiB of memory that are free" in said


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "died of SIGSEGV"),
        ("import os; os.abort()", "died of SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "short of memory"),
        ("import os; os._exit(0)", "ended with exit code 0, without a word"),
        ("import os; os._exit(7)", "ended with exit code 7"),
    ],
)
def test_every_other_end_of_the_child_is_said(tmp_path: Path, code: str, words: str):
    path = saved(tmp_path, made.model())
    with pytest.raises(ArtifactError, match=words):
        try_file(path, [CPU], [CASE], command=[sys.executable, "-c", code])


def test_its_pieces_are_tried_as_well_each_in_a_graph_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What is compared layer by layer are pieces of the file: they die in the child, too."""
    built = []

    def session(window, *rest):
        built.append([node.op_type for node in window.model.graph.node])
        return made_session(window, *rest)

    made_session = onnx_windows.WindowRun
    monkeypatch.setattr(onnx_windows, "WindowRun", session)
    trial._run_pieces(index_graph(made.model(), tmp_path), CASE.inputs, CPU)
    assert built == [["MatMul"], ["Relu"], ["MatMul"], ["ArgMax"]]
    dies = "import os, sys; sys.path.insert(0, sys.argv[1]); from exporter.execution import trial, "
    dies += "onnx_windows; onnx_windows.WindowRun = lambda *held: os.abort(); "
    command = [sys.executable, "-P", "-c", dies + "trial.child(sys.argv[2])", str(trial._ROOT)]
    with pytest.raises(ArtifactError, match="died of SIGABRT as it ran pieces of it on the case"):
        try_file(saved(tmp_path, made.model()), [CPU], [CASE], command=command)


def test_a_certified_file_is_our_own_until_it_is_changed(tmp_path: Path):
    assert not is_own(saved(tmp_path, made.model()))


@pytest.mark.parametrize("model", [dies_as_it_is_loaded, dies_as_it_is_run])
def test_golden_check_ends_with_exit_2_and_a_sentence(tmp_path: Path, model, capsys):
    pipeline = made.pipeline(tmp_path)
    write_golden(made.golden(tmp_path, pipeline), tmp_path / "golden" / "made")
    arguments = ["golden", "check", str(tmp_path / "made.yaml"), "--quiet"]
    arguments += ["--golden-dir", str(tmp_path / "golden"), "--output-dir", str(tmp_path / "out")]
    assert cli.main([*arguments, "--onnx", str(saved(tmp_path, model()))]) == 2
    said = capsys.readouterr().err
    assert "onnxruntime died of SIGFPE" in said and "in a process of its own" in said


def test_verify_ends_with_exit_2_and_a_sentence(tmp_path: Path, capsys):
    from tests.support import toy_project

    yaml = toy_project.project(tmp_path / "toy")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "frames", 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "frames", 16])
    nodes = [
        helper.make_node("Div", ["smallest", "minus"], ["late"]),
        helper.make_node("Identity", ["x"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [x], [y, helper.make_empty_tensor_value_info("late")])
    graph.initializer.extend(SMALLEST)
    path = tmp_path / "given.onnx"
    imports = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), path)
    arguments = ["verify", str(yaml), "--trust", "--quiet", "--threads", "1"]
    code = cli.main([*arguments, "--onnx", str(path), "--output-dir", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert code == 2 and "onnxruntime died of SIGFPE as it loaded the file" in said
