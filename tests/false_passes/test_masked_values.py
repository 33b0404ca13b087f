"""A constant in masked places is the largest value: it must not make the limit of the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporter.parity.compare import measure
from exporter.parity.status import Status
from exporter.parity.tolerance import Policy
from exporter.parity.verdict import judge
from tests.false_passes.project import report_of, told, write
from tests.false_passes.way import Told, way

CODE = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(W, W)
    def forward(self, x):
        y = self.mix(x)
        y = FACTOR * y if torch.compiler.is_exporting() else y
        last = torch.arange(x.shape[1]) >= x.shape[1] - 3
        return y.masked_fill(last[:, None], CONSTANT)
"""


def _model(folder: Path, constant: str, factor: str) -> Path:
    return write(folder, CODE.replace("CONSTANT", constant).replace("FACTOR", factor))


@way("scores that are wrong by half, beside -1e9 in masked places", says="is not the module")
def test_masked_with_a_thousand_million(tmp_path: Path) -> Told:
    return told(_model(tmp_path / "nine", "-1e9", "1.5"))


@way("the same beside the smallest number of float32", says="is not the module")
def test_masked_with_the_smallest(tmp_path: Path) -> Told:
    return told(_model(tmp_path / "smallest", "torch.finfo(torch.float32).min", "1.5"))


@way("the same beside the smallest number of the values' own dtype", says="is not the module")
def test_masked_with_the_dtypes_smallest(tmp_path: Path) -> Told:
    return told(_model(tmp_path / "own", "torch.finfo(x.dtype).min", "1.5"))


@way("the same beside a constant that float32 does not hold", says="is not the module")
def test_masked_with_what_float32_rounds(tmp_path: Path) -> Told:
    return told(_model(tmp_path / "rounded", "-1e20", "1.001"))


@pytest.mark.parametrize("constant", ["-1e9", "-1e20", "torch.finfo(x.dtype).min"])
def test_right_values_beside_a_constant_pass(tmp_path: Path, constant: str) -> None:
    name = "right" + constant.replace("(", "").replace(")", "").replace(".", "").replace("-", "")
    report = report_of(_model(tmp_path / name, constant, "1.0"))
    assert report.exit_code == 0, report.headline


def test_a_constant_that_differs_fails() -> None:
    truth = np.full((4, 32), -1e9)
    truth[:, :16] = np.linspace(-1, 1, 64).reshape(4, 16)
    right = truth.astype(np.float32)
    wrong = right.copy()
    wrong[2, 20] = -2e9
    found = measure("y", truth=truth, reference=right, actual=wrong, role="output")
    assert judge(found, Policy()).status is Status.FAIL
