"""The op that holds a constant of the example is found by trying; nobody is accused for less."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exporter.contracts import ContractResult, run_contracts
from tests.contracts.zoo.shapes import traced

SIZES = {"shapes": {"sizes": {"time": [9, 14, 21], "batch": [3, 5]}}}


class Innocent(nn.Module):
    """Exponents and axes that look like sizes of the example, in front of the culprit."""

    def __init__(self, culprit: nn.Module):
        super().__init__()
        self.culprit = culprit

    def forward(self, x: Tensor) -> Tensor:
        y = (x.pow(3.0) + x.pow(2.0)).unsqueeze(1).unsqueeze(2).unsqueeze(3)
        y = y.squeeze(3).squeeze(2).squeeze(1)
        return self.culprit(torch.tanh(y))


class Reshaped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], int(x.shape[1]), 2, 2).flip(-1).flatten(2)


class Averaged(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.sum(1, keepdim=True) / float(int(x.shape[1]))


class Branch(nn.Module):
    """Another path for long inputs: no constant in another's place makes that right."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2.0 if int(x.shape[1]) > 12 else x.flip(1)


def judged(culprit: nn.Module) -> ContractResult:
    found = run_contracts(traced(Innocent(culprit)), SIZES)
    return next(result for result in found if result.side == "onnx")


def test_a_baked_reshape_is_found_behind_constants_that_look_alike():
    found = judged(Reshaped())
    assert found.status == "fail" and found.where is not None
    assert "culprit" in found.where.module, found.where
    assert "with the size of this run in its place the file agrees" in found.reason


def test_a_baked_count_is_found_behind_an_exponent_of_the_same_value():
    found = judged(Averaged())
    assert found.status == "fail" and found.where is not None
    assert "culprit" in found.where.module, found.where
    assert "Pow" not in found.reason and "with the size of this run" in found.reason


def test_a_baked_branch_is_not_located_and_no_constant_is_blamed():
    found = judged(Branch())
    assert found.status == "fail", found.reason
    assert found.where is None and "not located" in found.reason
    assert "holds the constant" not in found.reason
