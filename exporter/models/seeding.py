"""Fixed-seed weights: the same bytes on every machine, whatever order modules are built in.

Each tensor has a stream of its own, keyed by seed and name, of raw Philox words: integers only,
so no CPU's own exponential or vector width has a say. Values are uniform with the variance that
keeps activations of a deep net at a sane size:

    matrix, conv kernel   U(-a, a), a = sqrt(3 / fan_in)       variance 1 / fan_in
    embedding             U(-a, a), a = sqrt(3 / 512)          like one row of a matrix
    norm weight           1 + U(-0.1, 0.1)                     not 1: a skipped norm is seen
    any bias              U(-0.1, 0.1)                         not 0: a missing bias is seen
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from torch import Tensor, nn

_BLOCK = 1 << 17  # even: a word of 64 bits gives two values
_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d)


def seed_weights(module: nn.Module, seed: int) -> None:
    """Overwrite every parameter and float buffer of a module, in place.

    Args:
        module: its tensors are contiguous and hold memory (not on the meta device).
        seed: any integer; equal seeds give equal bytes.

    Raises:
        ValueError: a buffer is of a kind for which there is no rule, so it would keep what it had.
    """
    with torch.no_grad():
        for path, part in module.named_modules(remove_duplicate=True):
            own = list(part.named_parameters(recurse=False)) + list(
                part.named_buffers(recurse=False)
            )
            for name, tensor in own:
                full = f"{path}.{name}" if path else name
                if name == "num_batches_tracked":  # a count of training steps; eval reads none
                    tensor.zero_()
                    continue
                low, high = _range(part, name, tensor, full)
                tensor.copy_(_uniform(full, seed, tensor.shape, low, high))


def _range(part: nn.Module, name: str, tensor: Tensor, full: str) -> tuple[float, float]:
    if not tensor.is_floating_point():
        raise ValueError(f"no seeding rule for {full} ({tensor.dtype})")
    if name == "running_var":
        return 0.5, 1.5
    if isinstance(part, _NORMS) and name == "weight":
        return 0.9, 1.1
    if isinstance(part, nn.Embedding):
        edge = math.sqrt(3.0 / 512)
        return -edge, edge
    if tensor.dim() < 2:
        return -0.1, 0.1
    fan_in = tensor[0].numel()
    edge = math.sqrt(3.0 / fan_in)
    return -edge, edge


def _uniform(name: str, seed: int, shape: torch.Size, low: float, high: float) -> Tensor:
    key = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:16], "little")
    words_of = np.random.Philox(key=key).random_raw
    values = np.empty(math.prod(shape), np.float32)
    # In blocks that stay in the processor's cache: half the time of whole arrays, the same values.
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        raw = words_of((len(block) + 1) // 2).astype("<u8", copy=False)
        words = raw.view("<u4")[: len(block)]
        words >>= np.uint32(8)
        np.multiply(words, np.float32(2.0**-24), out=block, dtype=np.float32, casting="unsafe")
        block *= np.float32(high - low)
        block += np.float32(low)
    return torch.from_numpy(values).reshape(shape)
