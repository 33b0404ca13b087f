"""``torch.stft`` and ``torch.istft`` in ops of any length, from their definition.

    stft    pad -> frames [B, T, n_fft], each times the window -> a transform of each
    istft   a transform of each frame -> times the window -> added where they overlap
            -> divided by the sum of the squared windows there

Frames are added block by block: one frame is R = ceil(n_fft / hop) blocks of a hop, and block r of
all frames is one signal that is r hops late.

    frame 0   a0 a1 a2             y = a0 . . .    block 0 of all frames
    frame 1      b0 b1 b2              a1 b1 . .   + block 1, one hop later ...
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.nn.functional import pad

from exporter.graph.repairs.frame import NotRepairedError


def stft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Tensor:
    """``torch.stft``: ``input [B, L]`` or ``[L]`` -> ``[B, F, T]``, complex or pairs."""
    if align_to_window:
        raise NotRepairedError("stft(align_to_window=True)", "leave align_to_window out")
    hop = n_fft // 4 if hop_length is None else hop_length
    rows = input if input.dim() == 2 else input.unsqueeze(0)
    if center:
        both = (n_fft // 2, n_fft // 2)
        rows = pad(rows.unsqueeze(1), both, mode=pad_mode).squeeze(1)
    count = (rows.shape[1] - n_fft) // hop + 1
    starts = torch.arange(count, device=input.device) * hop
    places = starts.unsqueeze(1) + torch.arange(n_fft, device=input.device)
    frames = rows.index_select(1, places.reshape(-1)).reshape(rows.shape[0], count, n_fft)
    shaped = _window(window, n_fft, win_length)
    frames = frames if shaped is None else frames * shaped
    norm = "ortho" if normalized else "backward"
    if frames.is_complex() or onesided is False:
        spectrum = torch.fft.fft(frames, dim=-1, norm=norm)
    else:
        spectrum = torch.fft.rfft(frames, dim=-1, norm=norm)
    transformed = spectrum.transpose(1, 2)
    transformed = transformed if input.dim() == 2 else transformed.squeeze(0)
    return torch.view_as_real(transformed) if return_complex is False else transformed


def istft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: Any = None,
    return_complex: bool = False,
) -> Tensor:
    """``torch.istft``: ``input [B, F, T]`` or ``[F, T]``, complex, -> ``[B, L]`` or ``[L]``."""
    hop = n_fft // 4 if hop_length is None else hop_length
    rows = input if input.dim() == 3 else input.unsqueeze(0)
    if onesided is None:
        onesided = rows.shape[1] != n_fft
    norm = "ortho" if normalized else "backward"
    spectra = rows.transpose(1, 2)
    if return_complex:
        frames = torch.fft.ifft(spectra, dim=-1, norm=norm)
    elif onesided:
        frames = torch.fft.irfft(spectra, n=n_fft, dim=-1, norm=norm)
    else:
        half = spectra.narrow(-1, 0, n_fft // 2 + 1)
        frames = torch.fft.irfft(half, n=n_fft, dim=-1, norm=norm)
    shaped = _window(window, n_fft, win_length)
    if shaped is None:
        shaped = torch.ones(n_fft, dtype=input.dtype.to_real(), device=input.device)
    count = frames.shape[1]
    y = _overlapped(frames * shaped, hop)
    weights = _overlapped((shaped * shaped).expand(1, count, n_fft), hop)
    start = n_fft // 2 if center else 0
    total = n_fft + hop * (count - 1)
    if length is None:
        kept = total - start - (n_fft // 2 if center else 0)
        y, weights = y.narrow(1, start, kept), weights.narrow(1, start, kept)
    else:
        missing: Any = start + length - total
        if not statically_known_true(missing <= 0):
            missing = torch.sym_max(missing, 0)
            y, weights = pad(y, (0, missing)), pad(weights, (0, missing), value=1.0)
        y, weights = y.narrow(1, start, length), weights.narrow(1, start, length)
    y = y / weights
    return y if input.dim() == 3 else y.squeeze(0)


def _window(window: Tensor | None, n_fft: int, win_length: int | None) -> Tensor | None:
    """The window in the middle of a frame; None for one of ones that is as long as it."""
    size = n_fft if win_length is None else win_length
    if window is None:
        if size == n_fft:
            return None
        window = torch.ones(size)
    before = (n_fft - size) // 2
    return pad(window, (before, n_fft - size - before)) if size != n_fft else window


def _overlapped(frames: Tensor, hop: int) -> Tensor:
    """Frames ``[B, T, N]``, one every ``hop``, added: ``[B, N + hop (T - 1)]``."""
    rows, count, size = frames.shape
    turns = -(-size // hop)
    if turns * hop != size:
        frames = pad(frames, (0, turns * hop - size))
    blocks = frames.reshape(rows, count, turns, hop)
    added = None
    for late in range(turns):
        block = pad(blocks.select(2, late), (0, 0, late, turns - 1 - late))
        added = block if added is None else added + block
    assert added is not None  # noqa: S101 - a frame has a sample
    flat = added.reshape(rows, (count + turns - 1) * hop)
    return flat.narrow(1, 0, size + hop * (count - 1))
