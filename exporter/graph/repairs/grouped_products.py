"""Products of groups of rows with a matrix each, as mixtures of experts have them.

transformers sorts tokens by expert and calls an op of its own, or torch.nn.functional's
``grouped_mm``; no exporter has either in ONNX. Here both are one op (``grouped_ops``), and in the
file each group is sliced out, multiplied by its expert's matrix, and put in its place: as many
products as experts, with no more arithmetic than PyTorch does.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from onnxscript import INT64
from torch import Tensor
from torch.overrides import TorchFunctionMode

from exporter.graph.recurrent import op
from exporter.graph.repairs.frame import Log, Repair, calls, holders_of, replaced_names
from exporter.graph.repairs.grouped_ops import grouped_product
from exporter.graph.repairs.module_run import ModuleRun

_HOME = "transformers.integrations.moe"
_FALLBACK = "_grouped_mm"


def _ours(log: Log, own: Callable[..., Any]) -> Callable[..., Any]:
    def grouped(x: Tensor, weights: Tensor, offs: Tensor | None = None, **others: Any) -> Tensor:
        if (
            x.dim() != 2
            or weights.dim() != 3
            or offs is None
            or any(value is not None for value in others.values())
        ):
            return own(x, weights, offs=offs, **others)
        log.at("a product of groups")
        return grouped_product(x.to(weights.dtype), weights, offs)

    return grouped


@contextlib.contextmanager
def _apply(run: ModuleRun, log: Log) -> Iterator[None]:
    held = [vars(sys.modules.get(_HOME, object)).get(_FALLBACK)]
    held += [getattr(torch.nn.functional, "grouped_mm", None), getattr(torch, "_grouped_mm", None)]
    replaced = replaced_names(
        (owner, name, _ours(log, own))
        for own in filter(None, held)
        for owner, name in holders_of(own)
    )
    with replaced, _Stable():
        yield


class _Stable(TorchFunctionMode):
    """``torch.sort`` of integers leaves equal ones in their order, as ONNX's TopK does.

    PyTorch says nothing of that order, and experts' rows are found again whatever it is.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        plain = func in (torch.sort, Tensor.sort) and len(args) == 1 and "stable" not in kwargs
        if plain and not args[0].is_floating_point():
            kwargs["stable"] = True
        return func(*args, **kwargs)


def _translated(x: Any, weights: Any, ends: Any) -> Any:
    """``grouped_product`` -> a Slice and a MatMul for each group, and a Concat."""

    def ints(*values: int) -> Any:
        return op.Constant(value_ints=list(values))

    ends = op.Cast(ends, to=INT64.dtype)
    parts, begin = [], ints(0)
    for number in range(int(weights.shape[0])):
        end = op.Slice(ends, ints(number), ints(number + 1), ints(0))
        rows = op.Slice(x, begin, end, ints(0))
        parts.append(op.MatMul(rows, op.Gather(weights, op.Constant(value_int=number), axis=0)))
        begin = op.Max(begin, end)
    rest = op.Sub(op.Shape(x, start=0, end=1), begin)
    width = op.Shape(weights, start=2, end=3)
    zero = op.CastLike(op.Constant(value_float=0.0), x)
    return op.Concat(*parts, op.Expand(zero, op.Concat(rest, width, axis=0)), axis=0)


def _sorted(x: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """``sort`` that is stable -> TopK of all: of equal values it takes the first one first."""
    axis = dim % len(x.shape)
    size = op.Shape(x, start=axis, end=axis + 1)
    return op.TopK(x, size, axis=axis, largest=int(descending), sorted=1)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.export_verify.grouped_product.default: _translated,
    torch.ops.aten.sort.stable: _sorted,
}

REPAIR = Repair(
    name="grouped_products",
    replaces="each group is multiplied by its matrix, in its place",
    strategy="products of groups one by one",
    matches=lambda run: True,
    apply=_apply,
    needed=calls("transformers::grouped_mm_fallback", "aten::_grouped_mm"),
)
