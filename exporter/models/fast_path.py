"""The fast path of torch's own transformer layers: switched off, and what it would have changed.

``nn.TransformerEncoder`` and its parts take another way through C++ when no gradients are wanted.
With a padding mask it leaves padded frames out (nested tensors): they come back as zeros, and the
result may be shorter. No export can do that; what is exported and compared is what the layers' own
code says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

_WITH_ONE = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)
_ROUNDING = 1e-4


@contextlib.contextmanager
def without_fast_path() -> Iterator[None]:
    """Let torch's transformer layers compute as their code says, while the block runs."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def has_fast_path(module: nn.Module) -> bool:
    """True when a part of a module has one."""
    return any(isinstance(part, _WITH_ONE) for part in module.modules())


def fast_path_note(run: Callable[[], Mapping[str, Tensor]]) -> str | None:
    """What the fast path changes of a run, in a sentence; None when nothing beyond rounding.

    Args:
        run: runs the model on inputs with padding; the same inputs each time.
    """
    with without_fast_path():
        plain = run()
    fast = run()
    for name, value in plain.items():
        other = fast[name].to_padded_tensor(0.0) if fast[name].is_nested else fast[name]
        if other.shape != value.shape:
            change = f"has the shape {list(other.shape)} instead of {list(value.shape)}"
        elif not value.is_floating_point() or not value.numel():
            continue
        else:
            moved = float((other - value).abs().nan_to_num(torch.inf).max())
            if moved <= _ROUNDING * max(float(value.abs().max()), 1.0):
                continue
            change = f"differs by up to {moved:.3g}"
        return (
            f"PyTorch's fast path for nn.TransformerEncoder is off in everything that was compared:"
            f" with it '{name}' {change} where rows are padded (it leaves padded frames out)."
            " To run PyTorch as the file does: torch.backends.mha.set_fastpath_enabled(False)"
        )
    return None
