"""Windows that a model makes while it runs are torch's own in the file, at every length."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from exporter.graph import windows
from tests.graph.repairs.models import holds, model

CASES = ([9, 2, 5, 1], [30], [3, 17])
FIXED = (
    "torch.hann_window(4)",
    "torch.hamming_window(4)",
    "torch.hamming_window(4, False)",
    "torch.hamming_window(4, True, 0.6)",
    "torch.hamming_window(4, periodic=False, alpha=0.6, beta=0.3)",
    "torch.blackman_window(4, dtype=torch.float64).float()",
    "torch.bartlett_window(4)",
    "torch.bartlett_window(4, periodic=False)",
    "torch.kaiser_window(4)",
    "torch.kaiser_window(4, periodic=False, beta=3.0)",
    "torch.hamming_window(4, dtype=torch.float16).float()",
    "torch.hamming_window(1).expand(4)",
)


@pytest.mark.parametrize("window", FIXED)
def test_a_window_of_a_fixed_length_has_torchs_own_bits(tmp_path, window):
    wrapped = model(tmp_path, f"return x * {window}", name="windowed")
    holds(wrapped, tmp_path, CASES)
    held = onnx.load(tmp_path / "model.onnx")
    assert not {node.op_type for node in held.graph.node} & {
        "HannWindow", "HammingWindow", "BlackmanWindow"
    }  # fmt: skip
    expected = eval(window, {"torch": torch}).numpy()
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (y,) = session.run(None, {"x": np.ones((1, 1, 4), np.float32), "x_lengths": np.array([1])})
    np.testing.assert_array_equal(y[0, 0], expected)


def test_every_overload_that_returns_a_window_is_translated():
    known = {str(overload) for overload in windows.TRANSLATIONS}
    for name in dir(torch.ops.aten):
        if name.endswith("_window"):
            packet = getattr(torch.ops.aten, name)
            plain = {each for each in packet.overloads() if not each.endswith("out")}
            assert {f"aten.{name}.{each}" for each in plain} <= known


GROWING = (
    "torch.hann_window({n})",
    "torch.hamming_window({n})",
    "torch.hamming_window({n}, periodic=False, alpha=0.6, beta=0.3)",
    "torch.blackman_window({n})",
    "torch.blackman_window({n}, periodic=False)",
    "torch.bartlett_window({n}, periodic=False)",
    "torch.hamming_window(window_length={n}, dtype=torch.float64).float()",
)


@pytest.mark.parametrize("window", GROWING)
def test_a_window_as_long_as_the_input_grows_with_it(tmp_path, window):
    made = window.format(n="x.shape[1]")
    wrapped = model(tmp_path, f"return x * {made}[:, None]", name="growing")
    found = holds(wrapped, tmp_path, [*CASES, [1], [2]])
    (note,) = [note for note in found.notes if "'window_lengths'" in note]
    assert "growing.py:" in note


def test_one_of_a_fixed_length_beside_it_needs_no_repair_of_its_own(tmp_path):
    forward = "return x * torch.hann_window(x.shape[1])[:, None] + torch.hamming_window(4)"
    found = holds(model(tmp_path, forward, name="both_windows"), tmp_path, CASES)
    (note,) = [note for note in found.notes if "'window_lengths'" in note]
    assert "hamming" not in note
