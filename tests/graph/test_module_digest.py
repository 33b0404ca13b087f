"""The digest of a module: moved by what it computes with, and by nothing else."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from exporter.graph.module_digest import module_state

ROOT = Path(__file__).resolve().parents[2]


class Scaled(nn.Module):
    def __init__(self, **attributes):
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.register_buffer("window", torch.arange(4.0), persistent=False)
        self.names = {"b", "a", "c", "d"}
        self.config = SimpleNamespace(heads=4, inner={"eps": 1e-5})
        self.act = torch.relu
        self.table = [1, 2.0, None, True]
        self.mask = torch.ones(3)
        self.knows_itself = self.norm
        for name, value in attributes.items():
            setattr(self, name, value)


def scaled_by(factor):
    return lambda x: factor * x


def changed_eps(module):
    module.norm.eps = 1e-6


def changed_window(module):
    module.window[0] = 1.0


def changed_inner(module):
    module.config.inner["eps"] = 1e-6


CHANGES = {
    "an epsilon of a part": changed_eps,
    "a table that is in no state dict": changed_window,
    "a value deep in a configuration": changed_inner,
    "a tensor that is a plain attribute": lambda module: module.mask.mul_(2),
    "a function": lambda module: setattr(module, "act", torch.tanh),
    "what a function closes over": lambda module: setattr(module, "act", scaled_by(3)),
    "one more attribute": lambda module: setattr(module, "scale", 2.0),
    "an element of a set": lambda module: module.names.add("e"),
    "True for 1": lambda module: module.table.__setitem__(0, True),
    "training": lambda module: module.norm.train(not module.norm.training),
    "another class": lambda module: setattr(module, "norm", nn.RMSNorm(4)),
    "a hook": lambda module: module.norm.register_forward_hook(lambda *args: None),
}


@pytest.mark.parametrize("what", CHANGES)
def test_it_moves_with(what):
    module = Scaled()
    before = module_state(module)
    CHANGES[what](module)
    assert module_state(module) != before


def test_closures_and_partials_differ_by_their_values():
    for make in (scaled_by, lambda factor: functools.partial(torch.mul, factor)):
        two, other, three = (module_state(Scaled(act=make(factor))) for factor in (2, 2, 3))
        assert two == other != three


def test_weights_are_not_in_it():
    module = Scaled()
    before = module_state(module)
    with torch.no_grad():
        module.norm.weight.fill_(3.0)
    assert module_state(module) == before


def test_an_attribute_that_holds_itself_ends():
    module = Scaled()
    module.config.me = module.config
    assert module_state(module) == module_state(module)


def test_it_is_the_same_in_every_process():
    code = (
        "from tests.graph.test_module_digest import Scaled\n"
        "from exporter.graph.module_digest import module_state\n"
        "print(module_state(Scaled()))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {module_state(Scaled())}
