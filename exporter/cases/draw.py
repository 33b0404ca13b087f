"""Inputs drawn from a seed: the same numbers on every machine and in every process.

Only ``numpy.random.Generator(PCG64(seed))`` is used; its streams are stable across numpy versions
in practice, and a test holds a few values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from exporter.cases.check_sizes import check_elements
from exporter.core.errors import ConfigError


def draw(kind: str, shape: int | Sequence[int], seed: int = 0, **options: Any) -> np.ndarray:
    """Draw one array.

    Args:
        kind: one of ``KINDS``.
        shape: shape, or a number of samples for ``[N]``.
        seed: >= 0; equal arguments give equal arrays.
        options: per kind, all optional:
            ``normal``: scale (1.0), mean (0.0);
            ``uniform``: low (-1.0), high (1.0, excluded);
            ``sine``: frequency_hz (440.0), sample_rate_hz (16000), scale (0.5); phase is drawn;
                time runs along the last axis;
            ``silence``: none;
            ``constant``: value (1.0);
            ``click``: scale (1.0), one sample at a drawn place of the last axis;
            ``square``: frequency_hz (100.0), sample_rate_hz (16000), scale (1.0);
            ``integers``: low (0), high (2, excluded), int64;
            ``booleans``: probability of True (0.5).
        ``dtype`` (numpy name) is an option of every kind; float32 unless said above.

    Returns:
        array of that shape.

    Raises:
        ConfigError: unknown kind or option, a negative size or seed, or an empty range.
    """
    if kind not in KINDS:
        raise ConfigError(
            f"unknown kind '{kind}'", where="random.kind", remedy="use one of: " + ", ".join(KINDS)
        )
    size = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(axis < 0 for axis in size):
        raise ConfigError(f"shape {size} has a negative size", where="random.shape")
    check_elements(size, "random.shape")
    if seed < 0:
        raise ConfigError(f"seed {seed} is negative", where="random.seed", remedy="use 0 or more")
    make, defaults = KINDS[kind]
    unknown = sorted(set(options) - set(defaults) - {"dtype"})
    if unknown:
        allowed = sorted({*defaults, "dtype"})
        raise ConfigError(
            f"kind '{kind}' has no option '{unknown[0]}'",
            where=f"random.{unknown[0]}",
            remedy="it has: " + ", ".join(allowed),
        )
    dtype = options.pop("dtype", _DTYPES.get(kind, "float32"))
    generator = np.random.Generator(np.random.PCG64(seed))
    return np.asarray(make(generator, size, **{**defaults, **options})).astype(dtype)


Shape = tuple[int, ...]


def _normal(generator: np.random.Generator, shape: Shape, *, scale: float, mean: float) -> Any:
    return generator.standard_normal(shape) * scale + mean


def _uniform(generator: np.random.Generator, shape: Shape, *, low: float, high: float) -> Any:
    _need_range(low, high)
    return generator.random(shape) * (high - low) + low


def _sine(
    generator: np.random.Generator,
    shape: Shape,
    *,
    frequency_hz: float,
    sample_rate_hz: float,
    scale: float,
) -> Any:
    phase = generator.random((*shape[:-1], 1)) * 2 * np.pi
    turn = 2 * np.pi * frequency_hz / sample_rate_hz * np.arange(shape[-1])
    return scale * np.sin(turn + phase)


def _square(generator: np.random.Generator, shape: Shape, *, scale: float, **wave: float) -> Any:
    high = _sine(generator, shape, scale=1.0, **wave) >= 0
    return np.where(high, scale, -scale)


def _silence(generator: np.random.Generator, shape: Shape) -> Any:
    return np.zeros(shape)


def _constant(generator: np.random.Generator, shape: Shape, *, value: float) -> Any:
    return np.full(shape, value)


def _click(generator: np.random.Generator, shape: Shape, *, scale: float) -> Any:
    result = np.zeros(shape)
    if shape[-1]:
        result[..., int(generator.integers(shape[-1]))] = scale
    return result


def _integers(generator: np.random.Generator, shape: Shape, *, low: int, high: int) -> Any:
    _need_range(low, high)
    return generator.integers(low, high, size=shape, dtype=np.int64)


def _booleans(generator: np.random.Generator, shape: Shape, *, probability: float) -> Any:
    return generator.random(shape) < probability


def _need_range(low: float, high: float) -> None:
    if not low < high:
        raise ConfigError(
            f"the range from {low} up to {high} is empty",
            where="random.low, random.high",
            remedy="use low < high",
        )


_WAVE = {"sample_rate_hz": 16000.0}
KINDS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "normal": (_normal, {"scale": 1.0, "mean": 0.0}),
    "uniform": (_uniform, {"low": -1.0, "high": 1.0}),
    "sine": (_sine, {"frequency_hz": 440.0, "scale": 0.5, **_WAVE}),
    "square": (_square, {"frequency_hz": 100.0, "scale": 1.0, **_WAVE}),
    "silence": (_silence, {}),
    "constant": (_constant, {"value": 1.0}),
    "click": (_click, {"scale": 1.0}),
    "integers": (_integers, {"low": 0, "high": 2}),
    "booleans": (_booleans, {"probability": 0.5}),
}
"""Kind -> how it is made and the defaults of its options."""
_DTYPES = {"integers": "int64", "booleans": "bool"}
