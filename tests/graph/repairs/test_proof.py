"""A repair that is wrong for some input is found, named and left out."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from exporter.config.schema import RepairName
from exporter.graph import strategies
from exporter.graph.repairs import REPAIRS
from exporter.graph.repairs.frame import Repair, replaced_names
from exporter.graph.repairs.proof import prove
from exporter.graph.strategies import capture_openly
from tests.graph.repairs.models import model, unrun

LONGEST = "n = int(x_lengths.max())\nreturn torch.logsumexp(x, 1)[:, None] + x[:, :n]"


def planted(wrong) -> Repair:
    """A repair that puts ``wrong`` in the place of ``torch.logsumexp``."""

    @contextlib.contextmanager
    def apply(module, log):
        own = torch.logsumexp

        def replaced(x, dim):
            log.at("logsumexp()")
            return wrong(own, x, dim)

        with replaced_names([(torch, "logsumexp", replaced)]):
            yield

    return Repair(
        name="planted", replaces="computed otherwise", strategy="planted",
        matches=lambda module: True, apply=apply,
    )  # fmt: skip


def notes_with(monkeypatch, tmp_path, wrong, name: str) -> str:
    monkeypatch.setattr(strategies, "REPAIRS", {**REPAIRS, "planted": planted(wrong)})
    return "\n".join(capture_openly(model(tmp_path, LONGEST, name=name)).notes)


WRONG = {
    "by one thousandth": lambda own, x, dim: own(x, dim) * 1.001,
    "of more than 12 frames": lambda own, x, dim: own(x[:, :12], dim),
    "in float32's last digits, and in float64": lambda own, x, dim: own(x, dim) * (1 + 1e-7),
    "of another type": lambda own, x, dim: own(x, dim).double(),
    "of another shape": lambda own, x, dim: own(x, dim)[:, None],
    "infinite": lambda own, x, dim: own(x, dim) / 0.0,
    "NaN in float64": lambda own, x, dim: (
        own(x, dim) * (float("nan") if x.dtype == torch.float64 else 1 + 1e-7)
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_repair_is_left_out_and_named(monkeypatch, tmp_path, name):
    said = notes_with(monkeypatch, tmp_path, WRONG[name], "planted_wrong")
    assert "the repair 'planted' gives other values than PyTorch" in said
    assert "repaired 'python_sizes'" in said and "repaired 'planted'" not in said


def test_another_order_of_a_sum_is_judged_in_float64(monkeypatch, tmp_path):
    def otherwise(own, x, dim):
        most = x.amax(dim, keepdim=True)
        return (x - most).exp().flip(dim).sum(dim).log() + most.squeeze(dim)

    said = notes_with(monkeypatch, tmp_path, otherwise, "planted_order")
    assert "repaired 'planted': logsumexp() at" in said and "the same in float64" in said


def test_the_schema_knows_the_catalogue():
    assert set(RepairName.__args__) == set(REPAIRS)


def test_all_repairs_together_change_nothing_of_a_healthy_module():
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU()).eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    x = torch.randn(5, 4)
    expected = module(x)
    with strategies.repaired(unrun(module), REPAIRS.values()) as logs:
        assert torch.equal(module(x), expected)
    assert not any(logs.values())
    assert module.state_dict().keys() == before.keys()
    assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())


def test_a_repair_can_be_switched_off_and_is_then_not_used(tmp_path):
    wrapped = model(tmp_path, LONGEST, name="switched_off")
    assert capture_openly(wrapped).notes
    found = capture_openly(wrapped, without=["python_sizes"])
    assert "strict" in found.strategy  # torch reads this one's code
    assert not [note for note in found.notes if "python_sizes" in note]


class Masked(nn.Module):
    """What it sums stands beside minus infinity, as behind a mask."""

    def forward(self, x):
        y = torch.logsumexp(x, 1)
        return (torch.cat([y, torch.full_like(y, float("-inf"))]),)


@pytest.mark.parametrize(("added", "is_wrong"), [(1.0, True), (1e-7, False)])
def test_infinities_of_a_result_excuse_no_error_in_it(added, is_wrong):
    def wrong(own, x, dim):
        return own(x, dim) + added if is_wrong or x.dtype == torch.float32 else own(x, dim)

    x = torch.linspace(-2, 2, 12).reshape(3, 4)
    found = prove(unrun(Masked()), [planted(wrong)], [("the example", {"x": x})])
    assert bool(found.differs) is is_wrong, found
