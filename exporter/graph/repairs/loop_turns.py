"""What a loop that is written as a turn means (``loop_source``): run turn by turn, or as one op.

While a model is traced and the number of turns is a size of the graph, the turns are torch's
``scan``, which is ONNX's Scan. Otherwise they run one after the other.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch._higher_order_ops.scan
import torch._higher_order_ops.utils
from torch import Tensor
from torch._higher_order_ops.scan import scan
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from exporter.graph.repairs.frame import Log, NotRepairedError, is_tracing

_REMEDY = (
    "let a turn read tensors and what the turn before handed on, in the same shapes, and append to"
    " lists that torch.stack joins; or export one step and hand on what it keeps as 'states'"
)
_FOLLOWED: set[tuple[str, int]] = set()
"""Loops (file, line) that were one op in a capture: a proof runs these as turns as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """What a loop goes over, without having begun: how often, and what it gets at a place."""

    count: Any
    item: Callable[[Tensor], Any]
    plain: Callable[[], Any]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.plain())


class Span:
    """``t : t + n`` where ``t`` may be a number in a tensor."""

    def __init__(self, low: Any, count: Any):
        self.low, self.count = low, count


class Turned(list):
    """What passes for a list that each turn appended to: its items, in one tensor.

    It holds that tensor as its only item; ``Joining`` knows what torch's functions make of it.
    """

    def __init__(self, values: Tensor):
        super().__init__([values])
        self.values = values

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.values.unbind(0))

    def __len__(self) -> int:
        return int(self.values.shape[0])

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice) and (at.start, at.stop, at.step) == (None, None, -1):
            return Turned(self.values.flip(0))
        return Turned(self.values[at]) if isinstance(at, slice) else self.values[at]

    def reverse(self) -> None:
        """As of a list."""
        self.values = self.values.flip(0)
        super().__setitem__(0, self.values)

    def append(self, item: Any) -> None:
        """As of a list."""
        self.values = torch.cat([self.values, item.unsqueeze(0)])
        super().__setitem__(0, self.values)


class Joining(TorchFunctionMode):
    """``torch.stack`` and ``torch.cat`` of a list that is one tensor already."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        given = args[0] if args else kwargs.get("tensors")
        if type(given) is not Turned:
            return func(*args, **kwargs)
        dim = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", 0))
        if func is torch.stack:
            return given.values.movedim(0, dim)
        if func in (torch.cat, torch.concat, torch.concatenate):
            rank = given.values.dim() - 1
            at = dim % rank
            return given.values.movedim(0, at).flatten(at, at + 1)
        raise _unrepaired(f"a list that a loop fills is used in {func.__name__}")


def _unrepaired(what: str) -> NotRepairedError:
    return NotRepairedError(what, _REMEDY)


def _is_place(value: Any) -> bool:
    whole = isinstance(value, Tensor) and value.dtype in (torch.int64, torch.int32)
    return whole and value.dim() == 0


def _pick(base: Any, index: Any) -> Any:
    """``base[index]``, where numbers in the index may stand in tensors."""
    parts = index if isinstance(index, tuple) else (index,)
    spans = any(isinstance(part, Span) for part in parts)
    if not isinstance(base, Tensor) or not (spans or any(_is_place(part) for part in parts)):
        return base[index]
    rest, taken = _places(base, parts)
    picked = base[tuple(rest)]
    for dim, at, drops in reversed(taken):
        picked = picked.index_select(dim, at)
        picked = picked.squeeze(dim) if drops else picked
    return picked


def _places(base: Tensor, parts: Sequence[Any]) -> tuple[list[Any], list[tuple[int, Tensor, bool]]]:
    """An index without what stands in tensors, and that: axis, places, whether the axis goes."""
    rest: list[Any] = []
    taken: list[tuple[int, Tensor, bool]] = []
    dim = 0
    known = sum(1 for part in parts if part is not None and part is not Ellipsis)
    for part in parts:
        if part is Ellipsis:
            rest += [slice(None)] * (base.dim() - known)
            dim += base.dim() - known
            continue
        if _is_place(part):
            taken.append((dim, part.reshape(1), True))
            part = slice(None)
        elif isinstance(part, Span):
            if _is_place(part.low):
                steps = torch.arange(part.count, device=part.low.device)
                taken.append((dim, part.low + steps, False))
                part = slice(None)
            else:
                part = slice(part.low, part.low + part.count)
        rest.append(part)
        dim += not isinstance(part, int)
    return rest, taken


def _put(base: Any, index: Any, value: Any) -> Any:
    """``base[index] = value``, in a copy."""
    parts = index if isinstance(index, tuple) else (index,)
    if not isinstance(base, Tensor):
        base[index] = value
        return base
    rest, taken = _places(base, parts)
    if not taken:
        made = base.clone()
        made[tuple(rest)] = value
        return made
    if len(taken) > 1 or any(part != slice(None) for part in rest):
        raise _unrepaired("a loop writes to a part of a tensor by more than one index")
    ((dim, at, drops),) = taken
    shape = [1 if axis == dim else size for axis, size in enumerate(base.shape)]
    if not drops:
        shape[dim] = at.shape[0]
    if isinstance(value, Tensor) and drops and value.dim():
        value = value.expand([s for axis, s in enumerate(base.shape) if axis != dim]).unsqueeze(dim)
    filled = torch.zeros(shape, dtype=base.dtype, device=base.device) + value
    return base.index_copy(dim, at, filled.to(base.dtype))


class OfTurn:
    """What a turn calls."""

    pick = staticmethod(_pick)
    put = staticmethod(_put)
    Span = Span


class Turns:
    """What a rewritten function calls."""

    of_turn = OfTurn

    def __init__(self, log: Log):
        self.log = log

    @staticmethod
    def over_range(own: Any, *args: Any) -> Any:
        """``range``; ``own`` is what the model calls by that name."""
        first, end, step = (0, args[0], 1) if len(args) == 1 else (*args, 1)[:3]
        if not isinstance(step, int) or step == 0 or not all(map(_is_size, (first, end))):
            return own(*args)
        count = (end - first + step - (1 if step > 0 else -1)) // step
        return Over(
            count=count,
            item=lambda at: first + at * step if (first, step) != (0, 1) else at,
            plain=lambda: own(*args),
        )

    @staticmethod
    def over_unbind(tensor: Tensor, dim: int = 0) -> Any:
        """``tensor.unbind(dim)``."""
        axis = dim % tensor.dim()
        return Over(
            count=tensor.shape[axis],
            item=lambda at: _pick(tensor, (*[slice(None)] * axis, at)),
            plain=lambda: tensor.unbind(axis),
        )

    @staticmethod
    def over_enumerate(own: Any, items: Any, start: int = 0) -> Any:
        """``enumerate``."""
        over = _as_over(items)
        if over is None:
            return own(items, start)
        return Over(
            count=over.count,
            item=lambda at: (at + start if start else at, over.item(at)),
            plain=lambda: own(over, start),
        )

    @staticmethod
    def over_zip(own: Any, *items: Any, **names: Any) -> Any:
        """``zip``, of as many each."""
        overs = [_as_over(each) for each in items]
        known = [each for each in overs if each is not None]
        if len(known) < len(items):
            return own(*items, **names)
        return Over(
            count=known[0].count,
            item=lambda at: tuple(each.item(at) for each in known),
            plain=lambda: own(*known, **names),
        )

    def follows(self, over: Any, line: int) -> bool:
        """True for a loop that is run as turns."""
        if torch.compiler.is_dynamo_compiling():  # strict mode reads the code, and has no scan
            return False
        over = _as_over(over)
        if over is None:
            return False
        place = (sys._getframe(1).f_code.co_filename, line)
        if isinstance(over.count, torch.SymInt) and not statically_known_true(over.count == 1):
            _FOLLOWED.add(place)
            return True
        return not is_tracing() and place in _FOLLOWED

    def run(
        self,
        over: Any,
        turn: Callable[..., tuple[list[Any], list[Any]]],
        first: Sequence[Any],
        names: Sequence[str],
        outputs: int,
    ) -> tuple[list[Any], list[Any]]:
        """All turns: what the last one hands on, and what each of them gave, together.

        Args:
            turn: ``turn(item, *state) -> state, outputs``. first: the state in front of it.
            names: of the parts of the state. outputs: how many there are.
        """
        if isinstance(over, Tensor):
            over = self.over_unbind(over)
        self.log.at("a loop")
        if not isinstance(over.count, torch.SymInt):
            return _one_by_one(over, turn, list(first), outputs)
        at = torch.zeros((), dtype=torch.int64)
        then, given = turn(over.item(at), *first)
        for name, before, after in zip(names, first, then, strict=True):
            if not isinstance(after, Tensor):
                raise _unrepaired(f"'{name}', which a loop hands on, is no tensor")
            if not _alike(before, after):
                break
        else:
            # The stub of arange knows no SymInt.
            places = torch.arange(over.count)  # type: ignore[call-overload]
            return _scanned(over, turn, first, outputs, places)
        return _behind_the_first(over, turn, list(then), list(given))

    @staticmethod
    def joined(items: Any, values: Tensor) -> Any:
        """A list with what the turns appended to it."""
        if type(items) is Turned:
            return Turned(torch.cat([items.values, values]))
        if not isinstance(items, list):
            raise _unrepaired("what a loop appends to is no list")
        return Turned(torch.cat([torch.stack(items), values]) if items else values)


def _is_size(value: Any) -> bool:
    return isinstance(value, (int, torch.SymInt))


def _as_over(value: Any) -> Over | None:
    if isinstance(value, Tensor) and value.dim():
        return Turns.over_unbind(value)
    return value if isinstance(value, Over) else None


def _alike(before: Any, after: Tensor) -> bool:
    return (
        isinstance(before, Tensor)
        and before.dtype == after.dtype
        and before.dim() == after.dim()
        and all(a is b or str(a) == str(b) for a, b in zip(before.shape, after.shape, strict=True))
    )


def _one_by_one(
    over: Over, turn: Callable[..., Any], state: list[Any], outputs: int
) -> tuple[list[Any], list[Any]]:
    given: list[list[Any]] = [[] for _ in range(outputs)]
    for at in range(over.count):
        state, results = turn(over.item(torch.tensor(at)), *state)
        for column, each in zip(given, results, strict=True):
            column.append(each)
    return state, [torch.stack(column) for column in given]


def _behind_the_first(
    over: Over, turn: Callable[..., Any], then: list[Tensor], given: list[Tensor]
) -> tuple[list[Any], list[Any]]:
    """All turns where the first makes another shape, or something of nothing: it is written out.

    onnxruntime takes no Scan without a step, so that one turn too many runs where there is one
    alone, and is left out of what comes out.
    """
    count, kept = over.count, len(then)

    def all_given(item: Any, *state: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        handed, results = turn(item, *state)
        return handed, [*handed, *results]

    steps = torch.arange(1, torch.sym_max(count, 2)).clamp(max=count - 1)
    _, rest = _scanned(over, all_given, then, kept + len(given), steps)
    whole = [
        torch.cat([a.unsqueeze(0), b])[:count] for a, b in zip([*then, *given], rest, strict=True)
    ]
    return [each[-1] for each in whole[:kept]], whole[kept:]


def _scanned(
    over: Over, turn: Callable[..., Any], first: Sequence[Any], outputs: int, steps: Tensor
) -> tuple[list[Any], list[Any]]:
    none = not first

    def step(state: list[Tensor], at: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        handed, given = turn(over.item(at), *([] if none else state))
        kept = state if none else handed
        # A Scan without an output of its turns is one that nobody writes.
        return [each.clone() for each in kept], [each.clone() for each in given or [at]]

    state = [torch.zeros(1)] if none else [each.contiguous() for each in first]
    with _without_modes(), _read_anew():
        last, given = scan(step, state, steps)
    return [] if none else list(last), list(given)[:outputs]


@contextlib.contextmanager
def _without_modes() -> Iterator[None]:
    """Without what looks at each call of torch: ``scan`` reads the code of a turn itself."""
    modes = list(_get_current_function_mode_stack())
    for mode in reversed(modes):
        mode.__exit__(None, None, None)
    try:
        yield
    finally:
        for mode in modes:
            mode.__enter__()


@contextlib.contextmanager
def _read_anew() -> Iterator[None]:
    """Without what torch remembers of turns that it read before.

    It keeps modules under their names, and another folder's module may have the same one.
    """
    # torch._higher_order_ops.scan is the function, which hides the module of that name.
    names = [vars(sys.modules[f"torch._higher_order_ops.{part}"]) for part in ("scan", "utils")]
    before = [set(mode_names) for mode_names in names]
    torch._dynamo.reset()
    try:
        yield
    finally:
        torch._dynamo.reset()
        for mode_names, known in zip(names, before, strict=True):
            for name in set(mode_names) - known:
                del mode_names[name]
