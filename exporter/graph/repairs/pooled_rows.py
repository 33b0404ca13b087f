"""SpeechBrain's statistics pooling of rows with lengths: means and deviations with a mask.

As it is written each row is cut to its length, a Python number, and rows are looped over. Here all
rows are taken at once, and the frames behind a row's end count nothing.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from exporter.graph.repairs.frame import Log, Repair, replaced_names
from exporter.graph.repairs.module_run import ModuleRun

_HOME = "speechbrain.nnet.pooling"


@dataclass(frozen=True, slots=True)
class CountedRows:
    """Rows ``[B, T, ...]`` of which the first ``counts [B]`` frames are there."""

    x: Tensor
    counts: Tensor

    def mean(self, dim: int) -> Tensor:
        """Over the frames that are there: ``[B, ...]``; NaN for a row without any."""
        return self._summed(self.x) / self._counts()

    def std(self, dim: int) -> Tensor:
        """Unbiased deviation over them: ``[B, ...]``; NaN for a row of one frame or none."""
        away = self.x - self.mean(dim).unsqueeze(1)
        return (self._summed(away * away) / (self._counts() - 1).clamp(min=0)).sqrt()

    def _counts(self) -> Tensor:
        return self.counts.reshape(-1, *[1] * (self.x.dim() - 2))

    def _summed(self, values: Tensor) -> Tensor:
        frames = torch.arange(self.x.shape[1], device=self.x.device)
        there = frames < self.counts.unsqueeze(1)
        there = there.reshape(*there.shape, *[1] * (self.x.dim() - 2))
        return torch.where(there, values, 0.0).sum(1)


def _pooling() -> Any:
    return vars(sys.modules[_HOME])["StatisticsPooling"] if _HOME in sys.modules else None


@contextlib.contextmanager
def _apply(run: ModuleRun, log: Log) -> Iterator[None]:
    pooling = _pooling()
    own = pooling.forward

    def forward(self: Any, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is None:
            return own(self, x)
        log.at("statistics of each row")
        counts = torch.round(lengths * x.shape[1])
        # ``x[:n]`` of a negative number leaves as many out at the end.
        counts = torch.where(counts < 0, counts + x.shape[1], counts).clamp(0, x.shape[1])
        # Without lengths it asks for nothing but ``mean`` and ``std``.
        return own(self, CountedRows(x, counts))

    with replaced_names([(pooling, "forward", forward)]):
        yield


REPAIR = Repair(
    name="pooled_rows",
    replaces="means and deviations of all rows at once, with a mask",
    strategy="statistics of rows with a mask",
    matches=lambda run: run.calls(getattr(_pooling(), "forward", None)),
    apply=_apply,
)
