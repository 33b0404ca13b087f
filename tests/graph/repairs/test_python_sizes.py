"""``int`` of a model's own code stays what Python's is wherever it is not called."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from exporter.graph.strategies import capture_openly
from tests.graph.repairs.models import holds, model

CASES = ([9, 2, 5, 1], [30], [3, 17])
MASK = "n = int(x_lengths.max())\n"
AS_A_DTYPE = {
    "made": "at = torch.zeros(n, dtype=int)",
    "counted": "at = torch.arange(0, n, dtype=int)",
    "cast": "at = torch.arange(n).to(int)",
    "cast with a device": "at = torch.arange(n).to(x.device, int)",
    "like another": "at = torch.ones_like(x_lengths, dtype=int)[:1]",
    "new": "at = x.new_zeros(n, dtype=int)",
    "summed": "at = (x[0, :n, 0] > 0).cumsum(0, dtype=int)",
    "of a list": "at = torch.tensor([1, 2], dtype=int)[:1]",
    "in a function": "at = made(n)",
    "beside a size in a tensor": "at = torch.zeros(n, dtype=int) + torch.tensor(min(n + 1, 64))",
    "beside a size of the input": "at = torch.tensor(min(x.shape[1], 64))\n"
    "at = at + torch.ones(n, dtype=int)",
    "asked for its type": "at = torch.arange(n) * (2 if isinstance(3, int) else x)",
}
OF_NUMPY = {
    "prod": "return x.reshape(int(np.prod(x.shape[:2])), x.shape[2])",
    "prod by itself": "return x.reshape(int(prod(x.shape[:2])), x.shape[2])",
    "ceil": "return x[:, : int(np.ceil(x.shape[1] / 2))]",
    "floor": "return x[:, : int(np.floor(x.shape[1] / 2))]",
    "int64": "return x[:, : np.int64(x.shape[1]) // 2]",
    "int32": "return x[:, : int(np.int32(x.shape[1]) // 3 + 1)]",
    "int64 twice": "return x.reshape(np.int64(x.shape[0]) * np.int64(x.shape[1]), 4)",
    "int64 of digits": "return x[:, : np.int64(x.shape[1] * 0.7) + 1]",
    "int64 that is asked for": "n = np.int64(x.shape[1] - 1)\n"
    "return x[:, : n if isinstance(n, (int, np.integer)) else 1]",
    "float64": "return x[:, : int(np.float64(x.shape[1]) * 0.29) + 1]",
    "round": "return x[:, : int(np.round(x.shape[1] / 2)) + 1]",
    "maximum": "return x[:, : int(np.maximum(x.shape[1] - 3, 1))]",
    "sqrt": "return x / np.sqrt(x.shape[1])",
}
OF_PYTHON = {
    "int of digits": "return x[:, : int(x.shape[1] * 0.29) + 1]",
    "round": "return x[:, : round(x.shape[1] / 2) + 1]",
    "sqrt": "return x / math.sqrt(x.shape[1])",
    "int of a root": "return x[:, : int(math.sqrt(x.shape[1])) + 1]",
    "int of a tensor": "return x[:, : int(torch.ceil(torch.as_tensor(x.shape[1] / 3)))]",
    "int of a tensor's item": "return x[:, : int(torch.tensor(x.shape[1] * 0.29).ceil().item())]",
}
HEAD = "def made(n):\n    return torch.full((n,), 2, dtype=int)\n"


@pytest.mark.parametrize("name", AS_A_DTYPE)
def test_int_is_a_dtype_beside_a_length_that_it_reads(tmp_path, name):
    forward = f"{MASK}{AS_A_DTYPE[name]}\nreturn x[:, :n] * at.float().sum() + at.dtype.itemsize"
    wrapped = model(tmp_path, forward, head=HEAD, name=f"int_{list(AS_A_DTYPE).index(name)}")
    found = holds(wrapped, tmp_path, CASES)
    assert [note for note in found.notes if "int()" in note]


def test_torch_is_afterwards_what_it_was(tmp_path):
    before = torch.zeros, vars(Tensor).get("to"), torch.cumsum
    forward = f"{MASK}return x[:, :n] * torch.ones(n, dtype=int)[:, None]"
    capture_openly(model(tmp_path, forward, name="int_after"))
    assert (torch.zeros, vars(Tensor).get("to"), torch.cumsum) == before
    assert torch.zeros(2, dtype=int).dtype == torch.int64


@pytest.mark.parametrize("name", OF_NUMPY)
def test_numpy_computes_with_sizes(tmp_path, name):
    """numpy makes plain numbers of them, and the file would hold that of the example."""
    head = "import numpy as np\nfrom numpy import prod\n"
    wrapped = model(tmp_path, OF_NUMPY[name], head=head, name=f"numpy_{name.replace(' ', '_')}")
    found = holds(wrapped, tmp_path, CASES)
    assert [note for note in found.notes if f"numpy.{name.split()[0]}()" in note]


@pytest.mark.parametrize("name", OF_PYTHON)
def test_numbers_with_digits_that_are_computed_of_sizes_follow_them(tmp_path, name):
    wrapped = model(tmp_path, OF_PYTHON[name], name=f"digits_{name.replace(' ', '_')[:13]}")
    found = holds(wrapped, tmp_path, (*CASES, [64], [100]))
    assert not found.axes, found.notes


def test_numpys_numbers_are_dtypes_as_ever(tmp_path):
    forward = (
        "table = np.zeros(3, dtype=np.int64).astype(np.float64)\n"
        "assert table.dtype == np.float64 and np.dtype(np.int32).itemsize == 4\n"
        "assert issubclass(np.int64, np.integer) and np.issubdtype(np.int64, np.integer)\n"
        "assert np.int64(3.7) == 3 and type(np.int64(3)).__name__ == 'int64'\n"
        "return x[:, : np.int64(x.shape[1] - 1)] + table.sum()"
    )
    wrapped = model(tmp_path, forward, head="import numpy as np\n", name="numpy_dtypes")
    holds(wrapped, tmp_path, CASES)


def test_numpy_computes_with_plain_numbers_as_ever(tmp_path):
    forward = (
        "assert np.prod((3, 4)) == 12 and np.ceil(1.5) == 2.0 and np.prod is not None\n"
        "return x[:, : int(np.ceil(x.shape[1] / 2))] * float(np.prod(np.ones((2, 3)), axis=0)[0])"
    )
    before = np.prod, np.ceil
    wrapped = model(tmp_path, forward, head="import numpy as np\n", name="numpy_plain")
    holds(wrapped, tmp_path, CASES)
    assert (np.prod, np.ceil) == before
    assert sys.modules["numpy_plain"].np is np
