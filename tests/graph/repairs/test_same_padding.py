"""TensorFlow's padding of MobileNet: the file takes every size, not only the example's."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from exporter.graph.repairs.same_padding import padded
from tests.graph.repairs.models import holds, model

transformers = pytest.importorskip("transformers.models.mobilenet_v2.modeling_mobilenet_v2")

HEAD = "from transformers.models.mobilenet_v2.modeling_mobilenet_v2 import apply_tf_padding"
CASES = ([12, 9], [17], [30, 4], [5], [23])
MODELS = {
    "three halvings": (
        "z = x.transpose(1, 2).unsqueeze(2)\nfor conv in self.all:\n"
        "    z = conv(apply_tf_padding(z, conv))\nreturn z",
        "self.all = nn.ModuleList(nn.Conv2d(4, 4, 3, stride=2) for _ in range(3))",
    ),
    "a third, of five": (
        "return self.a(apply_tf_padding(x.unsqueeze(1), self.a))",
        "self.a = nn.Conv2d(1, 2, 5, stride=3)",
    ),
    "spread out": (
        "return self.a(apply_tf_padding(x.unsqueeze(1), self.a))",
        "self.a = nn.Conv2d(1, 2, (1, 3), stride=(2, 1), dilation=(1, 2))",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_file_takes_every_size(tmp_path, name):
    forward, init = MODELS[name]
    found = holds(model(tmp_path, forward, init, head=HEAD, name="padding"), tmp_path, CASES)
    if name != "spread out":
        assert [note for note in found.notes if "'same_padding'" in note and "same bits" in note]
        assert not found.axes


def test_what_is_padded_is_what_was_padded():
    for size, kernel, stride, dilation in itertools.product(
        range(1, 12), range(1, 6), range(1, 5), (1, 2)
    ):
        x = torch.ones(1, 1, size, size + 1)
        conv = nn.Conv2d(1, 1, kernel, stride=stride, dilation=dilation)
        expected = transformers.apply_tf_padding(x, conv)
        assert torch.equal(padded(x, conv), expected), (size, kernel, stride, dilation)
