"""Probes have sizes that the axis takes: a model of whole blocks is not blamed for half a one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from exporter.contracts import run_contracts
from exporter.contracts.probes import probe, short_probe
from exporter.contracts.target import TimeAxis
from exporter.core.tensors import Axis
from exporter.parity.status import Status
from tests.contracts.zoo.toy import features, output, subject


class Blocks(nn.Module):
    """[batch, 4, time] in blocks of 50 steps, each with its own mean taken off."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        blocks = x.reshape(x.shape[0], 4, -1, 50)
        return (blocks - blocks.mean(-1, keepdim=True)).reshape(x.shape)


def target():
    time = Axis(name="time", minimum=50, multiple_of=50)
    values = {"x": np.random.default_rng(0).standard_normal((2, 4, 150), np.float32)}
    made = subject(Blocks(), features(time=time), output("batch", 4, "time"), values=values)
    made.example = None  # what a toy is traced with is of any size
    return made


@pytest.mark.parametrize(("size", "taken"), [(64, 50), (149, 100), (50, 50), (7, 50)])
def test_a_probe_is_of_whole_blocks(size, taken):
    made = target()
    axis = made.time_axis()
    assert axis is not None and axis.near(size) == taken
    assert probe(made)["x"].shape[2] == short_probe(made)["x"].shape[2] == 50


def test_the_least_size_of_an_axis_comes_in_multiples_too():
    axis = TimeAxis(input="x", name="time", position=2, minimum=60, maximum=None, multiple_of=50)
    assert axis.near(64) == 100
    assert TimeAxis(input="x", name="time", position=2, minimum=3, maximum=None).near(2) == 3


@pytest.mark.parametrize("name", ["shapes", "mutation", "dtype", "determinism", "silence"])
def test_a_model_of_whole_blocks_keeps_its_contracts(name):
    found = [row for row in run_contracts(target(), {name: None}) if row.side == "torch"]
    assert found and all(row.status is Status.PASS for row in found), [r.reason for r in found]
