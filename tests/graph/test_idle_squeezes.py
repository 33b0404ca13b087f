"""Squeezes that take nothing away, or less than they name, do in ONNX what they do in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import run_model
from tests.support.toys import floats, make_toy


class Squeezed(nn.Module):
    def __init__(self, axes: object) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> tuple[Tensor]:
        y = torch.tanh(x)
        return ((y.squeeze() if self.axes is None else y.squeeze(self.axes)) * 2,)


@pytest.mark.parametrize(
    ("axes", "left"),
    [
        (1, ("n", 6, 1, 5, 1)),
        (-2, ("n", 6, 1, 5, 1)),
        (0, ("n", 6, 1, 5, 1)),
        (2, ("n", 6, 5, 1)),
        (-1, ("n", 6, 1, 5)),
        ((1, 2), ("n", 6, 5, 1)),
        ((0, 2, 4), ("n", 6, 5)),
        ((0, 3), ("n", 6, 1, 5, 1)),
        (None, ("n", 6, 5)),
    ],
)
def test_only_axes_of_one_element_go(axes, left):
    module = Squeezed(axes)
    shape = ("n", 6, 1, 5, 1)
    example = {"x": torch.randn(3, 6, 1, 5, 1)}
    toy = make_toy(module, example, (floats("x", *shape),), (floats("y", *left),))
    for rows in (2, 7):
        x = np.random.default_rng(0).standard_normal((rows, 6, 1, 5, 1)).astype(np.float32)
        found = run_model(toy.model, {"x": x}, Deployment(threads=1))["y"]
        np.testing.assert_allclose(found, module(torch.from_numpy(x))[0].numpy(), atol=1e-6)


def test_a_row_alone_keeps_its_axis():
    toy = make_toy(
        Squeezed(None),
        {"x": torch.randn(3, 1, 5)},
        (floats("x", "n", 1, 5),),
        (floats("y", "n", 5),),
    )
    x = np.ones((1, 1, 5), np.float32)
    assert run_model(toy.model, {"x": x}, Deployment(threads=1))["y"].shape == (1, 5)
