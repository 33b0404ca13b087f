"""What a model returns, flat and by name: one tensor, or lists, tuples and dicts of them.

A value of a dict is called by its key, of a list by its number, of a record by its field, of a
cache of transformers by its layer, joined by dots: ``caches.0.key``; as many other names as there
are values rename them, in order. ``None`` is left out: a value that a model does not have this
time. As ONNX has them: a number is a tensor without axes, and complex numbers are pairs of reals,
real part first, along a last axis of 2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from exporter.models.caches import cache_parts

_NUMBERS = (
    ((bool, torch.SymBool), torch.bool),
    ((int, torch.SymInt), torch.int64),
    ((float, torch.SymFloat), torch.float32),
)
"""What Python's numbers are as tensors; a bool is an int, so it comes first."""


class UnnamedError(ValueError):
    """As many values as come back are not named; ``paths`` are the values' own names."""

    def __init__(self, paths: Sequence[str], names: Sequence[str]):
        self.paths = tuple(paths)
        self.names = tuple(names)
        super().__init__(f"the model returns {len(paths)} values, {len(names)} are named")


class MissingError(ValueError):
    """A value is not there; ``name`` is what was asked for, ``paths`` what there is."""

    def __init__(self, name: str, paths: Sequence[str]):
        self.name = name
        self.paths = tuple(paths)
        super().__init__(f"the model returns no '{name}', but {', '.join(paths)}")


def flat_results(returned: Any, named: Sequence[str]) -> dict[str, Any]:
    """Everything that a model returned, by name.

    Args:
        returned: what it returned.
        named: names for values that come without one of their own, in order.

    Raises:
        UnnamedError: their number is another one than that of the names.
    """
    leaves = list(leaves_by_path(returned))
    paths = [".".join(path) for path, _ in leaves]
    values = [_as_tensor(value) for _, value in leaves]
    spoken = isinstance(returned, Mapping) or _fields(returned) is not None
    if spoken and not _renames(paths, named):
        return dict(zip(paths, values, strict=True))
    if len(values) != len(named):
        raise UnnamedError(paths, named)
    return dict(zip(named, values, strict=True))


def _as_tensor(value: Any) -> Any:
    """A number as a tensor, complex numbers as pairs; all else as it is."""
    if isinstance(value, Tensor) and value.is_complex():
        return torch.view_as_real(value.resolve_conj())
    for kinds, dtype in _NUMBERS:
        if isinstance(value, kinds):
            return torch.scalar_tensor(value, dtype=dtype)  # type: ignore[arg-type]
    return value


def _renames(paths: Sequence[str], named: Sequence[str]) -> bool:
    """True when names are given to values that have other ones: one for each, in order.

    Values that keep their own name must stand where it is named.
    """
    if set(named) <= set(paths) or len(named) != len(paths):
        return False
    return all(named.index(path) == at for at, path in enumerate(paths) if path in named)


def by_name(returned: Any, names: Sequence[str]) -> Mapping[str, Any]:
    """Results of a model whose values are all known by name.

    Raises:
        MissingError: one of them is not there. UnnamedError: their number is another one.
    """
    results = flat_results(returned, names)
    for name in names:
        if name not in results:
            raise MissingError(name, list(results))
    return results


def leaves(returned: Any) -> list[Any]:
    """All values of what a model returned, without their names."""
    return [value for _, value in leaves_by_path(returned)]


def _fields(value: Any) -> list[str] | None:
    """Names of a record's values: a dataclass's or a named tuple's."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(value._fields)  # type: ignore[attr-defined]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [field.name for field in dataclasses.fields(value)]
    return None


def leaves_by_path(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All values of lists, tuples, dicts, records and caches, with the way to each."""
    fields, cache = _fields(value), cache_parts(value)
    if cache is not None:
        parts = cache
    elif isinstance(value, Mapping):
        parts = [(str(key), inside) for key, inside in value.items()]
    elif fields is not None:
        parts = [(name, getattr(value, name)) for name in fields]
    elif isinstance(value, tuple | list):
        parts = [(str(number), inside) for number, inside in enumerate(value)]
    else:
        yield path, value
        return
    for name, inside in parts:
        if inside is not None:
            yield from leaves_by_path(inside, (*path, name))
