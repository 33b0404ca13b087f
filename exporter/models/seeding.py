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
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor, nn

_BLOCK = 1 << 17  # even: a word of 64 bits gives two values
_LAST_WORD = 2**64 - 1
_THREADS = 2
_Job = tuple[str, Tensor, float, float]
_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d)


def seed_weights(module: nn.Module, seed: int) -> None:
    """Overwrite every parameter and float buffer of a module, in place.

    Args:
        module: its tensors are contiguous and hold memory (not on the meta device).
        seed: any integer; equal seeds give equal bytes.

    Raises:
        ValueError: a buffer is of a kind for which there is no rule, so it would keep what it had.
    """
    jobs: list[_Job] = []
    with torch.no_grad(), ThreadPoolExecutor(_THREADS) as pool:
        for path, part in module.named_modules(remove_duplicate=True):
            own = list(part.named_parameters(recurse=False)) + list(
                part.named_buffers(recurse=False)
            )
            for name, tensor in own:
                full = f"{path}.{name}" if path else name
                if name == "num_batches_tracked":  # a count of training steps; eval reads none
                    tensor.zero_()
                    continue
                jobs.append((full, tensor, *_range(part, name, tensor, full)))
        # Every tensor has a key of its own, so who draws it when changes nothing.
        for _ in pool.map(lambda job: _fill(seed, *job), jobs):
            pass


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


def _fill(seed: int, name: str, tensor: Tensor, low: float, high: float) -> None:
    """Draw one tensor, in its own memory where it is float32: new pages cost as much as values."""
    if tensor.dtype is torch.float32 and tensor.is_contiguous():
        _draw(name, seed, tensor.detach().view(-1).numpy(), low, high)
        return
    values = np.empty(tensor.numel(), np.float32)
    _draw(name, seed, values, low, high)
    # Whether gradients are kept is said per thread.
    tensor.detach().copy_(torch.from_numpy(values).reshape(tensor.shape))


def _draw(name: str, seed: int, values: np.ndarray, low: float, high: float) -> None:
    key = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:16], "little")
    # Every word as it comes; unlike ``random_raw`` this lets other threads run meanwhile.
    words_of = np.random.Generator(np.random.Philox(key=key)).integers
    # In blocks that stay in the processor's cache: half the time of whole arrays, the same values.
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        count = (len(block) + 1) // 2
        raw = words_of(0, _LAST_WORD, count, np.uint64, endpoint=True).astype("<u8", copy=False)
        words = raw.view("<u4")[: len(block)]
        words >>= np.uint32(8)
        np.multiply(words, np.float32(2.0**-24), out=block, dtype=np.float32, casting="unsafe")
        block *= np.float32(high - low)
        block += np.float32(low)
