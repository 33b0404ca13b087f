"""``x.chunk(2)`` of an axis that is twice another one: as many parts as are asked for.

torch counts the parts of an axis by its size at the example, and freezes what it counted. Where the
size is known to be a multiple of the number of parts, there are as many as were asked for, and each
is cut out by its place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.overrides import TorchFunctionMode

from exporter.graph.repairs.frame import Log, Repair, is_tracing

_PARTING = (torch.chunk, Tensor.chunk)


class _Parting(TorchFunctionMode):
    def __init__(self, log: Log):
        super().__init__()
        self.log = log

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _PARTING:
            result = self._parts(*args, **kwargs)
            if result is not None:
                return result
        return func(*args, **kwargs)

    def _parts(self, input: Tensor, chunks: Any, dim: int = 0) -> tuple[Tensor, ...] | None:
        size = input.shape[dim] if input.dim() else 0
        # Outside of a trace, for the proof, every size is a number.
        wanted = isinstance(size, torch.SymInt) or not is_tracing()
        if not wanted or not isinstance(chunks, int) or chunks < 1:
            return None
        if not statically_known_true(size % chunks == 0):
            return None
        self.log.at("chunk()")
        each = size // chunks
        return tuple(input.narrow(dim, at * each, each) for at in range(chunks))


REPAIR = Repair(
    name="equal_parts",
    replaces="the parts are cut out by their places",
    strategy="parts of an axis cut out by their places",
    matches=lambda run: True,
    apply=lambda run, log: _Parting(log),
)
