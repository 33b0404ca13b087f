"""Float64 kernels of our own give what torch's give."""

from __future__ import annotations

import pytest
import torch

from exporter.interpret.float64_kernels import DOUBLE_KERNELS, conv1d


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 1), (1, 5, 2), (2, 3, 1)])
@pytest.mark.parametrize("bias", [False, True])
def test_convolutions(groups: int, stride: int, padding: int, dilation: int, bias: bool):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 40, generator=draw, dtype=torch.float64)
    weight = torch.randn(6, 6 // groups, 5, generator=draw, dtype=torch.float64)
    offset = torch.randn(6, generator=draw, dtype=torch.float64) if bias else None
    arguments = (x, weight, offset, (stride,), (padding,), (dilation,), groups)
    expected = torch.ops.aten.conv1d.default(*arguments)
    found = conv1d(*arguments)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


def test_the_input_is_not_written_to():
    x, weight = torch.randn(1, 3, 9, dtype=torch.float64), torch.randn(3, 1, 3, dtype=torch.float64)
    before = x.clone()
    conv1d(x, weight, None, (1,), (1,), (1,), 3)
    assert torch.equal(x, before)


def test_a_row_without_samples_behind_the_kernel_is_empty():
    found = conv1d(torch.zeros(0, 3, 9).double(), torch.ones(3, 1, 3).double(), groups=3)
    assert found.shape == (0, 3, 7)


def test_the_table_names_ops_that_exist():
    for target in DOUBLE_KERNELS:
        namespace, name, overload = target.split(".")
        assert getattr(getattr(getattr(torch.ops, namespace), name), overload)
