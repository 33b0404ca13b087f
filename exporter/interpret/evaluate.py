"""Evaluate one op of a captured program in float32, or in float64 on given inputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any

import numpy as np
import torch

from exporter.graph.program import Block, Op, Ref
from exporter.graph.repairs.sequence_ops import OWN_TARGETS
from exporter.interpret.allowed_ops import resolve
from exporter.interpret.float64_kernels import DOUBLE_KERNELS

Lookup = Callable[[str], Any]

_VIEW = "aten.view.default"

_RECURRENT = OWN_TARGETS | {
    "aten.lstm.input",
    "aten.gru.input",
    "aten.rnn_tanh.input",
    "aten.rnn_relu.input",
}
WIDER = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
}


_TAKEN: ContextVar[set[int]] = ContextVar("taken")


@contextlib.contextmanager
def ways_taken() -> Iterator[set[int]]:
    """Collect the ids of the blocks that are run inside."""
    taken: set[int] = set()
    token = _TAKEN.set(taken)
    try:
        yield taken
    finally:
        _TAKEN.reset(token)


def call(op: Op, lookup: Lookup) -> Any:
    """Evaluate ``op`` as captured; ``lookup`` gives the value behind each reference."""
    args, kwargs = operands_of(op, lookup)
    # A value that was computed in another order may lie in memory in another way.
    kernel = torch.ops.aten.reshape.default if op.target == _VIEW else resolve(op.target)
    with _threads_for(op):
        return _resolved(kernel(*args, **kwargs))


def operands_of(op: Op, lookup: Lookup) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments and keyword arguments of an op as captured, with values for references."""
    args = tuple(_resolve(arg, lookup) for arg in op.args)
    return args, {key: _resolve(arg, lookup) for key, arg in op.kwargs.items()}


def call_double(op: Op, lookup: Lookup) -> Any:
    """Evaluate ``op`` in float64: floating inputs, weights and dtype arguments are widened.

    Integer and boolean inputs keep their dtype: they are decisions that were already taken.
    """

    def wide(name: str) -> Any:
        return widen(lookup(name))

    args = tuple(_resolve(arg, wide, widen_dtypes=True) for arg in op.args)
    kwargs = {key: _resolve(arg, wide, widen_dtypes=True) for key, arg in op.kwargs.items()}
    kernel = DOUBLE_KERNELS.get(op.target) or resolve(op.target)
    # Creation ops without a dtype follow the default dtype, so the result is widened as well.
    with _threads_for(op):
        return _resolved(widen(kernel(*args, **kwargs)))


def _threads_for(op: Op) -> contextlib.AbstractContextManager[None]:
    """One thread for recurrent ops.

    A step is a few microseconds of work; on a busy machine the barrier between steps costs a
    hundred times that.
    """
    return torch_threads(1) if op.target in _RECURRENT else contextlib.nullcontext()


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run torch with some number of threads; the old number is put back."""
    saved = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(saved)


def widen(value: Any) -> Any:
    """float16/bfloat16/float32 tensors -> float64, complex64 -> complex128; inside lists too."""
    if isinstance(value, torch.Tensor):
        return value.to(WIDER[value.dtype]) if value.dtype in WIDER else value
    if isinstance(value, (list, tuple)):
        return type(value)(widen(item) for item in value)
    return value


def _resolved(value: Any) -> Any:
    """Conjugate and negated views as values of their own: some ops do not take them as views."""
    if isinstance(value, torch.Tensor):
        return value.resolve_conj().resolve_neg()
    if isinstance(value, (list, tuple)):
        return type(value)(_resolved(item) for item in value)
    return value


def is_floating(value: Any) -> bool:
    """True for a floating or complex tensor, or a list or tuple that has one."""
    if isinstance(value, torch.Tensor):
        return value.is_floating_point() or value.is_complex()
    return isinstance(value, (list, tuple)) and any(is_floating(item) for item in value)


def _resolve(arg: Any, lookup: Lookup, *, widen_dtypes: bool = False) -> Any:
    if isinstance(arg, Ref):
        return lookup(arg.name)
    if isinstance(arg, Block):
        return partial(_run_block, arg, lookup, call_double if widen_dtypes else call)
    if isinstance(arg, tuple):
        return [_resolve(item, lookup, widen_dtypes=widen_dtypes) for item in arg]
    if widen_dtypes and isinstance(arg, torch.dtype):
        return WIDER.get(arg, arg)
    return arg


def _run_block(
    block: Block, lookup: Lookup, evaluate: Callable[[Op, Lookup], Any], *values: Any
) -> list[Any]:
    """Run ops that another op runs, on operands of theirs; what comes from outside is looked up."""
    _TAKEN.get(set()).add(id(block))
    inside = dict(zip(block.inputs, values, strict=True))

    def find(name: str) -> Any:
        return inside[name] if name in inside else lookup(name)

    for op in block.ops:
        inside[op.name] = evaluate(op, find)
    return [_resolve(item, find) for item in block.outputs]


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """A fresh tensor that owns its memory: what one side writes, the other never sees."""
    return torch.from_numpy(np.array(array, copy=True))


def keep_decisions(value: Any, reference: Any) -> Any:
    """Keep the reference's integers in a tuple of mixed values (``max`` returns both)."""
    if not isinstance(value, (list, tuple)):
        return value
    pairs = zip(value, reference, strict=True)
    return [wide if is_floating(wide) else plain for wide, plain in pairs]


def to_array(value: torch.Tensor | int) -> np.ndarray:
    """Tensor or size -> array; bfloat16, which numpy lacks, becomes float32 (exact)."""
    if not isinstance(value, torch.Tensor):
        return np.array(value, dtype=np.int64)
    # A conjugate or negated view has no memory of its own that numpy could read.
    value = value.detach().resolve_conj().resolve_neg()
    return value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()
