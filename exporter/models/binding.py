"""Named tensors -> the arguments of a user's ``forward``, which may be lists, tuples and dicts.

The names of the inputs say where each goes, in this order:

1. a parameter of that name;
2. ``caches.0``, ``caches.0.key``: into a list (numbers) or a dict (words) for the parameter that
   stands before the first dot; ``cache.0.keys`` into a cache of transformers, where the parameter
   says that it takes one, or says nothing and the model has parts of transformers;
3. ``cache0``, ``cache1`` or ``cache_0``, ``cache_1``: into a list for a parameter called ``cache``,
   ``caches`` or alike, when there is more than one or the parameter wants a sequence;
4. what is left goes to the parameters that are left, in order; to the only one that has no default,
   as a list, when there are several; without a parameter that is left, to ``**others`` by name.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from exporter.models.caches import (
    HALVES,
    are_layers,
    dynamic_cache,
    encoder_decoder_cache,
    is_cache_class,
    uses_transformers,
)

_NUMBERED = re.compile(r"^(?P<stem>.*?[^\d_])_?(?P<number>\d+)$")
_CACHES = frozenset({"Cache", "DynamicCache", "StaticCache", "EncoderDecoderCache"})
_WORD = re.compile(r"\w+")
_SEQUENCES = (list, tuple, Sequence)
_NO_RECORDS = ("builtins", "typing", "torch", "collections", "types")
_UNSAID = object()
"""Stands for an annotation that is missing, or cannot be read, where a cache is to be expected."""
_TENSOR_LIKE = 2
"""As many inputs of one stem are a list whatever the parameter says of itself."""


class UnboundError(ValueError):
    """Inputs that no parameter takes; ``names`` are theirs, ``parameters`` those of ``forward``."""

    def __init__(self, names: Sequence[str], parameters: Sequence[str]):
        self.names = tuple(names)
        self.parameters = tuple(parameters)
        super().__init__(f"forward takes no {', '.join(names)}")


@dataclass(frozen=True, slots=True)
class Group:
    """Inputs that go into one container: ``kind`` makes it of its parts.

    Attributes:
        kind: list, tuple, dict, or what takes the parts by name.
        parts: number (of a sequence) or word -> the place of an input, or another group.
    """

    kind: Callable[..., Any]
    parts: tuple[tuple[str, int | Group], ...]

    def make(self, tensors: Sequence[Any]) -> Any:
        """The container, filled."""
        made = {key: _made(part, tensors) for key, part in self.parts}
        if self.kind is dict:
            return made
        if self.kind in (list, tuple):
            return self.kind(made.values())
        return self.kind(**made)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """How a model is called.

    Attributes:
        positional: what it gets by position. named: what it gets by name.
        method: which of its methods is called.
        pairs: inputs whose last axis is a real and an imaginary part; the model gets complex ones.
    """

    positional: tuple[int | Group, ...]
    named: tuple[tuple[str, int | Group], ...] = ()
    method: str = "forward"
    pairs: frozenset[int] = frozenset()

    def call(self, module: Callable[..., Any], tensors: Sequence[Any]) -> Any:
        """What the module returns for tensors in the order of the inputs."""
        positional, named = self.arguments(tensors)
        called = module if self.method == "forward" else getattr(module, self.method)
        return called(*positional, **named)

    def arguments(self, tensors: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        """Positional and named arguments for tensors in the order of the inputs."""
        if self.pairs:
            tensors = [
                torch.view_as_complex(value) if place in self.pairs else value
                for place, value in enumerate(tensors)
            ]
        positional = [_made(part, tensors) for part in self.positional]
        return positional, {name: _made(part, tensors) for name, part in self.named}

    @property
    def plain(self) -> bool:
        """True when the inputs are the positional arguments, one by one."""
        return (
            not self.named
            and not self.pairs
            and self.positional == tuple(range(len(self.positional)))
        )


def in_order(count: int) -> Binding:
    """The binding of ``count`` inputs, by position."""
    return Binding(positional=tuple(range(count)))


def bind_inputs(forward: Callable[..., Any], names: Sequence[str]) -> Binding:
    """Find out which parameter of ``forward`` each input belongs to.

    Raises:
        UnboundError: there are inputs that no parameter can take.
    """
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):
        return in_order(len(names))
    others = next((p.name for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD), None)
    takes_any = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    known = {
        p.name: p
        for p in parameters
        if p.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    }
    if takes_any or not known:
        return in_order(len(names))
    hints = _hints(forward)
    if uses_transformers(forward):
        hints = {**dict.fromkeys(known, _UNSAID), **hints}
    bound = _by_name(names, known, hints)
    taken = {place for part in bound.values() for place in _places(part)}
    left = [place for place in range(len(names)) if place not in taken]
    free = [name for name in known if name not in bound]
    if left and len(left) > len(free):
        if others is not None:
            return _call_of(_with_others(bound, names, left, free), known)
        required = [name for name in free if known[name].default is inspect.Parameter.empty]
        if len(required) != 1 or any("." in names[place] for place in left):
            raise UnboundError([names[place] for place in left], list(known))
        bound[required[0]] = _numbered(left, _container(hints.get(required[0])))
        left = []
    bound |= dict(zip(free, left, strict=False))
    return _call_of(bound, known)


def _with_others(
    bound: dict[str, int | Group], names: Sequence[str], left: Sequence[int], free: Sequence[str]
) -> dict[str, int | Group]:
    """What goes to the parameters that are left, in order, and to ``**others`` by its name."""
    roots: dict[str, dict[int, list[str]]] = {}
    ordered = [place for place in left if "." not in names[place]]
    bound = bound | dict(zip(free, ordered, strict=False))
    for place in left:
        if place not in ordered[: len(free)]:
            root, *path = names[place].split(".")
            roots.setdefault(root, {})[place] = path
    for root, paths in roots.items():
        whole = [place for place, path in paths.items() if not path]
        bound[root] = whole[0] if whole else _nested(paths, None)
    return bound


def _by_name(
    names: Sequence[str], known: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]
) -> dict[str, int | Group]:
    bound: dict[str, int | Group] = {
        name: place for place, name in enumerate(names) if name in known
    }
    roots: dict[str, dict[int, list[str]]] = {}
    for place, name in enumerate(names):
        root, *path = name.split(".")
        if path and root in known and root not in bound:
            roots.setdefault(root, {})[place] = path
    for root, paths in roots.items():
        bound[root] = _nested(paths, hints.get(root))
    stems: dict[str, list[tuple[int, int]]] = {}
    for place, name in enumerate(names):
        match = _NUMBERED.match(name)
        if match and name not in known and "." not in name:
            stems.setdefault(match["stem"], []).append((int(match["number"]), place))
    for stem, members in stems.items():
        target = next((p for p in known if p not in bound and _alike(stem, p)), None)
        if target is None:
            continue
        container = _container(hints.get(target))
        if len(members) >= _TENSOR_LIKE or container is not None or stem != target:
            bound[target] = _numbered([place for _, place in sorted(members)], container)
    return bound


def _alike(stem: str, parameter: str) -> bool:
    """``cache`` for ``cache``, ``caches``, ``cache_list``; ``memory`` for ``memories``."""
    plural = (stem, f"{stem}s", f"{stem}es", f"{stem}_list", f"{stem}s_list")
    return parameter in plural or (stem.endswith("y") and parameter == f"{stem[:-1]}ies")


def _numbered(places: Sequence[int], container: Callable[..., Any] | None) -> Group:
    parts = tuple((str(number), place) for number, place in enumerate(places))
    return Group(container if container is tuple else list, parts)


def _nested(paths: Mapping[int, list[str]], hint: Any) -> Group:
    heads: dict[str, dict[int, list[str]]] = {}
    for place, path in paths.items():
        heads.setdefault(path[0], {})[place] = path[1:]
    cache = _cache(list(heads), paths.values(), hint)
    parts: list[tuple[str, int | Group]] = []
    for head, below in heads.items():
        ends = [place for place, path in below.items() if not path]
        inside = None if cache else _inner(hint, head)
        if cache is encoder_decoder_cache:
            inside = _UNSAID
        parts.append((head, ends[0] if len(below) == len(ends) == 1 else _nested(below, inside)))
    if cache is not None:
        return Group(cache, tuple(parts))
    if all(head.isdigit() for head in heads):
        parts.sort(key=lambda part: int(part[0]))
        return Group(tuple if _container(hint) is tuple else list, tuple(parts))
    return Group(_record(hint, heads) or dict, tuple(parts))


def _cache(
    heads: Sequence[str], paths: Iterable[Sequence[str]], hint: Any
) -> Callable[..., Any] | None:
    """What makes a cache of transformers of these parts; None where it is something else."""
    if set(heads) <= set(HALVES):
        return encoder_decoder_cache
    wanted = hint is _UNSAID or any(is_cache_class(one) for one in _alternatives(hint))
    return dynamic_cache if wanted and are_layers(paths) else None


def _hints(owner: Callable[..., Any]) -> dict[str, Any]:
    """What annotations say; those that cannot be read say nothing."""
    try:
        return typing.get_type_hints(owner)
    except Exception:  # noqa: BLE001 - annotations are the user's, and only a hint here
        given = getattr(owner, "__annotations__", {})
        # Imported while types are checked alone, as is usual.
        return {n: _UNSAID for n, hint in given.items() if _CACHES & set(_WORD.findall(str(hint)))}


def _alternatives(hint: Any) -> list[Any]:
    """The members of ``A | B | None``, or what there is."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return [part for part in typing.get_args(hint) if part is not type(None)] if union else [hint]


def _container(hint: Any) -> Callable[..., Any] | None:
    """The sequence that an annotation asks for; None for a tensor, or when it says nothing."""
    for one in _alternatives(hint):
        origin = typing.get_origin(one) or one
        if origin is tuple:
            return tuple
        if origin in _SEQUENCES:
            return list
    return None


def _record(hint: Any, names: Iterable[str]) -> Callable[..., Any] | None:
    """The class that an annotation asks for and that is made of parts of these names, if any."""
    for one in _alternatives(hint):
        made = typing.get_origin(one) or one
        if not isinstance(made, type) or made.__module__ in _NO_RECORDS:
            continue
        try:
            inspect.signature(made).bind(**dict.fromkeys(names))
        except (TypeError, ValueError):
            continue
        return made
    return None


def _inner(hint: Any, part: str) -> Any:
    """The annotation of a part of what a container holds."""
    for one in _alternatives(hint):
        inside = typing.get_args(one)
        if isinstance(one, type) and not inside:
            return _hints(one).get(part)
        origin = typing.get_origin(one)
        if not isinstance(origin, type) or not inside:
            continue
        if origin is tuple and Ellipsis not in inside and part.isdigit():
            return inside[int(part)] if int(part) < len(inside) else None
        return inside[-1 if issubclass(origin, Mapping) else 0]
    return None


def _places(part: int | Group) -> list[int]:
    if isinstance(part, int):
        return [part]
    return [place for _, inside in part.parts for place in _places(inside)]


def _made(part: int | Group, tensors: Sequence[Any]) -> Any:
    return tensors[part] if isinstance(part, int) else part.make(tensors)


def _call_of(bound: Mapping[str, int | Group], known: Mapping[str, inspect.Parameter]) -> Binding:
    """By position as far as that goes, then by name."""
    positional: list[int | Group] = []
    rest = dict(bound)
    for name, parameter in known.items():
        if name not in rest or parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            break
        positional.append(rest.pop(name))
    return Binding(positional=tuple(positional), named=tuple(rest.items()))
