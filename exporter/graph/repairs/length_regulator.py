"""FastSpeech 2's length regulator: each token's embedding as often as its duration says.

As transformers writes it, rows are repeated one by one and a branch asks whether all durations are
zero. Here each output frame looks up the token that it belongs to: the first whose end lies behind
the frame. Nothing is computed with the embeddings, so the bits are the same. The table of positions
behind it, which is kept and grows where it is too short, is made for the length that comes out.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from exporter.graph.repairs.frame import Log, Repair, holders_of, replaced_names
from exporter.graph.repairs.module_run import ModuleRun

_HOME = "transformers.models.fastspeech2_conformer.modeling_fastspeech2_conformer"


def regulated(embeddings: Tensor, durations: Tensor) -> Tensor:
    """Embeddings ``[B, T, D]`` repeated by durations ``[B, T]``: ``[B, longest row, D]`` float32.

    Rows end in zeros. Durations that are all zero count as ones, and become ones in place.
    """
    durations.masked_fill_(durations.sum() == 0, 1)
    ends = durations.cumsum(1)
    longest: Any = ends[:, -1].max().item()
    torch._check(longest >= 1)
    frames = torch.arange(longest, device=ends.device)
    token = (ends.unsqueeze(1) <= frames.unsqueeze(1)).sum(2)  # [B, frames]
    there = frames < ends[:, -1:]
    place = (
        token.clamp(max=embeddings.shape[1] - 1).unsqueeze(2).expand(-1, -1, embeddings.shape[2])
    )
    gathered = embeddings.gather(1, place).to(torch.float32)
    return torch.where(there.unsqueeze(2), gathered, 0.0)


def _replacement(log: Log) -> Callable[..., Tensor]:
    def length_regulator(
        encoded_embeddings: Tensor, duration_labels: Tensor, speaking_speed: float = 1.0
    ) -> Tensor:
        log.at("length_regulator()")
        if speaking_speed <= 0:
            raise ValueError("`speaking_speed` must be greater than 0.")
        if speaking_speed != 1.0:
            duration_labels = torch.round(duration_labels.float() * speaking_speed).long()
        return regulated(encoded_embeddings, duration_labels)

    return length_regulator


@contextlib.contextmanager
def _apply(run: ModuleRun, log: Log) -> Iterator[None]:
    own = vars(sys.modules[_HOME])["length_regulator"]
    ours = _replacement(log)
    functions = [(owner, name, ours) for owner, name in holders_of(own)]
    kinds = {type(part) for part in run.module.modules() if type(part).__module__ == _HOME}
    tables = [
        (kind, "extend_pos_enc", _fresh(log, vars(kind)["extend_pos_enc"]))
        for kind in kinds
        if "extend_pos_enc" in vars(kind)
    ]
    with replaced_names([*functions, *tables]):
        yield


def _fresh(log: Log, own: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def extend_pos_enc(self: Any, x: Tensor, pos_enc: Tensor | None = None) -> Tensor:
        log.at("extend_pos_enc()")
        return own(self, x, None)

    return extend_pos_enc


def _matches(run: ModuleRun) -> bool:
    home = sys.modules.get(_HOME)
    used = any(type(part).__module__ == _HOME for part in run.module.modules())
    return used and home is not None and "length_regulator" in vars(home)


REPAIR = Repair(
    name="length_regulator",
    replaces="each frame looks its token up in place of a loop over the rows",
    strategy="durations looked up by frame",
    matches=_matches,
    apply=_apply,
)
