"""A tensor of a number with digits that is computed of sizes rounds in the file as PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.graph.repairs.models import YAML, holds, model

CASES = ([9, 2], [10, 10, 10], [11], [64, 5], [101])
FORWARDS = {
    "resampled": "n = torch.ceil(torch.as_tensor(160 * x.shape[1] / 441)).long()\nreturn x[:, :n]",
    "floor of a tensor": "n = torch.as_tensor(x.shape[1] / 3).floor().to(torch.int64)\n"
    "return x[:, : n + 1] + n",
    "read": "n = torch.as_tensor(x.shape[1] * 0.75).round().int()\n"
    "return x[:, : int(n.item())] * 2",
    "of a sum": "n = torch.as_tensor((x.shape[1] - 2) / 2 + 1.5).trunc().long()\nreturn x[:, :n]",
    "in float64": "n = torch.as_tensor(x.shape[1] / 7, dtype=torch.float64).ceil().long()\n"
    "return x[:, :n]",
    "in front of a filter": "n = torch.ceil(torch.as_tensor(2 * x.shape[1] / 3)).long()\n"
    "y = x[:, :n, 0]\ny = y.reshape(-1, y.shape[1])\n"
    "return nn.functional.avg_pool1d(nn.functional.pad(y[:, None], (1, 1), mode='reflect'), 3)",
    "as a value": "return x * torch.as_tensor(x.shape[1] / 3)",
}
LONG = 180697
"""160 of 441 of it end with 0.0023, which float32 does not hold."""


@pytest.mark.parametrize("name", FORWARDS)
def test_the_file_rounds_at_every_size_as_pytorch_does(tmp_path, name):
    forward = FORWARDS[name]
    wrapped = model(tmp_path, forward, name=f"digits_{len(forward)}")
    captured = holds(wrapped, tmp_path, CASES)
    assert [note for note in captured.notes if "a tensor of a number of sizes" in note]


def test_what_float32_loses_of_a_quotient_is_lost_in_the_file(tmp_path):
    assert np.ceil(np.float32(160 * LONG / 441)) < -(-160 * LONG // 441)
    wrapped = model(tmp_path, FORWARDS["resampled"], name="digits_lost")
    holds(wrapped, tmp_path, ([LONG], [LONG + 1]))


@pytest.mark.parametrize("rates", [(8000, 16000), (44100, 16000), (48000, 16000)])
def test_torchaudios_resampling_takes_every_length(tmp_path, rates):
    pytest.importorskip("torchaudio")
    head = "from torchaudio.transforms import Resample\n"
    init = f"self.resampled = Resample{rates}"
    wrapped = model(
        tmp_path,
        "return self.resampled(x[..., 0]) + x_lengths[:, None]",
        init,
        head=head,
        yaml=YAML.replace("example: 12", "example: 1600").format(module="my_model"),
        name=f"resampled_{rates[0]}",
    )
    captured = holds(wrapped, tmp_path, (*CASES, [1002]))
    assert not captured.axes, captured.notes


def test_torch_is_afterwards_what_it_was(tmp_path):
    before = torch.as_tensor, nn.functional.pad
    holds(model(tmp_path, FORWARDS["resampled"], name="digits_after"), tmp_path, ([9],))
    assert (torch.as_tensor, nn.functional.pad) == before and torch.as_tensor(0.5).item() == 0.5
