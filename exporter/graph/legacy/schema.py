"""Calls of TorchScript as calls of torch's ops: names, overloads, and operands in their places."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from exporter.graph.program import Ref

_DTYPES = (
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.float32,
    torch.float64,
    torch.complex32,
    torch.complex64,
    torch.complex128,
    torch.bool,
    torch.qint8,
    torch.quint8,
    torch.qint32,
    torch.bfloat16,
)
"""TorchScript's numbers of them."""
_FORMATS = (torch.contiguous_format, torch.preserve_format, torch.channels_last)
PYTHON: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floordiv": operator.floordiv,
    "div": operator.truediv,
    "remainder": operator.mod,
    "neg": operator.neg,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
NUMBERS = ("int", "float", "int_float", "float_int")


def schema_name(schema: str) -> tuple[str, str]:
    """``aten::add.Tensor(...)`` -> ("add", "Tensor")."""
    name = schema.partition("(")[0].partition("::")[2]
    return name.partition(".")[0], name.partition(".")[2]


def writes(op: Any) -> bool:
    """Whether an op writes to one of its operands."""
    return any(
        argument.alias_info and argument.alias_info.is_write for argument in op._schema.arguments
    )


def op_of(name: str, overload: str) -> Any:
    """The op of torch's that has this name; None where there is none."""
    packet = getattr(torch.ops.aten, name, None)
    overload_op = getattr(packet, overload or "default", None)
    return overload_op if isinstance(overload_op, torch._ops.OpOverload) else None


def by_schema(op: Any, values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Operands in order as arguments and keywords, numbers that mean a dtype as a dtype."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for argument, value in zip(op._schema.arguments, values, strict=False):
        kind = str(argument.real_type)
        if isinstance(value, int) and not isinstance(value, bool):
            if "ScalarType" in kind:
                value = _DTYPES[value]
            elif "MemoryFormat" in kind:
                value = _FORMATS[value]
            elif "Layout" in kind:
                value = torch.strided if value == 0 else None
        if argument.kwarg_only:
            if value != argument.default_value or isinstance(value, Ref):
                kwargs[argument.name] = value
        else:
            args.append(value)
    return tuple(args), kwargs


def flat(values: Any) -> Iterator[Any]:
    """What lies in lists in lists."""
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from flat(value)
        else:
            yield value


def dtype_name(tensor: Tensor) -> str:
    """``float32``"""
    return str(tensor.dtype).removeprefix("torch.")
