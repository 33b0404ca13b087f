"""Which tensors a model's operators were given while it ran."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

_SIZES = frozenset(
    {
        Tensor.size,
        Tensor.dim,
        Tensor.numel,
        Tensor.__len__,
        *(
            getattr(Tensor, name).__get__
            for name in ("shape", "ndim", "dtype", "device", "layout", "is_cuda", "requires_grad")
        ),
    }
)
"""What asks for a tensor's kind and size, and not for its values."""


class Touched(TorchFunctionMode):
    """Notes the tensors that are given to anything but a question about their size.

    Attributes:
        ids: ``id`` of each; the tensors must live as long as it is asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[int] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func not in _SIZES:
            tensors = pytree.tree_leaves((args, kwargs or {}))
            self.ids |= {id(value) for value in tensors if isinstance(value, Tensor)}
        return func(*args, **(kwargs or {}))
