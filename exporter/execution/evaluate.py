"""Evaluate one op of a captured program in float32, or in float64 on given inputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from exporter.execution.decisions import is_drawn
from exporter.execution.double_kernels import DOUBLE_KERNELS
from exporter.execution.stopwatch import RUNNING, timed
from exporter.execution.targets import resolve
from exporter.graph.program import Op, Program, Ref

Lookup = Callable[[str], Any]

_RECURRENT = frozenset(
    {"aten.lstm.input", "aten.gru.input", "aten.rnn_tanh.input", "aten.rnn_relu.input"}
)
_WIDER = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
}


def call(op: Op, lookup: Lookup) -> Any:
    """Evaluate ``op`` as captured; ``lookup`` gives the value behind each reference."""
    args, kwargs = operands_of(op, lookup)
    with _recurrent_threads(op):
        return resolve(op.target)(*args, **kwargs)


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
    with _recurrent_threads(op):
        return widen(kernel(*args, **kwargs))


@contextlib.contextmanager
def _recurrent_threads(op: Op) -> Iterator[None]:
    """One thread for recurrent ops.

    A step is a few microseconds of work; on a busy machine the barrier between steps costs a
    hundred times that.
    """
    if op.target not in _RECURRENT:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def widen(value: Any) -> Any:
    """float16/bfloat16/float32 tensors -> float64, complex64 -> complex128; inside lists too."""
    if isinstance(value, torch.Tensor):
        return value.to(_WIDER[value.dtype]) if value.dtype in _WIDER else value
    if isinstance(value, (list, tuple)):
        return type(value)(widen(item) for item in value)
    return value


def is_floating(value: Any) -> bool:
    """True for a floating or complex tensor, or a list or tuple whose first tensor is one."""
    if isinstance(value, torch.Tensor):
        return value.is_floating_point() or value.is_complex()
    return isinstance(value, (list, tuple)) and bool(value) and is_floating(value[0])


def _resolve(arg: Any, lookup: Lookup, *, widen_dtypes: bool = False) -> Any:
    if isinstance(arg, Ref):
        return lookup(arg.name)
    if isinstance(arg, tuple):
        return [_resolve(item, lookup, widen_dtypes=widen_dtypes) for item in arg]
    if widen_dtypes and isinstance(arg, torch.dtype):
        return _WIDER.get(arg, arg)
    return arg


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """A fresh tensor that owns its memory: what one side writes, the other never sees."""
    return torch.from_numpy(np.array(array, copy=True))


def run_program(program: Program, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run the whole captured program in its own precision; returns its outputs by public name.

    Values are dropped after their last use.
    """
    return _run(program, inputs, frozenset(), {})[0]


def run_with_truth(
    program: Program,
    inputs: Mapping[str, np.ndarray],
    wide: Mapping[str, np.ndarray] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Run in float32 and, for what the floating outputs depend on, in float64 beside it.

    The float64 run takes integers and booleans from the float32 run, so both see the same
    segments. Integer outputs are in both results, and equal.

    Args:
        program: what is run.
        inputs: by name.
        wide: float64 values of inputs that carry state, for the float64 run.
    """
    return _run(program, inputs, _needed_for_floats(program), wide or {})


def _run(
    program: Program,
    inputs: Mapping[str, np.ndarray],
    doubled: frozenset[str],
    wide_inputs: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    values: dict[str, Any] = {name: to_tensor(inputs[name]) for name in program.inputs}
    values |= {name: program.tensors[key] for name, key in program.weights.items()}
    wide: dict[str, Any] = {name: to_tensor(array) for name, array in wide_inputs.items()}
    last = last_uses(program)

    def wide_or_plain(name: str) -> Any:
        return wide[name] if name in wide else values[name]

    with torch.no_grad(), timed(RUNNING):
        for index, op in enumerate(program.ops):
            value = call(op, values.__getitem__)
            if op.name in doubled and is_floating(value):
                drawn = is_drawn(resolve(op.target), op.args)
                wide[op.name] = (
                    widen(value) if drawn else keep_decisions(call_double(op, wide_or_plain), value)
                )
            values[op.name] = value
            for name in last.get(index, ()):
                values.pop(name, None)
                wide.pop(name, None)
    pairs = list(zip(program.outputs, program.output_names, strict=True))
    plain = {label: to_array(values[name]) for name, label in pairs}
    return plain, {label: to_array(wide_or_plain(name)) for name, label in pairs}


def _needed_for_floats(program: Program) -> frozenset[str]:
    """Values that a floating output depends on; nothing else needs a float64 run."""
    producers = {op.name: op for op in program.ops}
    floating = {
        op.name
        for op in program.ops
        if op.name in program.outputs and not op.dtype.startswith(("int", "uint", "bool"))
    }
    needed: set[str] = set()
    stack = list(floating)
    while stack:
        name = stack.pop()
        if name not in needed and name in producers:
            needed.add(name)
            stack.extend(producers[name].refs())
    return frozenset(needed)


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


def last_uses(program: Program) -> dict[int, tuple[str, ...]]:
    """Index of an op -> values that no later op reads and that are not outputs."""
    final: dict[str, int] = {}
    for index, op in enumerate(program.ops):
        final[op.name] = index
        for name in op.refs():
            final[name] = index
    released: dict[int, list[str]] = {}
    for name, index in final.items():
        if name not in program.outputs and name not in program.weights:
            released.setdefault(index, []).append(name)
    return {index: tuple(names) for index, names in released.items()}
