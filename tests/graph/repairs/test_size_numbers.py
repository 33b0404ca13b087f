"""Sizes computed with strides and kernels that are tensors of one number stay sizes."""

from __future__ import annotations

import pytest
import torch

from exporter.core.errors import StageError
from exporter.graph.repairs.frame import Log, NotRepairedError
from exporter.graph.repairs.size_numbers import SizeNumber
from exporter.graph.strategies import capture_openly
from tests.graph.repairs.models import holds, model

INIT = (
    "self.stride = nn.Buffer(torch.tensor(3), persistent=False)\n"
    "self.kernel = torch.tensor(7)\n"
    "self.total = nn.Buffer(torch.tensor(4), persistent=False)"
)
PADDED = (
    "length = x.shape[1]\n"
    "frames = (length - self.kernel + self.total) / self.stride + 1\n"
    "frames = torch.ceil(frames).to(torch.int64) - 1\n"
    "extra = frames * self.stride + self.kernel - self.total - length\n"
)
FORWARDS = {
    "reflected": f"{PADDED}if length <= max(self.total, extra):\n    x = x * 2\n"
    "y = nn.functional.pad(x.mT, (self.total, extra), mode='reflect')\n"
    "return y + x_lengths[:, None, None]",
    "sliced": f"{PADDED}y = nn.functional.pad(x, (0, 0, 0, extra))\n"
    "return y[:, : frames * 2] + x_lengths[:, None, None]",
    "as a value": f"{PADDED}return x + extra + x_lengths[:, None, None] * self.stride",
    "one window": f"{PADDED}parts = []\nfor at in range(0, length, length):\n"
    "    parts.append(x[:, at : at + length] + extra)\n"
    "return torch.stack(parts) + x_lengths[:, None, None]",
}
CASES = ([9, 2], [10, 10, 10], [11], [64, 5], [101])


@pytest.mark.parametrize("name", FORWARDS)
def test_the_file_pads_at_every_size_as_pytorch_does(tmp_path, name):
    wrapped = model(tmp_path, FORWARDS[name], INIT, name="strides")
    found = holds(wrapped, tmp_path, CASES)
    notes = [note for note in found.notes if "size_numbers" in note]
    # What only pads and adds is captured as it is: there is nothing to repair.
    assert len(notes) == (name in ("reflected", "one window"))
    assert all("strides.py:15" in note and "the same bits" in note for note in notes)
    inner = wrapped.module.model
    assert set(inner._buffers) == {"stride", "total"} and type(inner.kernel) is torch.Tensor


def test_what_is_counted_while_the_model_runs_is_not_repaired_away(tmp_path):
    wrapped = model(
        tmp_path, "self.stride += 1\n" + FORWARDS["reflected"], INIT, name="strides_counted"
    )
    with pytest.raises(StageError):
        capture_openly(wrapped)


def test_a_number_computes_as_a_tensor_of_it_does():
    for top, divisor in ((7, 2), (8, 2), (1, 3), (100, 7)):
        plain, own = torch.tensor(top), SizeNumber(top, 1, torch.int64, Log())
        pairs = [
            (torch.ceil(plain / divisor) + 1, torch.ceil(own / divisor) + 1),
            (torch.floor((plain - 3) / divisor), torch.floor((own - 3) / divisor)),
            (plain // divisor * 5 - plain, own // divisor * 5 - own),
            (plain % divisor, own % divisor),
            (3 - plain, 3 - own),
            (2.5 * plain, 2.5 * own),
            (1 / plain, 1 / own),
            (torch.sqrt(plain), torch.sqrt(own)),
            ((plain / divisor).to(torch.int64), (own / divisor).to(torch.int64)),
        ]
        for expected, found in pairs:
            kept = found.tensor() if isinstance(found, SizeNumber) else torch.as_tensor(found)
            assert kept.item() == expected.item()
        assert (own / divisor > 2) == bool(plain / divisor > 2) and int(own) == top
        assert (own / divisor).dtype == (plain / divisor).dtype


def test_writing_to_a_number_is_named():
    with pytest.raises(NotRepairedError):
        SizeNumber(3, 1, torch.int64, Log()).add_(1)
