"""Ways to a pass where values are so small, or cancel so well, that zeros are within the limit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from exporter import cli
from exporter.config import load_pipeline
from exporter.flows.verify import verify
from exporter.parity.compare import measure
from exporter.parity.status import Status
from exporter.parity.tolerance import Policy
from exporter.parity.verdict import judge
from tests.false_passes.test_precision import alone
from tests.false_passes.way import Told, way
from tests.support import toy_project
from tests.support.stages import Silent

RNG = np.random.default_rng(3)
DRAWN = RNG.normal(size=(4, 64))


def told(truth: np.ndarray, reference: np.ndarray, actual: np.ndarray, **policy: str) -> Told:
    """What is said of an output."""
    verdict = judge(
        measure("y", truth=truth, reference=reference, actual=actual, role="output"),
        Policy(**policy),
    )
    return Told(exit_code=int(verdict.status is not Status.PASS), text=verdict.reason)


def tiny(scale: float) -> tuple[np.ndarray, np.ndarray]:
    truth = DRAWN * scale
    return truth, truth.astype(np.float32)


@way("zeros where every value is a denormal", says="max error")
def test_zeros_for_denormals():
    truth, reference = tiny(1e-40)
    return told(truth, reference, np.zeros_like(reference))


@way("zeros where every value is just above the smallest normal number", says="limit")
def test_zeros_for_the_smallest_normals():
    truth, reference = tiny(1e-37)
    return told(truth, reference, np.zeros_like(reference))


@way("half of every denormal", says="limit")
def test_half_of_denormals():
    truth, reference = tiny(1e-39)
    return told(truth, reference, (truth / 2).astype(np.float32))


@way("denormals under bfloat16, whose smallest number is the same", says="limit")
def test_zeros_for_denormals_in_bfloat16():
    truth, reference = tiny(1e-40)
    return told(truth, reference, np.zeros_like(reference), precision="bfloat16")


@way("zeros where an output is what a sum leaves of itself", says="nothing is shown of this output")
def test_zeros_for_what_cancels():
    truth = DRAWN * 1e-17
    reference = (truth + DRAWN * 1e-8).astype(np.float32)
    return told(truth, reference, np.zeros_like(reference))


@way("noise where float64 is zero throughout", says="nothing is shown of this output")
def test_noise_where_all_cancels():
    truth = np.zeros_like(DRAWN)
    reference = (DRAWN * 1e-8).astype(np.float32)
    return told(truth, reference, reference[::-1].copy())


SMALL = toy_project.MODULE.replace('return {"y": y}', 'return {"y": y * 1e-20 * 1e-20}')


@way("a file that gives zeros for values of 1e-40, at outputs alone", says="max error")
def test_a_file_that_gives_zeros(tmp_path: Path):
    yaml, out = toy_project.project(tmp_path / "toy", module=SMALL), tmp_path / "out"
    command = ["run", str(yaml), "--output-dir", str(out), "--trust", "--threads", "1", "--quiet"]
    cli.main(command)
    model = onnx.load(out / "model.onnx")
    node = next(n for n in model.graph.node if "y" in n.output)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.float32), "none"))
    model.graph.node.add(op_type="Mul", input=["y_before", "none"], output=["y"])
    node.output[0] = "y_before"
    onnx.save(alone(model), tmp_path / "zeros.onnx")
    report = verify(
        load_pipeline(yaml, trust=True),
        onnx=tmp_path / "zeros.onnx",
        output_dir=out,
        progress=Silent(),
        threads=1,
    )
    reasons = [report.headline, *(output.verdict.reason for output in report.outputs)]
    return Told(exit_code=report.exit_code, text="\n".join(reasons))


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e-37, 1e-40])
def test_what_is_right_passes_however_small(scale: float):
    truth, reference = tiny(scale)
    assert told(truth, reference, reference.copy()).exit_code == 0


def test_zeros_on_all_sides_pass():
    zeros = np.zeros((4, 64))
    assert told(zeros, zeros.astype(np.float32), zeros.astype(np.float32)).exit_code == 0
