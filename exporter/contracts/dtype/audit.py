"""Watch every call of a forward for operands of different floating dtypes.

Runs on the meta device where the module allows it: shapes and dtypes only, no memory, seconds
for billions of parameters. An op that refuses its operands is logged and repeated with the cast
that repairs it, so that one pass shows all events and not only the first symptom.

Explicit casts are never events, and a wide operand that comes from one is meant to be wide
(a norm computed in float32); 0-dimensional tensors follow the others and are no event either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from exporter.contracts.locate.recorder import ModuleStack, calling_line, flat_tensors
from exporter.contracts.result import Location
from exporter.core.errors import first_line

ERROR = "refused"
MIXED = "mixed operands"
PROMOTED = "promotion"
CASTING_WRITE = "casting write"

_CASTS = frozenset({"to", "float", "half", "bfloat16", "double", "type", "type_as", "clone_to"})
_WRITES = frozenset(
    "copy_ __setitem__ index_copy_ index_put_ scatter_ masked_scatter_ slice_scatter index_add_ "
    "index_copy scatter add_ mul_ sub_ div_".split()
)
_ARITHMETIC = frozenset({"add_", "sub_", "mul_", "div_"})
_STRICT = frozenset(
    "linear matmul __matmul__ __rmatmul__ mm bmm addmm baddbmm einsum conv1d conv2d "
    "conv_transpose1d scaled_dot_product_attention lstm gru multi_head_attention_forward "
    "layer_norm batch_norm group_norm embedding_bag instance_norm rms_norm bilinear prelu".split()
)
_HARMLESS = frozenset(
    "eq ne lt le gt ge __eq__ __ne__ __lt__ __gt__ __le__ __ge__ isclose allclose equal "
    "to_dense expand_as view_as reshape_as zeros_like ones_like full_like empty_like rand_like "
    "randn_like new_zeros".split()
)
_NAMES: Mapping[str, tuple[str, ...]] = {
    "scaled_dot_product_attention": ("query", "key", "value", "attn_mask"),
    "multi_head_attention_forward": ("query", "key", "value"),
    "linear": ("input", "weight", "bias"),
    "conv1d": ("input", "weight", "bias"),
    "conv2d": ("input", "weight", "bias"),
    "layer_norm": ("input", "weight", "bias"),
    "matmul": ("left", "right"),
    "bmm": ("left", "right"),
}
_PLAIN = (int, float, str, type(None), torch.dtype, torch.device)
_MARK = "_export_verify_cast_on_purpose"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One call with operands that do not go together.

    Attributes:
        kind: ERROR, MIXED, PROMOTED or CASTING_WRITE.
        place: module, function, line.
        dtypes: operand -> dtype name.
        result: dtype of the result; "" when there was none.
        repair: the smallest cast that repairs it.
    """

    kind: str
    place: Location
    dtypes: Mapping[str, str]
    result: str
    repair: str
    message: str = ""

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {dtype}" for name, dtype in self.dtypes.items())
        return f"{self.kind} in {self.place}: {shown}"


class DtypeAudit(TorchFunctionMode):
    """Collects events.

    Args:
        stack: an entered ``ModuleStack`` of the model that runs.
        wanted: dtype that the model is declared to run in; None for "as it is built".
        promotions: False under autocast, where promotion is how it works.
    """

    def __init__(self, stack: ModuleStack, wanted: torch.dtype | None, *, autocast: bool = False):
        super().__init__()
        self._stack = stack
        self._wanted = wanted
        self._autocast = autocast
        self.events: list[Event] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        operands = dict(_operands(args, kwargs))
        mixed = len({tensor.dtype for tensor in operands.values()}) > 1
        try:
            result = func(*args, **kwargs)
        except RuntimeError as error:
            if not mixed:
                raise
            self._log(ERROR, name, operands, None, first_line(error))
            return self._repaired(func, name, args, kwargs, operands)
        if name in _CASTS:
            # A mask or an index that becomes float32 was never narrow: nothing was meant.
            if any(t.dtype != _dtype_of(result) for t in operands.values()):
                _mark(result)
        elif name in ("sum", "mean", "softmax", "cumsum") and "dtype" in kwargs:
            _mark(result)
        elif mixed:
            self._mixed(name, operands, result)
        elif any(getattr(tensor, _MARK, False) for tensor in operands.values()):
            _mark(result)
        return result

    def _mixed(self, name: str, operands: dict[str, Tensor], result: Any) -> None:
        if name in _HARMLESS:
            return
        first = next(iter(operands.values()))
        if name in _WRITES and name != "slice_scatter":
            written = operands.get("0", first)
            others = [t for t in operands.values() if t is not written]
            # Autocast adds into what it made narrow; only storing counts there.
            judged = not (self._autocast and name in _ARITHMETIC)
            if judged and any(_loses(tensor.dtype, written.dtype) for tensor in others):
                self._log(CASTING_WRITE, name, operands, written.dtype, "")
            return
        out = _dtype_of(result)
        if name in _STRICT:
            if not self._autocast and not (name.endswith("_norm") and out == first.dtype):
                self._log(MIXED, name, operands, out, "")
            return
        widest = [tensor for tensor in operands.values() if tensor.dtype == out]
        if widest and all(getattr(tensor, _MARK, False) for tensor in widest):
            _mark(result)
        elif not self._autocast:
            self._log(PROMOTED, name, operands, out, "")

    def _target(self, operands: dict[str, Tensor]) -> torch.dtype:
        """What the odd operands are cast to: the declared dtype, a weight's, or the commonest."""
        present = [tensor.dtype for tensor in operands.values()]
        if self._wanted is not None:
            return self._wanted
        weights = [t.dtype for t in operands.values() if isinstance(t, torch.nn.Parameter)]
        if weights:
            return weights[0]
        return max(set(present), key=lambda d: (present.count(d), -d.itemsize))

    def _log(
        self,
        kind: str,
        name: str,
        operands: dict[str, Tensor],
        result: torch.dtype | None,
        message: str,
    ) -> None:
        target = self._target(operands)
        labels = _NAMES.get(name, ())
        shown = {_label(label, labels): _name(t.dtype) for label, t in operands.items()}
        if kind == CASTING_WRITE and result is not None:
            target = result
        odd = {_label(k, labels): t for k, t in operands.items() if t.dtype != target}
        # Of the odd operands, those that are not weights are cheaper to cast than to reload.
        light = [label for label, t in odd.items() if not isinstance(t, torch.nn.Parameter)]
        repair = f"cast {' and '.join(light or odd)} with .to({target}) before {name}"
        place = Location(module=self._stack.current, op=name, source=calling_line())
        said = {"result": "" if result is None else _name(result), "message": message}
        self.events.append(Event(kind=kind, place=place, dtypes=shown, repair=repair, **said))

    def _repaired(
        self, func: Any, name: str, args: Any, kwargs: Any, operands: dict[str, Tensor]
    ) -> Any:
        """The same call with its floating operands cast to one dtype."""
        target = self._target(operands)
        if name in _WRITES and operands.get("0") is not None:
            target = operands["0"].dtype

        def cast(value: Any) -> Any:
            if isinstance(value, Tensor) and value.is_floating_point() and value.dtype != target:
                return value.to(target)
            return value

        return func(*tree_map(cast, args), **tree_map(cast, kwargs))


def _operands(args: Any, kwargs: Any) -> Iterator[tuple[str, Tensor]]:
    """Floating tensors with at least one axis that a call reads, by position or name."""
    given = [*((str(position), value) for position, value in enumerate(args)), *kwargs.items()]
    for key, value in given:
        if isinstance(value, _PLAIN):
            continue
        for label, tensor in flat_tensors(value, key):
            if tensor.is_floating_point() and tensor.dim():
                yield label, tensor


def _label(label: str, names: tuple[str, ...]) -> str:
    if label.isdigit():
        position = int(label)
        return names[position] if position < len(names) else f"operand {position}"
    return label


def _loses(source: torch.dtype, target: torch.dtype) -> bool:
    """True when storing loses range or digits."""
    if source == target:
        return False
    a, b = torch.finfo(source), torch.finfo(target)
    return a.max > b.max or a.eps < b.eps


def _dtype_of(value: Any) -> torch.dtype | None:
    return next((tensor.dtype for _, tensor in flat_tensors(value, "")), None)


def _mark(value: Any) -> None:
    for _, tensor in flat_tensors(value, ""):
        setattr(tensor, _MARK, True)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
