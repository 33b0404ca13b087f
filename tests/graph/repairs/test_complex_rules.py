"""Every rule for complex values is torch's own op, on the real and imaginary parts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from exporter.graph.repairs.complex_pairs import _ByRules

SIZE = (2, 3, 6)
CASES = {
    "add": lambda z, w, x: z + w,
    "add real": lambda z, w, x: z + x[0],
    "real added": lambda z, w, x: x + z[0],
    "add a number": lambda z, w, x: z + (2 - 3j),
    "real and a number": lambda z, w, x: x + 1j,
    "sub alpha": lambda z, w, x: torch.sub(z, w, alpha=3),
    "rsub": lambda z, w, x: 1.0 - z,
    "mul": lambda z, w, x: z * w,
    "mul real": lambda z, w, x: x * z,
    "mul a number": lambda z, w, x: x * 1j + z * 2.0,
    "div": lambda z, w, x: z / w,
    "div real": lambda z, w, x: z / (x.abs() + 1),
    "real over complex": lambda z, w, x: x / w,
    "number over complex": lambda z, w, x: 2.0 / w,
    "reciprocal": lambda z, w, x: z.reciprocal(),
    "conj": lambda z, w, x: z.conj() * w,
    "abs": lambda z, w, x: z.abs(),
    "angle": lambda z, w, x: z.angle(),
    "exp": lambda z, w, x: z.exp(),
    "log": lambda z, w, x: z.log(),
    "sqrt": lambda z, w, x: z.sqrt(),
    "square": lambda z, w, x: z**2,
    "cube and back": lambda z, w, x: z**-3,
    "other powers": lambda z, w, x: z**0.3 + z**0.5,
    "complex power": lambda z, w, x: z**w,
    "power of a number": lambda z, w, x: 2.0**z,
    "sgn": lambda z, w, x: torch.sgn(torch.cat((z, torch.zeros_like(z)))),
    "tanh of torch's table": lambda z, w, x: z.tanh(),
    "polar": lambda z, w, x: torch.polar(x.abs(), x[0]),
    "complex of other sizes": lambda z, w, x: torch.complex(x, x[0]),
    "sum": lambda z, w, x: z.sum(1) + z.sum(),
    "mean": lambda z, w, x: z.mean((0, 2), keepdim=True),
    "cumsum": lambda z, w, x: z.cumsum(1),
    "var": lambda z, w, x: z.var(1),
    "norm": lambda z, w, x: torch.linalg.vector_norm(z, dim=1),
    "cat with real": lambda z, w, x: torch.cat((z, x.to(z.dtype)), 1),
    "stack": lambda z, w, x: torch.stack((z, w), -1),
    "pad": lambda z, w, x: torch.nn.functional.pad(z, (1, 2)),
    "pad with a number": lambda z, w, x: torch.nn.functional.pad(z, (1, 2), value=2.0),
    "flip and roll": lambda z, w, x: z.flip(1).roll(2, -1),
    "where": lambda z, w, x: torch.where(x > 0, z, w) + torch.where(x > 0, z, 0.0),
    "masked_fill": lambda z, w, x: z.masked_fill(x > 0, 3.0),
    "index": lambda z, w, x: z[:, torch.tensor([2, 0])],
    "eq": lambda z, w, x: (z == z.clone()) & (z != w),
    "isfinite": lambda z, w, x: torch.isfinite(z / (x > 0)),
    "matmul": lambda z, w, x: z @ w.transpose(1, 2),
    "linear": lambda z, w, x: torch.nn.functional.linear(z, w[0], w[0, :, 0]),
    "addmm": lambda z, w, x: torch.addmm(w[0, :, :3], z[0], w[1].T, alpha=2, beta=0.5),
    "einsum": lambda z, w, x: torch.einsum("bij,bkj->bik", z, w.conj()),
    "outer": lambda z, w, x: torch.outer(x[0, 0], x[1, 1]).to(z.dtype) * 1j,
    "conv": lambda z, w, x: torch.nn.functional.conv1d(z, w[:, :, :3], w[:, 0, 0], padding=1),
    "zeros": lambda z, w, x: torch.zeros_like(z) + torch.ones(3, 1, dtype=z.dtype) * 2,
    "cast": lambda z, w, x: x.to(z.dtype) + z.to(torch.complex128),
    "index_put": lambda z, w, x: z.index_put((torch.tensor([1]),), w[0]),
    "repeat": lambda z, w, x: z.repeat(2, 1, 1).repeat_interleave(2, 1),
    "fft": lambda z, w, x: torch.fft.fft(z) + torch.fft.ifft(z, norm="ortho"),
    "fft of an axis": lambda z, w, x: torch.fft.fft(z, dim=1, norm="forward"),
    "fft of real": lambda z, w, x: torch.fft.fft(x, dim=0),
    "fft2": lambda z, w, x: torch.fft.fft2(x) + torch.fft.ifft2(z),
    "rfft odd": lambda z, w, x: torch.fft.rfft(x, n=5, norm="ortho"),
    "rfft padded": lambda z, w, x: torch.fft.rfft(x, n=9),
    "rfftn": lambda z, w, x: torch.fft.rfftn(x, dim=(1, 2)),
    "irfft": lambda z, w, x: torch.fft.irfft(z),
    "irfft odd": lambda z, w, x: torch.fft.irfft(z, n=11, norm="forward"),
    "irfft2": lambda z, w, x: torch.fft.irfft2(z, norm="ortho"),
    "hfft": lambda z, w, x: torch.fft.hfft(z),
    "fftshift": lambda z, w, x: torch.fft.fftshift(z),
}  # fmt: skip


def values(dtype: torch.dtype = torch.complex128) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    real = torch.float64 if dtype == torch.complex128 else torch.float32
    return (
        torch.randn(SIZE, dtype=dtype),
        torch.randn(SIZE, dtype=dtype),
        torch.randn(SIZE, dtype=real),
    )


@pytest.mark.parametrize("name", CASES)
def test_a_rule_computes_what_torch_computes(name):
    given = values()
    expected = CASES[name](*given)
    with _ByRules():
        found = CASES[name](*given)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
