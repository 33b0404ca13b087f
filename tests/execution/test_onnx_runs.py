"""Sessions as a user would open them, and onnxruntime's errors in our words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exporter.core.errors import ArtifactError, OnnxStoppedError, UserInputError
from exporter.execution import onnx_runs
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import FileRun, run_model
from exporter.execution.ort_session import LEVELS
from exporter.execution.providers import check_provider, present_providers
from tests.support.toys import mixed, mixed_case


def reshaping() -> onnx.ModelProto:
    """Takes any number of elements, and stops unless there are four."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    nodes = [
        helper.make_node("Constant", [], ["shape"], value_ints=[2, 2]),
        helper.make_node("Reshape", ["x", "shape"], ["y"], name="to_square"),
    ]
    graph = helper.make_graph(nodes, "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


@pytest.mark.parametrize("level", LEVELS)
def test_every_optimisation_level_agrees(tmp_path: Path, level: str):
    path, inputs = saved(mixed().model, tmp_path), mixed_case().inputs
    found = FileRun(path, Deployment(threads=1, level=level)).run(inputs)
    assert found.keys() == {"y", "kept", "best"}
    plain = run_model(mixed().model, inputs, Deployment(threads=1, level="disable"))
    np.testing.assert_allclose(found["y"], plain["y"], atol=1e-5)


def test_inputs_that_the_file_lacks_are_left_out(tmp_path: Path):
    run = FileRun(saved(mixed().model, tmp_path))
    inputs = {**mixed_case().inputs, "language": np.array(3)}
    assert run.inputs == ("x",)
    assert run.run(inputs)["y"].size


def test_strided_inputs_are_taken_as_they_read(tmp_path: Path):
    run, x = FileRun(saved(mixed().model, tmp_path)), mixed_case().inputs["x"]
    turned = np.asfortranarray(x)
    assert np.array_equal(run.run({"x": turned})["y"], run.run({"x": x})["y"])


def test_outputs_do_not_hold_the_memory_of_their_session(tmp_path: Path):
    run = FileRun(saved(mixed().model, tmp_path), Deployment(threads=1))
    found = run.run(mixed_case().inputs)
    assert all(value.flags.owndata and value.base is None for value in found.values())


def test_a_file_that_is_refused_says_why(tmp_path: Path):
    model = reshaping()
    model.graph.node[1].op_type = "NoSuchOp"
    with pytest.raises(ArtifactError, match=r"onnxruntime refuses the file: .*NoSuchOp"):
        FileRun(saved(model, tmp_path))


def test_a_run_that_stops_names_the_node(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    run = FileRun(saved(reshaping(), tmp_path))
    with pytest.raises(OnnxStoppedError, match="Reshape node 'to_square'") as caught:
        run.run({"x": np.zeros(5, np.float32)})
    assert "\x1b" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_this_machine_has_a_cpu_and_nothing_is_asked_for_that_it_lacks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    assert "cpu" in present_providers()
    for name in present_providers():
        FileRun(saved(mixed().model, tmp_path), Deployment(provider=name)).run(mixed_case().inputs)
    assert capfd.readouterr().err == ""


def test_a_provider_that_is_not_here_is_an_error_of_the_user(monkeypatch: pytest.MonkeyPatch):
    real = Path.exists
    monkeypatch.setattr(
        Path, "exists", lambda path: False if path.parts[1] == "dev" else real(path)
    )
    with pytest.raises(UserInputError, match=r"'cuda' is not present[^$]*this machine has: cpu"):
        check_provider("cuda")
    with pytest.raises(UserInputError, match="unknown provider 'tpu'"):
        check_provider("tpu")


def test_a_deployment_has_a_name_for_tables():
    assert Deployment(threads=2).label() == "cpu/all/2 thread(s)"
    assert Deployment(level="basic").label() == "cpu/basic/default threads"


def with_large_weights() -> onnx.ModelProto:
    """Two products by 512 x 512, too large to lie in the graph when it is read in place."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 512])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 512])
    drawn = np.random.default_rng(5).standard_normal((2, 512, 512)).astype(np.float32)
    weights = [onnx.numpy_helper.from_array(w, f"w{k}") for k, w in enumerate(drawn)]
    nodes = [helper.make_node("MatMul", ["x", "w0"], ["h"]), helper.make_node("Tanh", ["h"], ["t"])]
    nodes += [helper.make_node("MatMul", ["t", "w1"], ["y"])]
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("outside", [False, True])
def test_a_file_that_is_loaded_again_is_the_same_and_its_weights_stay_where_they_are(
    tmp_path: Path, outside: bool, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "m.onnx"
    onnx.save(with_large_weights(), path, save_as_external_data=outside, location="m.data")
    x = np.random.default_rng(6).standard_normal((7, 512)).astype(np.float32)
    given: list[Path | onnx.ModelProto] = []
    opened = onnx_runs.open_session

    def open_session(model, *rest):
        given.append(model)
        return opened(model, *rest)

    monkeypatch.setattr(onnx_runs, "open_session", open_session)
    for threads in (1, 2):
        first, again = (
            FileRun(path, Deployment(threads=threads), again=again).run({"x": x})["y"]
            for again in (False, True)
        )
        assert np.array_equal(first, again)
    assert given[0] == path and isinstance(given[1], onnx.ModelProto)
    assert given[1].ByteSize() < 2_000  # two megabytes of weights


def test_a_link_to_a_file_elsewhere_is_loaded_again(tmp_path: Path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    onnx.save(with_large_weights(), tmp_path / "blobs" / "1f2e")
    link = tmp_path / "snapshot" / "m.onnx"
    link.symlink_to("../blobs/1f2e")
    assert FileRun(link, again=True).outputs == ("y",)


def test_a_file_that_is_gone_cannot_be_loaded_again(tmp_path: Path):
    with pytest.raises(ArtifactError, match="no such ONNX file"):
        FileRun(tmp_path / "m.onnx", again=True)
