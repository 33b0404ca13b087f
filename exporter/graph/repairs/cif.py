"""FunASR's continuous integrate and fire (``cif_v1``), row by row in place of all fires in a list.

Upstream gathers the frames that fire of all rows in one list, whose length is data, and returns
early where none fires. Here the k-th fire of each row is looked up by its place; what is added and
subtracted is the same, in the same order.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from exporter.graph.repairs.frame import Log, Repair, holders_of, replaced_names
from exporter.graph.repairs.module_run import ModuleRun

_HOME = "funasr.models.paraformer.cif_predictor"


def fired(hidden: Tensor, alphas: Tensor, fires: Tensor, does: Tensor) -> Tensor:
    """Tokens ``[B, N, D]``, zero behind each row's; N is the largest rounded sum of weights.

    Args:
        hidden: ``[B, T, D]``. alphas: ``[B, T]``, weights. fires: ``[B, T]``, what is full at each
        frame. does: ``[B, T]`` bool, the frames at which a token fires.
    """
    width = hidden.shape[2]
    sums = torch.cumsum(alphas.unsqueeze(-1).repeat((1, 1, width)) * hidden, dim=1)
    remains = (fires - torch.floor(fires)).unsqueeze(-1).repeat((1, 1, width)) * hidden
    most: Any = torch.round(alphas.sum(-1)).int().max().item()
    torch._check(most >= 0)
    token = torch.arange(most, device=hidden.device)
    # The place of a row's k-th fire: so many frames lie before it.
    place = (does.cumsum(1).unsqueeze(1) <= token.unsqueeze(1)).sum(2)  # [B, N]
    there = (token < does.sum(1, keepdim=True)).unsqueeze(2)
    place = place.clamp(max=hidden.shape[1] - 1).unsqueeze(2).expand(-1, -1, width)
    now, rest = sums.gather(1, place), remains.gather(1, place)
    first = (token == 0).unsqueeze(1)
    before = torch.where(first, 0.0, _one_later(now))
    rest_before = torch.where(first, 0.0, _one_later(rest))
    return torch.where(there, now - before + rest_before - rest, 0.0)


def _one_later(values: Tensor) -> Tensor:
    return nn.functional.pad(values, (0, 0, 1, 0))[:, : values.shape[1]]


def _replacement(log: Log, upstream: Callable[..., Any]) -> Callable[..., Any]:
    def cif_v1(hidden: Tensor, alphas: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
        log.at("cif_v1()")
        fires, does = upstream(alphas, threshold, return_fire_idxs=True)
        return fired(hidden, alphas, fires, does), fires

    return cif_v1


@contextlib.contextmanager
def _apply(run: ModuleRun, log: Log) -> Iterator[None]:
    home = vars(sys.modules[_HOME])
    ours = _replacement(log, home["cif_wo_hidden_v1"])
    with replaced_names([(owner, name, ours) for owner, name in holders_of(home["cif_v1"])]):
        yield


def _matches(run: ModuleRun) -> bool:
    home = vars(sys.modules.get(_HOME) or object)
    used = any(type(part).__module__ == _HOME for part in run.module.modules())
    return used and {"cif_v1", "cif_wo_hidden_v1"} <= set(home)


REPAIR = Repair(
    name="cif",
    replaces="each row's tokens are looked up in place of a list of all fires",
    strategy="tokens that fire looked up by row",
    matches=_matches,
    apply=_apply,
)
