"""The callables that a captured program may name (an allow-list), and what is known of each."""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache, partial
from typing import Any

import torch

from exporter.core.errors import ArtifactError
from exporter.graph.program import Program
from exporter.graph.repairs.fourier_ops import FOURIER
from exporter.graph.repairs.grouped_ops import GROUPED
from exporter.graph.repairs.sequence_ops import OWN_TARGETS
from exporter.graph.unwritten_memory import allocates
from exporter.interpret.control_flow import CONTROL_FLOW
from exporter.models.custom_translation import TRUSTED
from exporter.parity.tolerance import natural_scale

_SCALAR_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{
        f"operator.{name}": getattr(operator, name)
        for name in (
            "add sub mul floordiv truediv mod pow neg getitem eq ne lt le gt ge and_ or_ not_ "
            "xor lshift rshift"
        ).split()
    },
    **{f"math.{name}": getattr(math, name) for name in "ceil floor trunc sqrt".split()},
    **{
        f"torch.{name}": getattr(torch, name)
        for name in (
            "sym_max sym_min sym_sum sym_not sym_ite sym_int sym_float _sym_sqrt _sym_log2 "
            "_sym_sin _sym_cos _sym_tan _sym_asin _sym_acos _sym_atan _sym_sinh _sym_cosh _sym_tanh"
        ).split()
    },
    "builtins.round": round,
}

_OURS = OWN_TARGETS | {GROUPED} | FOURIER.keys()

# aten ops that reach outside the process or run code; no captured model contains them.
_FORBIDDEN = ("from_file", "_print", "_test", "record_stream")

# Ops that only move or re-view elements: float32 and float64 agree bit for bit.
_MOVEMENT = frozenset(
    "view reshape permute transpose t expand squeeze unsqueeze slice select alias clone "
    "contiguous split split_with_sizes unbind cat stack index_select gather flatten "
    "_unsafe_view repeat flip narrow index embedding detach detach_ lift_fresh_copy "
    "constant_pad_nd where copy repeat_interleave pad masked_fill roll movedim unflatten "
    "numpy_T mT chunk expand_as view_as reflection_pad1d replication_pad1d".split()
)


_FILL: ContextVar[float] = ContextVar("fill", default=0.0)


@contextlib.contextmanager
def memory_filled(value: float) -> Iterator[None]:
    """Fill memory that nobody wrote with another number than 0 while the block runs."""
    token = _FILL.set(value)
    try:
        yield
    finally:
        _FILL.reset(token)


def _allocated(op: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
    """``torch.empty`` and its like, filled: what lies there by chance is no value."""
    allocated = op(*args, **kwargs)
    value = _FILL.get()
    if allocated.is_floating_point() or allocated.is_complex():
        return allocated.fill_(value)
    return allocated.fill_(0 if value == 0 else 1 if allocated.dtype == torch.bool else 97)


def resolve(target: str) -> Callable[..., Any]:
    """Return the callable that a program names.

    Raises:
        ArtifactError: the name is not on the allow-list.
    """
    # A user's own op is registered anew with each import of the module that has it.
    return (_found if target in TRUSTED else _known)(target)


def _found(target: str) -> Callable[..., Any]:
    if target in _SCALAR_FUNCTIONS:
        return _SCALAR_FUNCTIONS[target]
    if target in CONTROL_FLOW:
        return CONTROL_FLOW[target]
    namespace, _, rest = target.partition(".")
    name, _, overload = rest.partition(".")
    known = namespace in ("aten", "prims") or target in _OURS or target in TRUSTED
    plain = known and name.isidentifier()
    if plain and not name.startswith(_FORBIDDEN) and overload.isidentifier():
        packet = getattr(getattr(torch.ops, namespace), name, None)
        overload_op = getattr(packet, overload, None)
        if isinstance(overload_op, torch._ops.OpOverload):
            return partial(_allocated, overload_op) if allocates(target) else overload_op
    raise ArtifactError(
        f"the captured program calls '{target}', which is not an allowed operation",
        remedy="run the pipeline again with this version of export-verify",
    )


_known = cache(_found)


def moves_elements(target: str) -> bool:
    """True when the op computes nothing: its result holds elements of its inputs unchanged."""
    namespace, _, rest = target.partition(".")
    if target == "operator.getitem":
        return True
    return namespace == "aten" and rest.partition(".")[0] in _MOVEMENT


def shown_targets(program: Program) -> dict[str, str]:
    """Target of the op whose results each value shows, by the name of the value.

    A view behind a sigmoid holds probabilities like the sigmoid, and is as accurate as that:
    kernels that are accurate in the range of their results are not so in each of them.

    Where a value is put together of several (cat, where), these must be of one natural scale.
    """
    discrete = {op.name for op in program.ops if op.discrete}
    shown: dict[str, str] = {}
    for op in program.ops:
        shown[op.name] = op.target
        if not moves_elements(op.target):
            continue
        behind = [shown.get(name, "") for name in op.refs() if name not in discrete]
        scales = {natural_scale(target) for target in behind}
        if behind and len(scales) == 1:
            shown[op.name] = behind[0]
    return shown
