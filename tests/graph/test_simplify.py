"""What the simplifier may do to a graph, and what it may not."""

from __future__ import annotations

import numpy as np
import onnx
import onnxsim
import pytest

from exporter.errors import StageError
from exporter.execution.onnxruntime import Deployment, run_model
from exporter.graph.simplify import Simplified, simplify
from tests.support.toys import mixed, mixed_case


def test_sizes_before_and_after_are_told(capfd: pytest.CaptureFixture[str]):
    before = mixed().model
    found = simplify(before)
    assert found.nodes_before == len(before.graph.node)
    assert found.nodes_after == len(found.model.graph.node) < found.nodes_before
    assert found.bytes_before > 0
    assert not found.grew
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_it_computes_the_same():
    inputs, deployment = mixed_case().inputs, Deployment(threads=1, level="disable")
    before = run_model(mixed().model, inputs, deployment)
    after = run_model(mixed(simplified=True).model, inputs, deployment)
    np.testing.assert_allclose(after["y"], before["y"], atol=1e-6)


def test_a_dropped_output_is_refused(monkeypatch: pytest.MonkeyPatch):
    def dropping(model: onnx.ModelProto, **_: object) -> tuple[onnx.ModelProto, bool]:
        result = onnx.ModelProto()
        result.CopyFrom(model)
        del result.graph.output[-1]
        return result, True

    monkeypatch.setattr(onnxsim, "simplify", dropping)
    with pytest.raises(StageError, match="onnxsim changed the outputs"):
        simplify(mixed().model)


def test_its_own_words_are_kept_when_it_fails(monkeypatch: pytest.MonkeyPatch):
    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("no shape for 'z'")

    monkeypatch.setattr(onnxsim, "simplify", failing)
    with pytest.raises(StageError, match="onnxsim failed: no shape for 'z'"):
        simplify(mixed().model)


@pytest.mark.parametrize(
    ("nodes", "weight_bytes", "grew"),
    [((10, 11), (100, 100), True), ((10, 9), (1000, 1009), False), ((10, 9), (1000, 1011), True)],
)
def test_growth_is_said(nodes: tuple[int, int], weight_bytes: tuple[int, int], grew: bool):
    found = Simplified(
        model=onnx.ModelProto(),
        nodes_before=nodes[0],
        nodes_after=nodes[1],
        bytes_before=weight_bytes[0],
        bytes_after=weight_bytes[1],
    )
    assert found.grew is grew
