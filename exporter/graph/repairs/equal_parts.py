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
        if func in _PARTING and len(args) in (1, 2, 3):
            result = self._parts(*args, **kwargs)
            if result is not None:
                return result
        return func(*args, **kwargs)

    def _parts(
        self, x: Tensor, count: Any = None, dim: int = 0, **names: Any
    ) -> tuple[Tensor, ...] | None:
        count = names.get("chunks", count)
        size = x.shape[dim] if x.dim() else 0
        # Outside of a trace, for the proof, every size is a number.
        wanted = isinstance(size, torch.SymInt) or not is_tracing()
        if not wanted or not isinstance(count, int) or count < 1:
            return None
        if not statically_known_true(size % count == 0):
            return None
        self.log.at("chunk()")
        each = size // count
        return tuple(x.narrow(dim, at * each, each) for at in range(count))


REPAIR = Repair(
    name="equal_parts",
    replaces="the parts are cut out by their places",
    strategy="parts of an axis cut out by their places",
    matches=lambda module: True,
    apply=lambda module, log: _Parting(log),
)
