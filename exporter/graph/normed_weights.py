"""Weights that are computed from others: ``weight_norm``, ``spectral_norm``, parametrisations.

A run computes them each time; a file may hold what comes out. Whether it is what PyTorch computes,
bit for bit, is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from exporter.graph.index import GraphIndex

_CLOSE = 1e-5


def normed_weights(module: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    """Path of each such weight, what computes it, and its value, without gradients."""
    for path, part in module.named_modules():
        for hook in part._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm):
                yield f"{path}.{hook.name}", "weight_norm", hook.compute_weight(part).detach()
            elif isinstance(hook, SpectralNorm):
                value = hook.compute_weight(part, do_power_iteration=False).detach()
                yield f"{path}.{hook.name}", "spectral_norm", value
        if parametrize.is_parametrized(part):
            for name, steps in part.parametrizations.items():  # type: ignore[union-attr]
                kinds = ", ".join(type(step).__name__.strip("_") for step in steps)
                yield f"{path}.{name}", kinds, getattr(part, name).detach()


def folded_notes(weights: Iterable[tuple[str, str, Tensor]], graph: GraphIndex) -> list[str]:
    """What a report says of such weights in a file: folded, the same bits, or how far away.

    Args:
        weights: from ``normed_weights``.
    """
    weights_by_id: dict[int, list[np.ndarray]] = {}
    for name, tensor in graph.initializers.items():
        size = int(np.prod(tensor.dims, dtype=np.int64))
        if size > 1:
            weights_by_id.setdefault(size, []).append(graph.array(name))
    return [_note(path, what, value, weights_by_id) for path, what, value in weights]


def _note(path: str, what: str, value: Tensor, weights_by_id: dict[int, list[np.ndarray]]) -> str:
    expected = value.numpy()
    away = [_away(expected, array) for array in weights_by_id.get(expected.size, [])]
    nearest = min((gap for gap in away if gap is not None), default=None)
    if nearest is None or nearest > _CLOSE * float(np.abs(expected).max(initial=0.0)):
        return f"'{path}': {what} is computed anew in each run of the file"
    if nearest == 0.0:
        return f"'{path}': {what} is folded into one weight, with PyTorch's own bits"
    return f"'{path}': {what} is folded into one weight, up to {nearest:.2g} from PyTorch's"


def _away(expected: np.ndarray, array: np.ndarray) -> float | None:
    """Largest difference, as it lies or transposed; None for another kind or shape."""
    if array.dtype != expected.dtype:
        return None
    turned = array.T if array.ndim == 2 else array
    ways = [each for each in (array, turned) if each.shape == expected.shape]
    return min((float(np.abs(each - expected).max()) for each in ways), default=None)
