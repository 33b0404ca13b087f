"""SpeechBrain's ECAPA-TDNN with lengths honoured everywhere and nothing of the batch baked in.

The layers are upstream's own and keep their names; what is written anew is what lies between them.
For a recording alone the result is upstream's. In a padded batch upstream differs from it at two
places, and exports a third:

    length_to_mask      calls ``len(length)``, so an exported graph takes the example's batch only
    convolutions        reflect at the end of the padded tensor, not at a row's own end, so the
                        last frames of a shorter row see padding
    pooling, squeeze    see padding wherever the caller passes no lengths

Desplanques et al., ECAPA-TDNN, Interspeech 2020.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from exporter.speech.reflect import reflected_index


class EcapaEmbedding(nn.Module):
    """Features of a padded batch to one embedding a row.

    Args:
        upstream: a ``speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN``.
    """

    def __init__(self, upstream: Any) -> None:
        super().__init__()
        self.blocks: Any = upstream.blocks
        self.mfa: Any = upstream.mfa
        self.asp: Any = upstream.asp
        self.asp_bn: nn.Module = upstream.asp_bn
        self.fc: nn.Module = upstream.fc

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        """Embed every row.

        Args:
            features: ``[B, T, C]`` float; what lies behind a row's frames has no influence as long
                as it is finite.
            frames: ``[B]`` int64 in [1, T].

        Returns:
            ``[B, lin_neurons]`` float.
        """
        x = features.transpose(1, 2)
        used = torch.arange(x.shape[2], device=x.device) < frames.unsqueeze(1)
        mask = used.unsqueeze(1)
        first, *others = self.blocks
        x = _tdnn(first, x, frames)
        outputs = []
        for block in others:
            x = _se_res2net(block, x, mask, frames)
            outputs.append(x)
        x = _tdnn(self.mfa, torch.cat(outputs, dim=1), frames)
        pooled = self.asp_bn(_pooled(self.asp, x, mask))
        return self.fc(pooled).squeeze(2)


def _tdnn(block: Any, x: Tensor, frames: Tensor) -> Tensor:
    conv = block.conv
    margin = conv.dilation * (conv.kernel_size - 1) // 2
    if not margin:
        return block(x)
    index = reflected_index(frames, x.shape[2], margin)
    # conv.conv is the convolution without upstream's own padding.
    wide = x.gather(2, index.unsqueeze(1).expand(-1, x.shape[1], -1))
    return block.dropout(block.norm(block.activation(conv.conv(wide))))


def _se_res2net(block: Any, x: Tensor, mask: Tensor, frames: Tensor) -> Tensor:
    residual = x if block.shortcut is None else block.shortcut(x)
    x = _tdnn(block.tdnn1, x, frames)
    x = _res2net(block.res2net_block, x, frames)
    x = _tdnn(block.tdnn2, x, frames)
    return _squeeze_excite(block.se_block, x, mask) + residual


def _res2net(block: Any, x: Tensor, frames: Tensor) -> Tensor:
    """Split into groups; each but the first passes a layer, together with the one before."""
    first, *rest = torch.chunk(x, block.scale, dim=1)
    outputs = [first]
    for number, (part, layer) in enumerate(zip(rest, block.blocks, strict=True)):
        fed = part if number == 0 else part + outputs[-1]
        outputs.append(_tdnn(layer, fed, frames))
    return torch.cat(outputs, dim=1)


def _squeeze_excite(block: Any, x: Tensor, mask: Tensor) -> Tensor:
    squeezed = _weighted_sum(x, _shares(mask, x))
    return block.sigmoid(block.conv2(block.relu(block.conv1(squeezed)))) * x


def _pooled(asp: Any, x: Tensor, mask: Tensor) -> Tensor:
    """Mean and standard deviation under attention, ``[B, 2 C, 1]``."""
    attended = x
    if asp.global_context:
        mean, std = _statistics(asp, x, _shares(mask, x))
        attended = torch.cat([x, mean.expand_as(x), std.expand_as(x)], dim=1)
    scores = asp.conv(asp.tanh(asp.tdnn(attended)))
    weights = torch.softmax(scores.masked_fill(~mask, float("-inf")), dim=2)
    return torch.cat(_statistics(asp, x, weights), dim=1)


def _shares(mask: Tensor, like: Tensor) -> Tensor:
    """Weights of a plain mean over the frames in use, in the precision of ``like``."""
    used = mask.to(like.dtype)
    return used / used.sum(dim=2, keepdim=True)


def _weighted_sum(values: Tensor, weights: Tensor) -> Tensor:
    """Sum over time, ``[B, C, 1]``, as a product of matrices: it is added up in blocks on every
    backend, where onnxruntime's ReduceSum adds hundreds of frames one after the other."""
    return torch.matmul(weights.unsqueeze(2), values.unsqueeze(3)).squeeze(3)


def _statistics(asp: Any, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    mean = _weighted_sum(x, weights)
    variance = _weighted_sum((x - mean).pow(2), weights)
    return mean, variance.clamp(min=asp.eps).sqrt()
