"""A branch that only pads: what it pads is computed, and the file takes every size."""

from __future__ import annotations

import ast

import pytest

from exporter.graph.repairs.padding_branches import rewritten
from tests.graph.repairs.models import holds, model

HEAD = "from torch.nn import functional as F"
CASES = ([12, 9], [17], [30, 4], [5], [23])
MODELS = {
    "to a multiple": (
        "y = x.transpose(1, 2)\nn = y.shape[-1]\nif not n % 4 == 0:\n"
        "    y = F.pad(y, (0, 4 - n % 4))\nreturn self.a(y)",
        "self.a = nn.Conv1d(4, 3, 4, stride=4)",
    ),
    "to a multiple, by a name": (
        "y = x.transpose(1, 2)\nrest = y.shape[-1] % 3\nif rest != 0:\n"
        "    y = F.pad(y, (0, 3 - rest))\nreturn y.reshape(y.shape[0], 4, -1, 3).sum(-1)",
        "",
    ),
    "to a multiple, in front": (
        "y = x.transpose(1, 2)\nif y.shape[-1] % 5:\n"
        "    y = nn.functional.pad(y, (5 - y.shape[-1] % 5, 0))\n"
        "return y.reshape(y.shape[0], 4, -1, 5).sum(-1)",
        "",
    ),
    "back to the length": (
        "y = self.b(self.a(x.transpose(1, 2)))\n"
        "if y.shape[-1] < x.shape[1]:\n    y = F.pad(y, (0, x.shape[1] - y.shape[-1]))\nreturn y",
        "self.a = nn.Conv1d(4, 3, 2, stride=2)\nself.b = nn.ConvTranspose1d(3, 3, 2, stride=2)",
    ),
    "to at least so many, with a value": (
        "y = x.transpose(1, 2)\nif 8 > y.shape[-1]:\n"
        "    y = F.pad(y, (0, 8 - y.shape[-1]), 'constant', 1.0)\nreturn y * 2",
        "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_file_takes_every_size(tmp_path, name):
    forward, init = MODELS[name]
    wrapped = model(tmp_path, forward, init, head=HEAD, name="padding")
    found = holds(wrapped, tmp_path, CASES)
    assert [note for note in found.notes if "'padding_branches'" in note and "same bits" in note]
    assert not found.axes


UNLIKE = {
    "another amount": "if n % 4 != 0:\n    x = F.pad(x, (0, 8 - n % 4))",
    "the other way": "if not n % 4 != 0:\n    x = F.pad(x, (0, 4 - n % 4))",
    "something else as well": "if n < 4:\n    x = F.pad(x, (0, 4 - n))\n    n = 4",
    "another value": "if n < 4:\n    y = F.pad(x, (0, 4 - n))",
    "two ways": "if n < 4:\n    x = F.pad(x, (0, 4 - n))\nelse:\n    x = x[:4]",
    "a rest that is set twice": "r = n % 4\nr = n\nif r != 0:\n    x = F.pad(x, (0, 4 - r))",
    "less the other way": "if n < 4:\n    x = F.pad(x, (0, n - 4))",
}


@pytest.mark.parametrize("name", UNLIKE)
def test_what_only_looks_like_it_is_left(name):
    body = "".join(f"    {line}\n" for line in UNLIKE[name].splitlines())
    (function,) = ast.parse(f"def forward(x, n):\n{body}    return x\n").body
    assert rewritten(function) is None
