"""Inputs that a module runs on, where nobody gives any: guessed from its parts, tried by running.

The first parameter's kind is read from its name and from the first layer with a width (an
embedding takes indices, a convolution of eight channels takes ``[2, 8, T]``); the others follow it
by their names (lengths, masks, tokens). What a model says when it refuses holds the number that it
wants more often than not: such numbers are tried as sizes, and parameters that it names are given.
"""

from __future__ import annotations

import inspect
import itertools
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from exporter.core.errors import ModelError
from exporter.draft.values import CallerModule
from exporter.models.results import leaves

_TRIES = 600
_SECONDS = 60.0
_BATCH, _TIME = 2, 50
_LONGER = (210, 1600, 16_000)
_MOST_ELEMENTS = 2_000_000
_WIDTHS = (80, 16, 40, 64, 128, 257)
_WORD = {
    "ids": r"(^|_)(ids?|tokens?|text|labels?|codes?|indices|index|targets?|symbols?|y|ys)(_|$)",
    "lengths": r"(^|_|i)(lengths?|lens?)$",
    "mask": r"mask",
    "samples": r"wav|audio|signal|samples|input_values|mixture|speech",
    "picture": r"pixel|image",
}
_WIDE = re.compile(r"n_mels|num_mel|mel_bins|n_freq|input_(dim|size)|in_(channels|dim)|feat|n_mfcc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """Inputs that a module runs on.

    Attributes:
        values: by name, in the order of the parameters. draws: how indices are drawn.
        said: why, by "inputs.x". fixed: inputs and dimensions that are widths of features: a
            model that runs at another width is not for that one. tries: how many were tried.
    """

    values: Mapping[str, Tensor]
    draws: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)
    fixed: frozenset[tuple[str, int]] = frozenset()
    tries: int = 0


@dataclass(frozen=True, slots=True)
class _Kind:
    """Dtype and shape of one input; ``most`` is the number of indices that it may hold,
    ``width_at`` the dimension of its features (0: it has none)."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    most: int = 0
    why: str = ""
    width_at: int = 0

    def make(self, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        if self.dtype == torch.bool:
            return torch.ones(self.shape, dtype=torch.bool)
        if self.dtype.is_floating_point:
            return torch.randn(self.shape, generator=generator).to(self.dtype)
        return torch.randint(0, max(self.most, 1), self.shape, generator=generator)


def guess_inputs(subject: CallerModule) -> Guess:
    """Try inputs until the module runs and returns finite numbers.

    Raises:
        ModelError: none of them runs; says what was tried last, and what to write.
    """
    wanted = _wanted(subject)
    if not wanted:
        raise ModelError("its method takes no inputs", where="init", remedy="name another --method")
    search = _Search(subject, wanted)
    guess = search.run()
    if guess is not None:
        return guess
    told = search.first or "nothing"
    raise ModelError(
        f"no inputs were found that the model runs on, in {search.tries} tries; it said: {told}",
        where="init",
        remedy="say what it takes: --input 'x=float32[2,50,80]', one for each parameter",
    )


def _wanted(subject: CallerModule) -> list[str]:
    """Parameters that have to be given, at least the first."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [
        p for p in inspect.signature(subject.called).parameters.values() if p.kind in kinds
    ]
    needed = [p.name for p in parameters if p.default is inspect.Parameter.empty]
    if needed:
        return needed
    main = getattr(subject.module, "main_input_name", None)  # of transformers
    names = [p.name for p in parameters]
    return [main] if isinstance(main, str) and main in names else names[:1]


class _Search:
    """Breadth first: a kind of the first input, then what the refusals say of it."""

    def __init__(self, subject: CallerModule, wanted: Sequence[str]):
        self.subject = subject
        self.wanted = list(wanted)
        self.parts = _Parts(subject.module)
        self.known = list(inspect.signature(subject.called).parameters)
        self.tries = 0
        self.first = ""
        self.until = time.monotonic() + _SECONDS
        self._seen: set[tuple[Any, ...]] = set()

    def run(self) -> Guess | None:
        main = self.wanted[0]
        waiting = deque((kind, 0) for kind in self.parts.first_kinds(main))
        while waiting and self.tries < _TRIES and time.monotonic() < self.until:
            kind, depth = waiting.popleft()
            numbers: set[int] = set()
            for others in self._others(kind):
                result = self._try({main: kind, **others}, numbers)
                if result is not None:
                    return result
            if depth < 2:
                waiting.extend((other, depth + 1) for other in _resized(kind, numbers))
        return None

    def _others(self, main: _Kind) -> Iterator[dict[str, _Kind]]:
        """Kinds of the other inputs, for one of the first."""
        names = self.wanted[1:]
        choices = [list(self.parts.further_kinds(name, main)) for name in names]
        for picked in itertools.islice(itertools.product(*choices), 24):
            yield dict(zip(names, picked, strict=True))

    def _try(self, kinds: Mapping[str, _Kind], numbers: set[int]) -> Guess | None:
        key = tuple((name, kind.dtype, kind.shape, kind.most) for name, kind in kinds.items())
        if key in self._seen or time.monotonic() > self.until or self.tries >= _TRIES:
            return None
        self._seen.add(key)
        self.tries += 1
        ordered = sorted(kinds, key=self.known.index)
        values = {name: _value(name, kinds, n) for n, name in enumerate(ordered)}
        try:
            returned = self.subject.run(values)
        except Exception as error:  # noqa: BLE001 - the user's code; what it says is a hint
            said = f"{type(error).__name__}: {str(error)[:400]}"
            self.first = self.first or said
            numbers |= {int(n) for n in re.findall(r"(?<![\w.])\d{1,6}(?![\w.])", said)}
            self._take_named(said, kinds)
            return None
        results = [value for value in leaves(returned) if isinstance(value, Tensor)]
        if not results or any(_not_finite(value) for value in results):
            return None
        return Guess(
            values=values,
            draws={
                name: {"kind": "integers", "low": 0, "high": kind.most}
                for name, kind in kinds.items()
                if kind.most and kind.why != _COUNTS
            },
            said={f"inputs.{name}": kind.why for name, kind in kinds.items() if kind.why},
            fixed=frozenset((name, kind.width_at) for name, kind in kinds.items() if kind.width_at),
            tries=self.tries,
        )

    def _take_named(self, said: str, kinds: Mapping[str, _Kind]) -> None:
        """A parameter that the refusal names has to be given as well."""
        for name in self.known:
            if name not in self.wanted and len(name) > 3 and re.search(rf"\b{name}\b", said):
                self.wanted.append(name)
                self._seen.clear()
                return


def _value(name: str, kinds: Mapping[str, _Kind], seed: int) -> Tensor:
    kind = kinds[name]
    if kind.why == _COUNTS:
        longest = kind.most
        full = [max(longest - row * longest // 3, 1) for row in range(kind.shape[0])]
        return torch.tensor(full, dtype=kind.dtype)
    if kind.why == _ALL:
        return torch.ones(kind.shape, dtype=kind.dtype)
    return kind.make(seed)


_COUNTS = "counts the steps of the first input"
_ALL = "marks what is there: all of it"


def _not_finite(value: Tensor) -> bool:
    return value.is_floating_point() and not bool(torch.isfinite(value).all())


def _resized(kind: _Kind, numbers: Iterable[int]) -> Iterator[_Kind]:
    """The same with a size that the refusal named, anywhere but in the batch; or longer."""
    for number in sorted(numbers - set(kind.shape)):  # type: ignore[operator]
        for at in range(1, len(kind.shape)):
            if number:
                yield from _sized(kind, at, number)
    for longer in _LONGER:
        for at in range(1, len(kind.shape)):
            if kind.shape[at] == _TIME:
                yield from _sized(kind, at, longer)


def _sized(kind: _Kind, at: int, size: int) -> Iterator[_Kind]:
    shape = (*kind.shape[:at], size, *kind.shape[at + 1 :])
    total = 1
    for one in shape:
        total *= one
    if total <= _MOST_ELEMENTS:
        yield replace(kind, shape=shape)


class _Parts:
    """What a module's parts say of its inputs."""

    def __init__(self, module: nn.Module):
        self.widths: list[tuple[str, int, str]] = []
        self.indices: list[tuple[int, str]] = []
        for name, part in module.named_modules():
            where = f"{name or 'it'} is {type(part).__name__}"
            if isinstance(part, nn.Embedding):
                self.indices.append((part.num_embeddings, where))
            elif isinstance(part, nn.Conv1d | nn.ConvTranspose1d):
                self.widths.append(("channels", part.in_channels, where))
            elif isinstance(part, nn.Conv2d):
                self.widths.append(("planes", part.in_channels, where))
            elif isinstance(part, nn.Linear):
                self.widths.append(("last", part.in_features, where))
            elif isinstance(part, nn.RNNBase):
                self.widths.append(("last", part.input_size, where))
            elif isinstance(part, nn.LayerNorm):
                self.widths.append(("last", part.normalized_shape[-1], where))
        self.named = sorted(_named_widths(module))

    def first_kinds(self, name: str) -> list[_Kind]:
        """Kinds of the first input, likely ones first."""
        kinds: list[_Kind] = []
        if _is(name, "ids") and self.indices:
            kinds += self._indices()
        if _is(name, "samples"):
            kinds += _samples()
        if _is(name, "picture"):
            planes = next((n for how, n, _ in self.widths if how == "planes"), 3)
            kinds.append(_Kind(torch.float32, (_BATCH, planes, 32, 40), why=f"'{name}': pictures"))
        for how, width, where in self.widths[:3]:
            kinds += _floats(how, width, where)
        if self.indices and not _is(name, "ids"):
            kinds += self._indices()
        for width in self.named:
            kinds += _floats("last", width, "a width that it has")
        kinds += [] if _is(name, "samples") else _samples()
        for width in _WIDTHS:
            kinds += _floats("last", width, "")
        return list(dict.fromkeys(kinds))

    def further_kinds(self, name: str, main: _Kind) -> list[_Kind]:
        """Kinds of another input beside the first one."""
        rows = main.shape[:1]
        times = list(main.shape[1:]) or [_TIME]
        steps = main.shape[1] if len(main.shape) > 1 else _TIME
        last = main.shape[-1] if len(main.shape) == 2 else steps
        if _is(name, "lengths"):
            return [
                _Kind(torch.int64, rows, size, _COUNTS) for size in dict.fromkeys([last, *times])
            ] + [_Kind(torch.float32, rows, 0, _ALL)]
        if _is(name, "mask"):
            shapes = [(*rows, last), (*rows, 1, last), (*rows, last, last)]
            dtypes = (torch.bool, torch.int64, torch.float32)
            return [_Kind(d, shape, 0, _ALL) for shape in shapes for d in dtypes]
        ids = self._indices(7) if self.indices else [_Kind(torch.int64, (*rows, 7), 2, "indices")]
        same = [_Kind(torch.float32, main.shape, 0, "")] if main.dtype == torch.float32 else []
        widths = [k for how, n, where in self.widths[:4] for k in _floats(how, n, where)]
        vector = [_Kind(torch.float32, (*rows, n), 0, where) for _, n, where in self.widths[:2]]
        return [*ids, *same, *widths] if _is(name, "ids") else [*same, *widths, *vector, *ids]

    def _indices(self, steps: int = 11) -> list[_Kind]:
        return [
            _Kind(torch.int64, (_BATCH, steps), count, f"{where} of {count}")
            for count, where in self.indices[:3]
        ]


def _is(name: str, kind: str) -> bool:
    return re.search(_WORD[kind], name.lower()) is not None


def _samples() -> list[_Kind]:
    return [
        _Kind(torch.float32, shape, why="samples")
        for longest in (1600, 16_000)
        for shape in ((_BATCH, longest), (_BATCH, 1, longest))
    ]


def _floats(how: str, width: int, where: str) -> list[_Kind]:
    time, batch = _TIME, _BATCH
    why = f"{where} of {width}" if where else ""
    if how == "planes":
        shapes = [(batch, width, 32, 40)]
        shapes += [(batch, 1, time, 80), (batch, time, 80)] if width == 1 else []
    elif how == "channels":
        shapes = [(batch, width, time), (batch, time, width)]
        if width == 1:
            shapes = [(batch, 1, 1600), (batch, 1600)]
    else:
        shapes = [(batch, time, width), (batch, width), (batch, width, time)]
        shapes.append((batch, 1, time, width))
    return [
        _Kind(torch.float32, shape, why=why, width_at=shape.index(width) if len(shape) > 2 else 0)
        if width in shape[1:]
        else _Kind(torch.float32, shape, why=why)
        for shape in shapes
    ]


def _named_widths(module: nn.Module) -> set[int]:
    """Numbers that parts and their configuration keep under the name of a width."""
    namespaces = [vars(part) for part in itertools.islice(module.modules(), 200)]
    config = getattr(module, "config", None)
    namespaces += [vars(config)] if hasattr(config, "__dict__") else []
    return {
        value
        for fields in namespaces
        for name, value in fields.items()
        if isinstance(value, int) and not isinstance(value, bool) and 1 < value < 2048
        if _WIDE.search(name)
    }
