"""The eager module in float64 by its own code, for one call, without changing it.

This run is the truth of everything that is judged. It must never come from the program that was
captured: a capture that took another path would be held against itself. Decisions that hang on
rounding, and numbers that are drawn, are those of the float32 run.

Parameters and buffers are replaced by widened copies for the call
(``torch.func.functional_call``), and a dispatch mode widens what the code itself makes or casts
in float32. Large parameters are widened where they are used, the matrices of linear layers in
stripes: a second copy of them costs more time than the float64 products do. Discrete decisions
may differ from the float32 run where they hang on rounding, unless they are given
(``exporter.interpret.decisions``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from exporter.core.errors import named_line
from exporter.core.stopwatch import RUNNING, timed
from exporter.core.tensors import Arrays, TensorSpec
from exporter.graph.kept_state import KeptState
from exporter.graph.unwritten_memory import allocates
from exporter.interpret.control_flow import OpMode
from exporter.interpret.decisions import SEED, Decisions, DecisionsDifferError, Replay, seeded
from exporter.interpret.evaluate import WIDER, to_array, torch_threads
from exporter.interpret.float64_kernels import conv1d

_BACK = {torch.float64: torch.float32, torch.complex128: torch.complex64}
_LONG = (torch.float32, torch.float16, torch.bfloat16)
_LARGE = 1 << 18
"""Elements from which a matrix stays as it is until it is multiplied."""
_STRIPE = 1 << 17
"""Elements that are widened at a time: they stay in the cache."""
_PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
_LOOKED_UP = torch.ops.aten.embedding.default
"""A table is read first and widened then."""
_BITS = torch.ops.aten.view.dtype
_CONVOLUTION = torch.ops.aten.convolution.default


class _Widen(OpMode):
    def __init__(
        self, rounded: torch.dtype | None, kept: Collection[Tensor], replay: Replay | None
    ) -> None:
        super().__init__()
        self._kept = {value.untyped_storage().data_ptr() for value in kept}
        self._finish = _widened if rounded is None else partial(_rounded, dtype=rounded)
        self._stays: dict[Any, bool] = {}
        self._replay = replay
        self.narrow: set[str] = set()

    def op(self, func: Any, args: Any, kwargs: Any) -> Any:
        result = self._computed(func, args, kwargs)
        if self._replay is None:
            return result
        return self._replay.instead(func, args, kwargs, result)

    def _computed(self, func: Any, args: Any, kwargs: Any) -> Any:
        if kwargs:
            kwargs = {key: _widened(value) for key, value in kwargs.items()}
        if func in _PRODUCTS and not kwargs and _is_large(args[-1]):
            added = args[0] if len(args) == 3 else None
            return self._finish(_product(_widened(args[-2]), args[-1], _widened(added)))
        if func is _LOOKED_UP:
            return self._finish(func(*args, **kwargs))
        if func is _BITS and args[0].is_floating_point() and not args[1].is_floating_point:
            raise NotImplementedError("the bits of a float are read as another type")
        stays = self._stays.get(func)
        if stays is None:
            stays = self._stays[func] = _writes_or_views(func)
        if stays:
            if func._schema.is_mutable and args and self._is_kept(args[0]):
                raise RuntimeError(f"{func} writes to a large weight")
            return func(*args, **kwargs)
        wide = [_widened(value) for value in args]
        if func is _CONVOLUTION and _is_depthwise(*wide):
            return self._finish(conv1d(*wide[:6], groups=wide[8]))
        try:
            result = self._finish(func(*wide, **kwargs))
            return result.zero_() if allocates(str(func)) else result
        except (NotImplementedError, RuntimeError) as error:
            if not _has_no_kernel(error):
                raise
        # An op of somebody's own that knows float32 only: its value, then wide again.
        self.narrow.add(str(func))
        narrowed = {key: _narrowed(value) for key, value in kwargs.items()}
        return self._finish(func(*[_narrowed(value) for value in wide], **narrowed))

    def _is_kept(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.untyped_storage().data_ptr() in self._kept


def _has_no_kernel(error: Exception) -> bool:
    """True when torch says that an op is not written for float64."""
    text = str(error)
    missing = "not implemented for" in text or "expected scalar type" in text.lower()
    return missing and ("Double" in text or "double" in text or "Float" in text)


def _is_depthwise(x: Any, weight: Any, *rest: Any) -> bool:
    """Whether torch's float64 kernel is slow here: see ``double_kernels.conv1d``."""
    transposed, groups = rest[4], rest[6]
    return x.dim() == 3 and not transposed and groups > 1 and x.dtype == torch.float64


class _WholeRecurrences(TorchFunctionMode):
    """Recurrent layers as one call: a dispatch mode sees each step of them, thousands of ops."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _RECURRENT:
            return func(*args, **kwargs)
        # A step is a few microseconds of work; threads that wait for each other cost more.
        with torch_threads(1), _disable_current_modes():
            return func(*[_widened(value) for value in args], **kwargs)


_RECURRENT = frozenset({torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu})


@contextlib.contextmanager
def _whole_recurrences(module: nn.Module) -> Iterator[None]:
    """Inside of torch's recurrent layers, and only there (the mode switches fast paths off)."""
    inside: list[_WholeRecurrences] = []

    def enter(part: nn.Module, args: Any) -> None:
        inside.append(_WholeRecurrences())
        inside[-1].__enter__()

    def leave(part: nn.Module, args: Any, value: Any) -> None:
        if inside:
            inside.pop().__exit__(None, None, None)

    hooks = []
    for part in module.modules():
        if isinstance(part, nn.RNNBase):
            hooks.append(part.register_forward_pre_hook(enter))
            hooks.append(part.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _is_large(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in _LONG and value.numel() >= _LARGE


def _product(left: Tensor, right: Tensor, added: Tensor | None) -> Tensor:
    """``left @ right (+ added)`` for float64 ``left`` [n, k] and narrow ``right`` [k, m]."""
    stripe = max(1, _STRIPE // right.shape[0])
    product = torch.cat([left @ part.double() for part in right.split(stripe, dim=1)], dim=1)
    return product if added is None else product + added


def _writes_or_views(func: Any) -> bool:
    """A view or a write must stay on the memory that it was called on."""
    written = any(a.alias_info and a.alias_info.is_write for a in func._schema.arguments)
    views = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
    return written or views


def _widened(value: Any) -> Any:
    """Narrow tensors and dtypes to float64 or complex128, in lists and tuples too."""
    return _cast(value, WIDER)


def _narrowed(value: Any) -> Any:
    return _cast(value, _BACK)


def _cast(value: Any, to: Mapping[torch.dtype, torch.dtype]) -> Any:
    if isinstance(value, Tensor):
        return value.to(to[value.dtype]) if value.dtype in to else value
    if isinstance(value, (list, tuple)):
        return type(value)(_cast(item, to) for item in value)
    return to.get(value, value) if isinstance(value, torch.dtype) else value


def _rounded(value: Any, dtype: torch.dtype) -> Any:
    """As ``_widened``, with the values that ``dtype`` can hold."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(dtype).double()
    if isinstance(value, (list, tuple)):
        return type(value)(_rounded(item, dtype) for item in value)
    return value


def large_weights(module: nn.Module) -> dict[str, Tensor]:
    """Large parameters, which are not copied, by name."""
    return {
        f"{path}.{name}" if path else name: value
        for path, part in module.named_modules()
        for name, value in part._parameters.items()
        if value is not None and _is_large(value) and not isinstance(part, nn.RNNBase)
    }


def _held(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every place of a parameter or buffer once, also where a submodule has several names.

    A tensor that two modules share has a name in each. A module that is there twice has its
    tensors once: what ``functional_call`` puts back last would else be what it put in first.
    """
    for path, part in module.named_modules():
        for name, value in [*part._parameters.items(), *part._buffers.items()]:
            if value is not None:
                yield f"{path}.{name}" if path else name, value


def copied_in_double(module: nn.Module) -> int:
    """Numbers of a module that ``call_in_double`` holds a second time, widened."""
    kept = {id(value) for value in large_weights(module).values()}
    tensors = [*module.parameters(), *module.buffers()]
    return sum(v.numel() for v in tensors if v.dtype in WIDER and id(v) not in kept)


def call_in_double(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    *,
    rounded: torch.dtype | None = None,
    replay: Replay | None = None,
    narrow: set[str] | None = None,
) -> Any:
    """Run ``module(*inputs)`` in float64 and return what it returns.

    Args:
        rounded: round the result of every op to this: what storing them costs, and no more.
        replay: the decisions of a float32 run on the same inputs, to be taken again.
        narrow: takes the names of ops that have no float64 kernel and ran in float32.

    Integer and boolean inputs keep their dtype. Needs memory for a second, widened copy of the
    small weights, and of one large one at a time.

    Raises:
        RuntimeError: the module writes to a large weight, or takes another way than ``replay``.
        NotImplementedError: it reads the bits of its floats.
    """
    kept = large_weights(module)
    wide = {
        name: _widened(value.detach())
        for name, value in _held(module)
        if value.dtype in WIDER and name not in kept
    }
    fed = tuple(_widened(value.clone()) for value in inputs.values())
    widen = _Widen(rounded, kept.values(), replay)
    try:
        with torch.no_grad(), _whole_recurrences(module), widen:
            return torch.func.functional_call(module, wide, fed, tie_weights=False)
    finally:
        if narrow is not None:
            narrow |= widen.narrow


def outputs_in_double(
    module: nn.Module,
    outputs: Sequence[TensorSpec],
    fed: Mapping[str, Tensor],
    decisions: Decisions,
    plain: Arrays,
) -> tuple[Arrays | None, str, set[str]]:
    """The float64 outputs, else why there are none; the module keeps nothing of the run."""
    narrow: set[str] = set()
    if not any(value.dtype.kind == "f" for value in plain.values()):
        return dict(plain), "", narrow
    doubt = ""
    for numbers in (False, True) if decisions.numbers else (False,):
        replay = Replay(decisions, numbers=numbers)
        kept = KeptState(module)
        try:
            with timed(RUNNING), seeded(SEED):
                results = call_in_double(module, fed, replay=replay, narrow=narrow)
            replay.finish()
            return _whole(named(outputs, results), plain), "", narrow
        except DecisionsDifferError as error:
            doubt = f"its code takes another way in float64: {error}"
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - the user's code may insist on float32; said
            return None, f"its code does not run in float64 ({named_line(error)})", narrow
        finally:
            kept.restore()
    return None, doubt, narrow


def _whole(wide: Arrays, plain: Arrays) -> Arrays:
    """The float64 outputs, held against the others.

    Raises:
        DecisionsDifferError: an output has another shape, or a float output is no float64.
    """
    arrays = {}
    for name, value in plain.items():
        exact = wide[name]
        if exact.shape != value.shape:
            raise DecisionsDifferError(f"'{name}' is {exact.shape}, and {value.shape} in float32")
        if value.dtype.kind == "f" and exact.dtype != np.float64:
            raise DecisionsDifferError(f"'{name}' comes out as {exact.dtype.name}")
        arrays[name] = exact if value.dtype.kind == "f" else value
    return arrays


def named(outputs: Sequence[TensorSpec], results: Any) -> Arrays:
    """What a module gave, by the names of its outputs."""
    pairs = zip(outputs, results, strict=True)
    # Copies: an output may be a view of what the module keeps, or of an input.
    return {spec.name: np.array(to_array(value)) for spec, value in pairs}
