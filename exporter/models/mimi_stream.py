"""The decoder as one step of a stream: what its convolutions carry over comes in and goes out.

    convolution, kernel k            transposed convolution, kernel k, stride s

    | carried | chunk ......... |    | chunk, transposed ............ | tail |
    | k - 1   |                 |    + carried tail of the chunk before
              | result ........ |    | result ...................... | next   |
      the last k - 1 are carried                                       k - s are carried

Zeros in front of the first chunk are what the decoders pad with, so one chunk from zero state is
the offline decoder. moshi keeps the same two things in its own ``streaming()`` mode; transformers
has no such mode for a transposed convolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from exporter.models.mimi_layers import Convolution, convolutions, layers_of

NEXT = "next_"


class StreamingMimiDecoder(nn.Module):
    """One chunk of either decoder, on upstream's own layers, which keep their names.

    Args:
        upstream: a ``SEANetDecoder`` or a ``MimiDecoder`` with causal convolutions.
    """

    def __init__(self, upstream: Any) -> None:
        super().__init__()
        layers = nn.ModuleList(layers_of(upstream))
        self.name = "model" if hasattr(upstream, "model") else "layers"
        self.add_module(self.name, layers)
        self.carried = {item.inner: item for item in convolutions(upstream) if item.carried}

    @property
    def states(self) -> tuple[Convolution, ...]:
        """What is carried, in the order of the arguments."""
        return tuple(self.carried.values())

    def forward(self, z: Tensor, *states: Tensor) -> dict[str, Tensor]:
        """Decode a chunk.

        Args:
            z: ``[B, dimension, T]`` float, T >= 1.
            states: ``[B, channels, carried]`` float, one per entry of ``states``; zeros before
                the first chunk.

        Returns:
            ``waveform`` [B, 1, hop T], and ``next_<state>`` for every state.
        """
        left = iter(states)
        after: dict[str, Tensor] = {}
        x = z
        for layer in self.get_submodule(self.name).children():
            x = self._layer(layer, x, left, after)
        return {"waveform": x, **after}

    def _layer(
        self, layer: nn.Module, x: Tensor, left: Iterator[Tensor], after: dict[str, Tensor]
    ) -> Tensor:
        block = layer._modules.get("block")
        if block is not None:
            inside = x
            for part in block.children():
                inside = self._layer(part, inside, left, after)
            return layer.get_submodule("shortcut")(x) + inside
        # moshi wraps a convolution once more than transformers does; both wrappers only pad.
        wrapped = layer._modules.get("convtr", layer._modules.get("conv"))
        if wrapped is None:
            return layer(x)
        inner = next(
            part for part in wrapped.modules() if isinstance(part, nn.Conv1d | nn.ConvTranspose1d)
        )
        item = self.carried.get(inner)
        if item is None:
            return wrapped(x)
        if not item.transposed:
            x = torch.cat([next(left), x], dim=-1)
            after[NEXT + item.state] = x[..., -item.carried :]
            return wrapped(x)
        y = wrapped(x)
        y = torch.cat([y[..., : item.carried] + next(left), y[..., item.carried :]], dim=-1)
        tail = y[..., -item.carried :]
        # The next chunk's result brings the bias along.
        after[NEXT + item.state] = tail if inner.bias is None else tail - inner.bias[:, None]
        return y[..., : -item.carried]
