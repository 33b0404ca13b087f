"""What moshi's SEANetDecoder and transformers' MimiDecoder have in common: layers and names.

Both are one list of layers with equal positions; only the containers around the convolutions, and
so the names, differ:

    position           moshi                          transformers
    0                  model.0.conv.conv              layers.0.conv          convolution
    2, 5, 8, 11        model.2.convtr.convtr          layers.2.conv          transposed convolution
    3, 6, 9, 12        model.3.block.1.conv.conv      layers.3.block.1.conv  in a residual block
    14                 model.14.conv.conv             layers.14.conv         convolution

moshi's names are the canonical ones here: seeded weights and digests do not hang on which of the
two runs, so the same pipeline has the same weights in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """One convolution of a decoder.

    Attributes:
        name: path of the innermost module, as moshi calls it.
        layer: number of the layer that holds it.
        inner: the ``nn.Conv1d`` or ``nn.ConvTranspose1d``.
        transposed: which of the two.
    """

    name: str
    layer: int
    inner: Any
    transposed: bool

    @property
    def carried(self) -> int:
        """Samples that a stream carries from one chunk to the next: the left context of a
        convolution, the tail of a transposed one."""
        inner, stride = self.inner, int(self.inner.stride[0])
        return (int(inner.kernel_size[0]) - 1) * int(inner.dilation[0]) + 1 - stride

    @property
    def channels(self) -> int:
        """Channels of what is carried."""
        return int(self.inner.out_channels if self.transposed else self.inner.in_channels)

    @property
    def state(self) -> str:
        """Name of what is carried, as an input; the output is ``next_`` and the same."""
        return f"{'tail' if self.transposed else 'context'}_{self.layer}"


def layers_of(decoder: Any) -> Sequence[nn.Module]:
    """The layers of either decoder."""
    return list(decoder.model if hasattr(decoder, "model") else decoder.layers)


def convolutions(decoder: Any) -> Iterator[Convolution]:
    """Yield the convolutions of either decoder in the order in which they run."""
    for index, layer in enumerate(layers_of(decoder)):
        for path, part in layer.named_modules():
            if isinstance(part, nn.Conv1d | nn.ConvTranspose1d):
                transposed = isinstance(part, nn.ConvTranspose1d)
                # "block.1.conv.conv", "block.1.conv", "conv" ...: what is around the containers
                around = [step for step in path.split(".") if step not in ("conv", "convtr")]
                kind = "convtr" if transposed else "conv"
                yield Convolution(
                    name=".".join(["model", str(index), *around, kind, kind]),
                    layer=index,
                    inner=part,
                    transposed=transposed,
                )


def by_moshi_names(decoder: Any) -> nn.Module:
    """A module that holds the same convolutions under moshi's names; it is never called."""
    root = nn.Module()
    for item in convolutions(decoder):
        *around, last = item.name.split(".")
        parent = root
        for step in around:
            if step not in parent._modules:
                parent.add_module(step, nn.Module())
            parent = parent.get_submodule(step)
        parent.add_module(last, item.inner)
    return root
