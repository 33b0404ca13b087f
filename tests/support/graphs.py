"""Graphs of a system from modules and functions, without an export."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from exporter.core.tensors import Arrays, Axis, TensorSpec
from exporter.drivers import Graph


def spec(name: str, dtype: str, *shape: int | str, initial: float | None = None) -> TensorSpec:
    axes = tuple(Axis(name=size, minimum=0) for size in shape if isinstance(size, str))
    return TensorSpec(name=name, dtype=dtype, shape=shape, axes=axes, initial=initial)


def graph(
    name: str,
    inputs: list[TensorSpec],
    outputs: list[str],
    call: Callable[..., Any],
    states: Mapping[str, str] | None = None,
) -> Graph:
    """``call`` gets arrays by name and returns arrays in the order of ``outputs``."""

    def run(arrays: Arrays) -> Arrays:
        found = call(**arrays)
        found = found if isinstance(found, tuple | list) else (found,)
        return dict(zip(outputs, map(np.asarray, found), strict=True))

    return Graph(
        name=name,
        inputs={held.name: held for held in inputs},
        outputs=tuple(outputs),
        states=states or {},
        call=run,
    )


def of_torch(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors as one of arrays."""

    def run(**arrays: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            found = function(**{k: torch.from_numpy(np.array(v)) for k, v in arrays.items()})
        found = list(found.values()) if isinstance(found, dict) else found
        found = found if isinstance(found, tuple | list) else [found]
        return [value.numpy() for value in found]

    return run
