"""Padding as TensorFlow does it, of MobileNet in transformers: sizes that choose no branch.

It asks at every convolution whether a size is a multiple of the stride, and a trace keeps the
answer for the example's size: after five halvings that is one size. What is padded is ``kernel``
less what the last step covers, which is ``(size - 1) % stride + 1`` in both cases:

    size 9, stride 2, kernel 3    | . . | . . | . . | . . | . x x |     covers 1, padded by 2
    size 8                        | . . | . . | . . | . . x |           covers 2, padded by 1
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from exporter.graph.repairs.frame import Log, Repair, holders_of, replaced_names
from exporter.graph.repairs.module_run import ModuleRun

_HOMES = tuple(
    f"transformers.models.mobilenet_{version}.modeling_mobilenet_{version}"
    for version in ("v1", "v2")
)


def _ends(size: Any, kernel: int, stride: int, dilation: int) -> tuple[Any, Any]:
    """What is padded in front of an axis and behind it."""
    total = kernel - 1 - (size - 1) % stride
    if kernel < stride:
        total = torch.sym_max(total, 0)
    return total // 2 * dilation, (total - total // 2) * dilation


def padded(features: Tensor, conv_layer: nn.Conv2d) -> Tensor:
    """Features ``[B, C, H, W]``, padded so that a convolution gives ``ceil(H / stride)`` rows."""
    height, width = (
        _ends(features.shape[axis], *(int(setting[axis]) for setting in _settings(conv_layer)))
        for axis in (-2, -1)
    )
    return nn.functional.pad(features, (*width, *height))


def _settings(conv: nn.Conv2d) -> tuple[tuple[int, ...], ...]:
    return conv.kernel_size, conv.stride, conv.dilation


def _functions() -> list[Callable[..., Any]]:
    """Upstream's, of the modules that are there."""
    return [vars(sys.modules[home])["apply_tf_padding"] for home in _HOMES if home in sys.modules]


@contextlib.contextmanager
def _apply(run: ModuleRun, log: Log) -> Iterator[None]:
    def ours(features: Tensor, conv_layer: nn.Conv2d) -> Tensor:
        log.at("apply_tf_padding()")
        return padded(features, conv_layer)

    changes = [(owner, name, ours) for own in _functions() for owner, name in holders_of(own)]
    with replaced_names(changes):
        yield


REPAIR = Repair(
    name="same_padding",
    replaces="what is padded is computed from the size, without a branch",
    strategy="padding computed from sizes",
    matches=lambda run: any(map(run.calls, _functions())),
    apply=_apply,
    frees=True,
)
