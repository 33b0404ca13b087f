"""Durations become frames without a loop over the rows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from exporter.graph.repairs.length_regulator import REPAIR, regulated
from tests.graph.repairs.models import unrun


def row_by_row(embeddings: torch.Tensor, durations: torch.Tensor) -> torch.Tensor:
    """The same as its definition says."""
    if durations.sum() == 0:
        durations = torch.ones_like(durations)
    rows = [row.repeat_interleave(n, 0) for row, n in zip(embeddings, durations, strict=True)]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True).float()


DURATIONS = {
    "plain": [[1, 2, 3], [3, 2, 1]],
    "zeros between": [[0, 4, 0], [2, 0, 1]],
    "an empty row": [[0, 0, 0], [2, 0, 1]],
    "nothing at all": [[0, 0, 0], [0, 0, 0]],
    "one row": [[5, 1, 0]],
}


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_frames_are_those_of_the_definition(name, dtype):
    durations = torch.tensor(DURATIONS[name])
    embeddings = torch.randn(len(durations), 3, 4, dtype=dtype)
    expected = row_by_row(embeddings, durations)
    assert torch.equal(regulated(embeddings, durations.clone()), expected)


def test_durations_that_are_all_zero_become_ones_in_place():
    durations = torch.zeros(2, 3, dtype=torch.int64)
    regulated(torch.randn(2, 3, 4), durations)
    assert durations.min() == 1


def test_a_capture_repeats_by_other_durations_too():
    class Model(nn.Module):
        def forward(self, x, durations):
            return regulated(x, durations.clone())

    axes = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens")}
    example = (torch.randn(2, 3, 4), torch.tensor([[1, 2, 3], [3, 2, 1]]))
    program = torch.export.export(Model(), example, dynamic_shapes=(axes, axes)).module()
    for durations in ([[4, 0, 1, 1, 2]] * 3, [[1, 1], [0, 2]]):
        given = torch.tensor(durations)
        x = torch.randn(*given.shape, 4)
        assert torch.equal(program(x, given), row_by_row(x, given))


def test_other_models_are_left_alone():
    assert not REPAIR.matches(unrun(nn.Linear(2, 2)))
