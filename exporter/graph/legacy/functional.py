"""Writes into memory, as values: who has been written to through which view, and what follows.

    a = clone(x)                          a
    b = slice(a)                          b = slice(a)
    add_(b, 1)            becomes         b1 = add(b, 1);  a1 = slice_scatter(a, b1)
    c = softmax(a)                        c = softmax(a1)

A trace keeps both ends of such a write under the names that they had before it. What shares memory
is known from running the trace on the example: two tensors with one storage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from exporter.core.errors import StageError
from exporter.graph.program import Ref

Emit = Callable[..., Ref]
"""``emit(target, *args)``: adds an op, and gives its value."""

_SCATTERED = {
    "aten.slice.Tensor": "aten.slice_scatter.default",
    "aten.select.int": "aten.select_scatter.default",
    "aten.diagonal.default": "aten.diagonal_scatter.default",
}
_INVERSE = {
    "aten.unsqueeze.default": "aten.squeeze.dim",
    "aten.transpose.int": "aten.transpose.int",
    "aten.t.default": "aten.t.default",
    "aten.alias.default": "aten.alias.default",
    "aten.detach.default": "aten.alias.default",
}
_RESHAPED = frozenset(
    "aten.view.default aten.reshape.default aten.flatten.using_ints aten.squeeze.default"
    " aten.squeeze.dim aten.unflatten.int aten.view_as.default aten.contiguous.default"
    " aten.dropout.default aten.to.dtype aten.to.device aten.to.other aten.type_as.default"
    " aten.expand.default aten.expand_as.default".split()
)
"""Of these only what has as many elements as what it shows can be written back."""


@dataclass(slots=True)
class _Memory:
    """One storage: how often it was written, and the value that stands for all of it."""

    written: int = 0
    views: dict[int, _View] = field(default_factory=dict)


@dataclass(slots=True)
class _View:
    """How a value shows another one; ``of`` is None for what was made with the memory.

    Attributes:
        fresh: writes that the value has seen.
    """

    of: int | None
    target: str
    args: tuple[Any, ...]
    fresh: int


class Functional:
    """Which values of a trace share memory, and what each of them is at present.

    Args:
        emit: adds an op to the program.
    """

    def __init__(self, emit: Emit):
        self._emit = emit
        self._memories: dict[int, _Memory] = {}
        self._memory_of: dict[int, int] = {}
        self._kept: list[Tensor] = []
        self.held: dict[int, Any] = {}

    def made(
        self, value: int, stand_in: Any, tensor: Tensor, of: int | None, target: str, args: Any
    ) -> None:
        """Take note of a tensor.

        Args:
            value: its number in the trace. stand_in: what stands for it. tensor: on the example.
            of: the first operand. target, args: the op, and its operands behind the first.
        """
        self.held[value] = stand_in
        key = tensor.untyped_storage().data_ptr() or id(tensor)
        self._kept.append(tensor)  # or the next one might get its memory
        memory = self._memories.setdefault(key, _Memory())
        shown = of if of is not None and self._memory_of.get(of) == key else None
        self._memory_of[value] = key
        memory.views[value] = _View(of=shown, target=target, args=args, fresh=memory.written)

    def read(self, value: int) -> Any:
        """What stands for a value now; a view of what was written to is taken anew."""
        memory = self._memories.get(self._memory_of.get(value, -1))
        if memory is None:
            return self.held[value]
        view = memory.views[value]
        if view.fresh != memory.written and view.of is not None:
            self.held[value] = self._emit(view.target, self.read(view.of), *view.args)
            view.fresh = memory.written
        return self.held[value]

    def write(self, value: int, new: Ref, tensors: dict[int, Any], place: str) -> None:
        """A value has been written to; what it is a view of as well.

        Raises:
            StageError: through a view that cannot be turned round.
        """
        memory = self._memories[self._memory_of[value]]
        chain: list[tuple[int, Any]] = [(value, new)]
        at = value
        while (view := memory.views[at]).of is not None:
            base = self.read(view.of)
            new = self._behind(view, base, new, tensors[at], tensors[view.of], place)
            at = view.of
            chain.append((at, new))
        memory.written += 1
        for each, stored_value in chain:
            self.held[each] = stored_value
            memory.views[each].fresh = memory.written

    def last_writes(self, value: int) -> int:
        """How often the memory of a value has been written by now."""
        memory = self._memories.get(self._memory_of.get(value, -1))
        return 0 if memory is None else memory.written

    def _behind(
        self, view: _View, base: Any, new: Ref, part: Tensor, whole: Tensor, place: str
    ) -> Ref:
        if view.target in _SCATTERED:
            return self._emit(_SCATTERED[view.target], base, new, *view.args)
        if view.target in _INVERSE:
            return self._emit(_INVERSE[view.target], new, *view.args)
        if view.target == "aten.permute.default":
            order = [int(axis) % whole.dim() for axis in view.args[0]]
            back = tuple(order.index(axis) for axis in range(len(order)))
            return self._emit("aten.permute.default", new, back)
        if view.target in _RESHAPED and part.numel() == whole.numel():
            return self._emit("aten.reshape.default", new, self._sizes(base, whole.dim()))
        at = f" at {place}" if place else ""
        raise StageError(
            "capture", f"memory is written through {view.target or 'a view'}{at}, in a trace"
        )

    def _sizes(self, base: Any, rank: int) -> tuple[Ref, ...]:
        return tuple(self._emit("aten.sym_size.int", base, axis) for axis in range(rank))
