"""Complex values as pairs of real ones, and ``torch.stft`` and ``istft`` of any length.

ONNX has no complex numbers that onnxruntime computes with, and torch's exporter writes a handful of
ops on them. While a model is traced, ``short_time`` stands in the place of ``torch.stft`` and
``istft``; in the program that comes out each complex value then becomes a pair of real ones
(``pairs_in_program``), by one table of rules (``complex_rules``). For the proof the module runs by
the same rules: a complex tensor is taken apart in front of an op, and put together behind it.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from exporter.graph.program import source_of
from exporter.graph.repairs import complex_rules as _registered  # noqa: F401 - fills the table
from exporter.graph.repairs.complex_table import Pair, rule_of
from exporter.graph.repairs.frame import Log, Repair
from exporter.graph.repairs.pairs_in_program import in_pairs, is_complex, touches_complex
from exporter.graph.repairs.short_time import istft, stft

_ATEN = torch.ops.aten
_INSTEAD = {
    torch.functional.stft: ("stft()", stft),
    torch.istft: ("istft()", istft),
    Tensor.stft: ("stft()", stft),
    Tensor.istft: ("istft()", istft),
}
_WRITTEN = (
    "stft _fft_r2c _fft_c2c _fft_c2r fft_fft fft_ifft fft_rfft fft_irfft fft_fft2 fft_ifft2"
    " fft_rfft2 fft_irfft2 fft_fftn fft_ifftn fft_rfftn fft_irfftn view_as_real view_as_complex"
    " real imag abs _assert_tensor_metadata sym_size"
).split()
"""What torch's exporter writes of complex values, and rightly; a test holds it to that."""
_MADE_COMPLEX = frozenset({_ATEN.complex.default, _ATEN.polar.default, _ATEN._fft_r2c.default})


def _is_written(node: Node) -> bool:
    target: Any = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return False
    return target._schema.name.removeprefix("aten::") in _WRITTEN


def _unwritten(program: ExportedProgram) -> list[Node]:
    """Ops on complex values that torch's exporter does not write."""
    nodes = [n for n in program.graph.nodes if n.op == "call_function" and touches_complex(n)]
    return [node for node in nodes if not _is_written(node)]


def _rewritten(program: ExportedProgram, log: Log, wanted: bool) -> ExportedProgram:
    """The program in pairs, where it has something that is not written, or an stft was replaced."""
    nodes = program.graph.nodes
    complex_nodes = [n for n in nodes if n.op == "call_function" and is_complex(n.meta.get("val"))]
    unwritten = _unwritten(program) or (complex_nodes if wanted else [])
    if not unwritten and not log:
        return program
    for node in unwritten:
        packet: Any = getattr(node.target, "overloadpacket", node.target)
        where = "/".join(PurePath(source_of(node)).parts[-2:])
        log.add(f"complex {packet.__name__}", where)
    return in_pairs(program)


class _ShortTime(TorchFunctionMode):
    def __init__(self, log: Log):
        super().__init__()
        self.log = log

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func not in _INSTEAD:
            return func(*args, **(kwargs or {}))
        name, instead = _INSTEAD[func]
        self.log.at(name)
        return instead(*args, **(kwargs or {}))


class _ByRules(TorchDispatchMode):
    """Compute what is complex by the rules; views and writes stay torch's own."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [v for v in tree_leaves((args, kwargs)) if isinstance(v, Tensor)]
        known = any(v.is_complex() for v in given) or func in _MADE_COMPLEX
        rule = rule_of(func) if known and not _shows_or_writes(func) else None
        if rule is None:
            return func(*args, **kwargs)
        taken, named = tree_map(_taken_apart, (args, kwargs))
        return tree_map(_put_together, rule(*taken, **named))


def _shows_or_writes(func: Any) -> bool:
    return func._schema.is_mutable or any(r.alias_info for r in func._schema.returns)


def _taken_apart(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_complex():
        re, im = torch.view_as_real(value.resolve_conj()).unbind(-1)
        return Pair(re, im)
    return value


def _put_together(value: Any) -> Any:
    return torch.complex(value.re, value.im) if isinstance(value, Pair) else value


REPAIR = Repair(
    name="complex_pairs",
    replaces="complex values are pairs of real ones",
    strategy="complex values as pairs of real ones",
    matches=lambda run: True,
    apply=lambda run, log: _ShortTime(log),
    needed=lambda program: bool(_unwritten(program)),
    rewrite=_rewritten,
    running=_ByRules,
)
