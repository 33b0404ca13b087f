"""The table of rules for complex values, and the rules of ops that do the same to both parts.

A rule gets the arguments of its op, with a ``Pair`` in the place of a complex tensor, and returns
real tensors and pairs. It runs on tensors with values as well as under a trace. ``complex_rules``
adds what is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

Rule = Callable[..., Any]

_REAL_OF = {torch.complex64: torch.float32, torch.complex128: torch.float64}
_ATEN: Any = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Pair:
    """The real and the imaginary part of a complex tensor; both have its shape."""

    re: Any
    im: Any


_RULES: dict[str, Rule] = {}
_WITH_OP: set[Rule] = set()
_SAME_FOR_BOTH = (
    "view reshape _unsafe_view permute transpose t expand squeeze unsqueeze slice select alias"
    " clone contiguous split split_with_sizes unbind chunk index_select gather flatten repeat flip"
    " narrow index detach lift_fresh lift_fresh_copy roll movedim unflatten unfold numpy_T mT cat"
    " stack reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d diagonal tril"
    " triu sum mean cumsum neg repeat_interleave masked_select as_strided embedding view_copy"
    " squeeze_copy select_copy slice_copy expand_copy permute_copy transpose_copy unsqueeze_copy"
).split()
_CREATE = (
    "zeros ones full empty zeros_like ones_like full_like empty_like new_zeros new_ones new_full"
).split()
_WRITTEN = "add sub mul div copy fill zero neg masked_fill index_put".split()
"""Of these the op that ends with ``_`` writes what the op gives into its first argument."""


def rule_of(op: Any) -> Rule | None:
    """The rule of an op of torch, if there is one."""
    if not isinstance(op, torch._ops.OpOverload) or op.namespace not in ("aten", "prims"):
        return None
    name = op._schema.name.partition("::")[2]
    if name.endswith("_") and name[:-1] in _WRITTEN:
        return partial(_into, _RULES[name[:-1]])
    rule = _RULES.get(f"{name}.{op._overloadname}") or _RULES.get(name)
    # The rest of the schema is the op's own: an overload takes other arguments.
    if rule is None:
        return _of_torch(op)
    return partial(rule, op) if rule in _WITH_OP else rule


def _of_torch(op: Any) -> Rule | None:
    """The rule that torch's own class of pairs has: for functions that are rarely met."""
    from torch._subclasses.complex_tensor import ComplexTensor
    from torch._subclasses.complex_tensor._ops.common import COMPLEX_OPS_TABLE

    if op._schema.is_mutable:
        return None
    made: Any = COMPLEX_OPS_TABLE.get(op) or COMPLEX_OPS_TABLE.get(op.overloadpacket)

    def rule(*args: Any, **kwargs: Any) -> Any:
        given = tree_map(
            lambda each: ComplexTensor(each.re, each.im) if isinstance(each, Pair) else each,
            (args, kwargs),
        )
        return tree_map(
            lambda each: Pair(each.re, each.im) if isinstance(each, ComplexTensor) else each,
            made(*given[0], **given[1]),
        )

    return None if made is None else rule


def rule_for(*names: str, with_op: bool = False) -> Callable[[Rule], Rule]:
    """Put a function into the table; ``with_op``: its first argument is the op itself."""

    def named(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(names, rule))
        if with_op:
            _WITH_OP.add(rule)
        return rule

    return named


def _into(rule: Rule, to: Pair, *args: Any, **kwargs: Any) -> Pair:
    found = pair_of(rule(to, *args, **kwargs))
    for part, value in ((to.re, found.re), (to.im, found.im)):
        part.copy_(value) if isinstance(value, Tensor) else part.fill_(value)
    return to


def parts_of(value: Any) -> tuple[Any, Any]:
    """Real and imaginary part; None for that of a real value."""
    if isinstance(value, Pair):
        return value.re, value.im
    if isinstance(value, complex):
        return value.real, value.imag
    return value, None


def pair_of(value: Any) -> Pair:
    """A tensor or a number as a pair."""
    re, im = parts_of(value)
    if im is None:
        im = torch.zeros_like(re) if isinstance(re, Tensor) else 0.0
    return Pair(re, im)


def widened_to(part: Any, other: Any) -> Any:
    """A part, as large as the result of adding something real to it."""
    if not isinstance(other, Tensor) or not other.dim():
        return part
    return part + torch.zeros_like(other)


def _halves(args: Any, at: int) -> Any:
    """Arguments with one of the parts of each pair; the imaginary part of what is real is 0."""
    if isinstance(args, Pair):
        return (args.re, args.im)[at]
    if isinstance(args, (list, tuple)):
        mixed = any(isinstance(each, Pair) for each in args)
        known = [pair_of(each) if mixed and isinstance(each, Tensor) else each for each in args]
        return type(args)(_halves(each, at) for each in known)
    return args


@rule_for(*_SAME_FOR_BOTH, with_op=True)
def for_both(op: Any, *args: Any, **kwargs: Any) -> Any:
    """An op that does the same to both parts; its other arguments are real."""
    if isinstance(kwargs.get("dtype"), torch.dtype):
        kwargs["dtype"] = _REAL_OF.get(kwargs["dtype"], kwargs["dtype"])
    # ``index`` takes a list of what is real, ``cat`` a list of what may be complex.
    first, rest = args[0], args[1:]
    re, im = (op(_halves(first, at), *rest, **kwargs) for at in (0, 1))
    if isinstance(re, (list, tuple)):
        return [Pair(a, b) for a, b in zip(re, im, strict=True)]
    return Pair(re, im)


@rule_for(*_CREATE, with_op=True)
def _created(op: Any, *args: Any, **kwargs: Any) -> Any:
    like = [each for each in args if isinstance(each, Pair)]
    dtype = kwargs.get("dtype")
    if dtype is not None and dtype not in _REAL_OF:
        return op(*_halves(tuple(args), 0), **kwargs)
    numbers = [each for each in (*args, *kwargs.values()) if isinstance(each, complex)]
    if dtype is not None:
        kwargs["dtype"] = _REAL_OF[dtype]
    elif not like and not numbers:
        return op(*args, **kwargs)
    args = tuple(each.re if isinstance(each, Pair) else each for each in args)

    def part(name: str) -> Any:
        def of(value: Any) -> Any:
            return getattr(value, name) if isinstance(value, complex) else value

        return op(*map(of, args), **{key: of(value) for key, value in kwargs.items()})

    re = part("real")
    return Pair(re, part("imag") if numbers else torch.zeros_like(re))


@rule_for("to", "_to_copy", "convert_element_type", "type_as", with_op=True)
def _cast(op: Any, z: Any, *args: Any, **kwargs: Any) -> Any:
    given = [*args, *kwargs.values()]
    wanted = next((each for each in given if isinstance(each, torch.dtype)), None)
    twin = next((each for each in given if isinstance(each, Pair)), None)
    to_complex = twin is not None or wanted in _REAL_OF or (wanted is None and _is_both(z, args))

    def real(value: Any) -> Any:
        if isinstance(value, torch.dtype):
            return _REAL_OF.get(value, value)
        return value.re if isinstance(value, Pair) else value

    args = tuple(map(real, args))
    kwargs = {key: real(value) for key, value in kwargs.items()}
    if not to_complex:
        return op(parts_of(z)[0], *args, **kwargs)
    held = pair_of(z)
    return Pair(op(held.re, *args, **kwargs), op(held.im, *args, **kwargs))


def _is_both(z: Any, args: Sequence[Any]) -> bool:
    return isinstance(z, Pair) and not any(isinstance(each, Tensor) for each in args)
