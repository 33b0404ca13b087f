"""Sizes that are computed with numbers in tensors: ``torch.ceil((x.shape[-1] - self.kernel) / 2)``.

Where a stride or a kernel's size is a tensor of one number, what is computed with it of a size is a
tensor too, and torch takes a value that is read from it for data that nobody knows. Here such
tensors are exact numbers while the model is traced: fractions, so that what comes out is again a
size of the graph. (PyTorch divides in float32, which is exact enough up to 2^24 elements.)
A tensor that is made of a number with digits, ``torch.as_tensor(size / 3)``: ``float_sizes``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from exporter.graph.repairs.float_sizes import FloatSizes
from exporter.graph.repairs.frame import Log, NotRepairedError, Repair
from exporter.graph.repairs.module_run import ModuleRun

_WHOLE = (int, torch.SymInt)
_COUNTED = "num_batches_tracked"
_MAKERS = (torch.tensor, torch.as_tensor, torch.scalar_tensor)


class SizeNumber:
    """What passes for a tensor of one number: ``top / below``, ``below`` a positive integer."""

    def __init__(self, top: Any, below: int, dtype: torch.dtype, log: Log):
        self.top, self.below, self.dtype, self.log = top, below, dtype, log

    @property
    def number(self) -> Any:
        """A size or Python's number; a tensor where it is no whole one."""
        if self.below == 1:
            return self.top
        return torch.true_divide(torch.scalar_tensor(self.top), self.below)

    def tensor(self) -> Tensor:
        """The tensor that it stands for."""
        result = self.number
        return (
            result if isinstance(result, Tensor) else torch.scalar_tensor(result, dtype=self.dtype)
        )

    def _made(self, top: Any, below: int, dtype: torch.dtype) -> SizeNumber:
        if isinstance(top, torch.SymInt):
            self.log.at("a number in a tensor")
        return SizeNumber(top, below, dtype, self.log)

    def __add__(self, other: Any) -> Any:
        top, below, dtype = _parts(other, self)
        if dtype is None:
            return self.number + other
        return self._made(self.top * below + top * self.below, self.below * below, dtype)

    def __mul__(self, other: Any) -> Any:
        top, below, dtype = _parts(other, self)
        if dtype is None:
            return self.number * other
        return self._made(self.top * top, self.below * below, dtype)

    def __truediv__(self, other: Any) -> Any:
        top, below, dtype = _parts(other, self)
        if dtype is None or not isinstance(top, int) or top <= 0:
            return self.tensor() / _plain(other)
        return self._made(self.top * below, self.below * top, torch.get_default_dtype())

    def __floordiv__(self, other: Any) -> Any:
        top, below, dtype = _parts(other, self)
        if dtype is None or not isinstance(top, int) or top <= 0:
            return self.tensor() // _plain(other)
        return self._made((self.top * below) // (self.below * top), 1, dtype)

    def __mod__(self, other: Any) -> Any:
        top, below, dtype = _parts(other, self)
        if dtype is None or not isinstance(top, int) or top <= 0 or (self.below, below) != (1, 1):
            return self.tensor() % _plain(other)
        return self._made(self.top % top, 1, dtype)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> SizeNumber:
        return self._made(-self.top, self.below, self.dtype)

    def __sub__(self, other: Any) -> Any:
        _, _, dtype = _parts(other, self)
        return self.number - other if dtype is None else self + (-1 * other)

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.tensor()

    def __rfloordiv__(self, other: Any) -> Any:
        return other // self.tensor()

    def ceil(self) -> SizeNumber:
        """Rounded up; the dtype stays."""
        return self._made((self.top + self.below - 1) // self.below, 1, self.dtype)

    def floor(self) -> SizeNumber:
        """Rounded down; the dtype stays."""
        return self._made(self.top // self.below, 1, self.dtype)

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Another dtype; to integers only where it is whole, or rounded towards zero."""
        wanted = [each for each in (*args, *kwargs.values()) if isinstance(each, torch.dtype)]
        if not wanted:
            return self
        if self.below != 1 and not wanted[0].is_floating_point:
            return self.tensor().to(*args, **kwargs)
        return self._made(self.top, self.below, wanted[0])

    def long(self) -> Any:
        """As int64."""
        return self.to(torch.int64)

    def int(self) -> Any:
        """As int32."""
        return self.to(torch.int32)

    def item(self) -> Any:
        """The size that it is."""
        result = self.number
        return result.item() if isinstance(result, Tensor) else result

    def __ceil__(self) -> Any:
        return self.ceil().top

    def __floor__(self) -> Any:
        return self.floor().top

    def __int__(self) -> Any:
        return int(self.item())

    __index__ = __int__

    def __float__(self) -> Any:
        return float(self.item())

    def __bool__(self) -> bool:
        return bool(self.top != 0)

    def __eq__(self, other: object) -> Any:
        return _compared(self, other, lambda a, b: a == b)

    def __ne__(self, other: object) -> Any:
        return _compared(self, other, lambda a, b: a != b)

    def __lt__(self, other: Any) -> Any:
        return _compared(self, other, lambda a, b: a < b)

    def __le__(self, other: Any) -> Any:
        return _compared(self, other, lambda a, b: a <= b)

    def __gt__(self, other: Any) -> Any:
        return _compared(self, other, lambda a, b: a > b)

    def __ge__(self, other: Any) -> Any:
        return _compared(self, other, lambda a, b: a >= b)

    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name.endswith("_"):
            raise _written()
        return getattr(self.tensor(), name)

    def __iadd__(self, other: Any) -> Any:
        raise _written()

    __isub__ = __imul__ = __itruediv__ = __ifloordiv__ = __iadd__

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return _called(func, args, kwargs or {})


def _written() -> NotRepairedError:
    return NotRepairedError(
        "a number in a tensor that sizes are computed with is written to",
        "keep the stride as a Python number, and what is counted in a buffer of its own",
    )


def _parts(other: Any, to: SizeNumber) -> tuple[Any, int, torch.dtype | None]:
    """Top, below and the dtype of the result; no dtype for what is no exact number."""
    if isinstance(other, SizeNumber):
        return other.top, other.below, torch.promote_types(to.dtype, other.dtype)
    if isinstance(other, _WHOLE) and not isinstance(other, bool):
        return other, 1, to.dtype
    return 0, 1, None


def _compared(left: SizeNumber, right: Any, how: Callable[[Any, Any], Any]) -> Any:
    top, below, dtype = _parts(right, left)
    if dtype is None:
        return how(left.number, right)
    return how(left.top * below, top * left.below)


def _plain(value: Any) -> Any:
    """Nested arguments with sizes in the place of what stands for tensors of one."""
    if isinstance(value, SizeNumber):
        return value.number
    if isinstance(value, slice):
        return slice(_plain(value.start), _plain(value.stop), _plain(value.step))
    if type(value) in (list, tuple):
        return type(value)(_plain(each) for each in value)
    return value


_ROUNDED = {
    torch.ceil: SizeNumber.ceil,
    Tensor.ceil: SizeNumber.ceil,
    torch.floor: SizeNumber.floor,
    Tensor.floor: SizeNumber.floor,
}


def _called(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if func in _ROUNDED and isinstance(args[0], SizeNumber):
        return _ROUNDED[func](args[0])
    if func in _MAKERS and args and isinstance(args[0], SizeNumber):
        return args[0].to(kwargs["dtype"]) if kwargs.get("dtype") else args[0]
    if args and isinstance(args[0], SizeNumber):
        args = (args[0].tensor(), *args[1:])  # torch takes no number in front
    return func(*_plain(args), **{key: _plain(value) for key, value in kwargs.items()})


class _Numbers(TorchFunctionMode):
    """Sizes in the place of numbers in tensors, wherever torch is called."""

    def __init__(self, log: Log):
        super().__init__()
        self.log = log
        self.with_digits = FloatSizes(lambda size, dtype: SizeNumber(size, 1, dtype, log))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _MAKERS and args and isinstance(args[0], torch.SymFloat):
            made = self.with_digits.made(args[0], kwargs.get("dtype"), kwargs.get("device"))
            if made is not None:
                self.log.at("a tensor of a number of sizes")
                return made
        whole = self.with_digits.called(func, args, kwargs)
        return _called(func, args, kwargs) if whole is NotImplemented else whole


def _held(module: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """Tensors of one integer that parts of a model keep, but for what batch norms count."""
    for part in module.modules():
        if type(part).__module__.partition(".")[0] == "torch":
            continue
        for name, value in [*part._buffers.items(), *vars(part).items()]:
            if type(value) is Tensor or isinstance(value, nn.Buffer):
                whole = value.dtype in (torch.int32, torch.int64)
                if value.dim() == 0 and whole and name != _COUNTED and not value.is_meta:
                    yield part, name, value


@contextlib.contextmanager
def _apply(run: ModuleRun, log: Log) -> Iterator[None]:
    put: list[tuple[nn.Module, str, SizeNumber, Tensor, bool]] = []
    for part, name, value in list(_held(run.module)):
        number = SizeNumber(int(value), 1, value.dtype, log)
        is_buffer = name in part._buffers
        put.append((part, name, number, value, is_buffer))
        if is_buffer:
            del part._buffers[name]
        vars(part)[name] = number
    changed = False
    try:
        with _Numbers(log):
            yield
    finally:
        for part, name, number, value, is_buffer in put:
            changed |= vars(part).pop(name, None) is not number
            (part._buffers if is_buffer else vars(part))[name] = value
    if changed:
        raise _written()


REPAIR = Repair(
    name="size_numbers",
    replaces="what is computed with it of a size is a size of the graph",
    strategy="sizes in place of numbers in tensors",
    matches=lambda run: True,
    apply=_apply,
)
