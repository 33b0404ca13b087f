"""``tensor.tolist()`` while a model is traced, for code that asks how many there are and how long.

A list of Python numbers freezes the number of rows of the example. Much code makes one of lengths
to take its maximum, or to make a tensor of it again (``make_pad_mask`` and alike). For that a list
that is still a tensor will do; what looks at its items gets them as of a list, and freezes their
number.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_TRACED: list[Any] = []
with contextlib.suppress(ImportError):  # another torch keeps them elsewhere
    from torch._subclasses.fake_tensor import FakeTensor
    from torch._subclasses.functional_tensor import FunctionalTensor

    _TRACED += [FakeTensor, FunctionalTensor]

_MAKERS = (torch.tensor, torch.as_tensor, torch.LongTensor, torch.IntTensor)
_MAKING_METHODS = (Tensor.new, Tensor.new_tensor)


class SymbolicList:
    """A one-dimensional integer tensor that passes for the list of its values."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor

    @property
    def __class__(self) -> type:  # type: ignore[override]
        return list

    def __iter__(self) -> Iterator[Any]:
        return (self.tensor[at].item() for at in range(int(self.tensor.shape[0])))

    def __len__(self) -> int:
        return int(self.tensor.shape[0])

    def __getitem__(self, at: Any) -> Any:
        return list(self)[at] if isinstance(at, slice) else self.tensor[at].item()


def is_symbolic_list(value: Any) -> bool:
    """True for a list that is still a tensor (``isinstance`` says list, as it should)."""
    return type(value) is SymbolicList


@contextlib.contextmanager
def lists_stay_tensors(seen: Callable[[], None]) -> Iterator[None]:
    """Let ``tolist`` of integers in one dimension give a ``SymbolicList``, while the block runs.

    The tensors of a trace have a ``tolist`` of their own, which no mode sees; it is put back.

    Args:
        seen: called when one is made.
    """
    kept = {kind: kind.__dict__.get("tolist") for kind in _TRACED}

    def replaced(own: Any) -> Any:
        def tolist(self: Tensor) -> Any:
            if not _is_list_of_integers(self):
                return own(self)
            seen()
            return SymbolicList(self)

        return tolist

    try:
        for kind, own in kept.items():
            if own is not None:
                kind.tolist = replaced(own)  # type: ignore[method-assign]
        with _ListsStayTensors(seen):
            yield
    finally:
        for kind, own in kept.items():
            if own is not None:
                kind.tolist = own  # type: ignore[method-assign]


class _ListsStayTensors(TorchFunctionMode):
    """The same for tensors that hold values, and what makes a tensor of a ``SymbolicList``."""

    def __init__(self, seen: Callable[[], None]):
        super().__init__()
        self.seen = seen

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.tolist and _is_list_of_integers(args[0]):
            self.seen()
            return SymbolicList(args[0])
        if func in _MAKERS and args and is_symbolic_list(args[0]):
            return _as_tensor(args[0].tensor, kwargs.get("dtype"))
        if func in _MAKING_METHODS and len(args) > 1 and is_symbolic_list(args[1]):
            return _as_tensor(args[1].tensor, kwargs.get("dtype") or args[0].dtype)
        return func(*args, **kwargs)


def _is_list_of_integers(tensor: Tensor) -> bool:
    whole = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype is torch.bool)
    return tensor.dim() == 1 and whole


def _as_tensor(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    # A tensor of a list of integers is int64, unless it is said otherwise.
    return tensor.to(dtype or torch.int64)
