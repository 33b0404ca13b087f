"""One op, taken apart by torch on the abstract values that it has in a program."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Graph, Node
from torch.fx.node import map_arg
from torch.utils._pytree import tree_map

with contextlib.suppress(ImportError):  # another torch keeps them elsewhere: it does its own
    from torch._dispatch.python import enable_python_dispatcher
    from torch.fx.experimental.proxy_tensor import make_fx


class LeftToTorch(Exception):  # noqa: N818 - not an error: the other way is taken
    """Why a program is decomposed by torch."""


@dataclass(frozen=True, slots=True)
class Template:
    """What one kind of op becomes: a graph whose placeholders are the op's tensors and sizes."""

    graph: Graph
    results: Any


@dataclass(frozen=True, slots=True)
class Operand:
    """The nth of the tensors and sizes that an op reads."""

    number: int


def described(value: Any) -> Any:
    """What decides how an op on ``value`` is taken apart."""
    if isinstance(value, torch.Tensor):
        return (
            value.dtype,
            str(tuple(value.shape)),
            str(value.stride()) if value.layout is torch.strided else str(value.layout),
            str(value.device),
        )
    if isinstance(value, (tuple, list)):
        return tuple(map(described, value))
    return type(value), str(value)


def trace_op(
    target: Any, args: Any, kwargs: Any, values: list[Any], plain: Any, node: Node
) -> Template:
    """Let torch take one op apart, on the abstract values that it has in the program."""

    def call(*given: Any) -> Any:
        filled, named = (
            tree_map(lambda item: given[item.number] if isinstance(item, Operand) else item, part)
            for part in (args, kwargs)
        )
        return target(*filled, **named)

    graph = trace_call(call, values, plain, f"'{node.name}' ({target})")
    calls = [part for part in graph.nodes if part.op == "call_function"]
    for part in calls:
        if _writes(part.target):
            raise LeftToTorch(f"'{node.name}' ({target}) becomes {part.target}")
    (output,) = (part for part in graph.nodes if part.op == "output")
    results = output.args[0]
    _check_shapes(node, target, results, alone=len(calls) == 1)
    return Template(graph, results)


def trace_call(
    call: Callable[..., Any], values: list[Any], plain: Any, label: str, mode: Any = None
) -> Graph:
    """What ``call`` does with ``values``, which are abstract.

    Args:
        plain: decompositions of ops. label: what is traced, for an error.
        mode: of the abstract values; None: that of those in ``values``.

    Raises:
        LeftToTorch: it cannot be traced, or makes a constant.
    """
    modes = {v.fake_mode for v in values if isinstance(v, torch._subclasses.FakeTensor)}
    modes = modes or {mode} - {None}
    if len(modes) != 1 or any(value is None for value in values):
        raise LeftToTorch(f"{label} reads no abstract value")
    (mode,) = modes
    fresh = (
        mode.shape_env.ignore_fresh_unbacked_symbols()
        if mode.shape_env
        else contextlib.nullcontext()
    )
    try:
        with mode, fresh, enable_python_dispatcher():
            made = make_fx(call, decomposition_table=plain, tracing_mode="real")(*values)
    except Exception as error:
        raise LeftToTorch(f"{label} cannot be traced: {error}") from error
    graph = made.graph
    graph.eliminate_dead_code()
    for part in graph.nodes:
        if part.op == "get_attr":
            raise LeftToTorch(f"{label} becomes {part.target}")
    return graph


def _writes(target: Any) -> bool:
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable


def _check_shapes(node: Node, target: Any, results: Any, *, alone: bool) -> None:
    """What comes out must be what the program says; a size that is read from data has a new name.

    Raises:
        LeftToTorch: it is not.
    """
    wanted = node.meta.get("val")
    results_shape = map_arg(results, lambda part: part.meta.get("val"))
    scalar = alone and isinstance(wanted, (torch.SymInt, torch.SymBool, torch.SymFloat))
    if scalar and type(results_shape) is type(wanted):
        return
    if _shapes(wanted) != _shapes(results_shape):
        raise LeftToTorch(f"'{node.name}' ({target}) has another shape when it is traced alone")


def _shapes(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.dtype, str(tuple(value.shape))
    if isinstance(value, (tuple, list)):
        return [_shapes(item) for item in value]
    return str(value)
