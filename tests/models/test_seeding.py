"""Seeded weights: reproducible, independent of order, and neither zero nor one anywhere."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from exporter.models.seeding import seed_weights
from exporter.models.weights import digest_tensors


def seeded(module: nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    seed_weights(module, seed)
    return dict(module.state_dict())


def test_the_bytes_are_the_same_on_every_machine() -> None:
    digest = digest_tensors(
        seeded(nn.Sequential(nn.Linear(7, 5), nn.LayerNorm(5), nn.Embedding(3, 4)))
    )
    assert digest == "0920bce859fb6c69716500cf571055cdbefb3cf77d7611482ed9c9d62869816e"


def test_another_seed_and_another_name_give_other_values() -> None:
    pair = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    first = {name: tensor.clone() for name, tensor in seeded(pair).items()}
    assert not torch.equal(first["0.weight"], first["1.weight"])
    assert not torch.equal(first["0.weight"], seeded(pair, 1)["0.weight"])


def test_values_do_not_depend_on_what_was_built_before() -> None:
    small = nn.ModuleDict({"b": nn.Linear(4, 4)})
    large = nn.ModuleDict({"a": nn.Linear(9, 9), "b": nn.Linear(4, 4)})
    torch.manual_seed(5)
    assert torch.equal(seeded(large)["b.weight"], seeded(small)["b.weight"])


def test_ranges() -> None:
    state = seeded(nn.ModuleDict({"linear": nn.Linear(300, 200), "norm": nn.LayerNorm(64)}))
    assert abs(float(state["linear.weight"].std()) * 300**0.5 - 1) < 0.05
    assert float(state["norm.weight"].min()) >= 0.9 and float(state["norm.weight"].max()) <= 1.1
    for name in ("linear.bias", "norm.bias"):
        assert float(state[name].abs().max()) <= 0.1
        assert float(state[name].abs().mean()) > 0.02


def test_a_tensor_without_a_rule_is_an_error() -> None:
    module = nn.Module()
    module.register_buffer("steps", torch.ones(1, dtype=torch.int64))
    with pytest.raises(ValueError, match="no seeding rule for steps"):
        seed_weights(module, 0)


def test_the_counter_of_a_batch_norm_that_no_evaluation_reads_is_zero() -> None:
    module = nn.BatchNorm1d(4)
    assert module.num_batches_tracked is not None
    module.num_batches_tracked += 3
    seed_weights(module, 0)
    assert int(module.num_batches_tracked) == 0


def test_one_thread_and_several_draw_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also across blocks, and for what is not float32."""
    from exporter.models import seeding

    monkeypatch.setattr(seeding, "_BLOCK", 64)

    def parts() -> nn.Module:
        return nn.ModuleList([nn.Linear(37, 11), nn.Linear(5, 3).half(), nn.Embedding(9, 33)])

    monkeypatch.setattr(seeding, "_THREADS", 1)
    alone = {name: tensor.clone() for name, tensor in seeded(parts()).items()}
    monkeypatch.setattr(seeding, "_THREADS", 4)
    for name, tensor in seeded(parts()).items():
        assert torch.equal(tensor, alone[name]) and tensor.dtype == alone[name].dtype
    monkeypatch.setattr(seeding, "_BLOCK", 1 << 17)
    assert digest_tensors(seeded(parts())) == digest_tensors(alone)
