"""How much of a backend's error float32 itself explains, and how much is coarser arithmetic.

``measure_noise`` asks how far a float32 run is from float64. On a backend that rounds operands to
TF32 that is a thousand times more than float32 has to cost, and it would excuse the very
differences that the backend makes. What float32 has to cost is modelled here: the float64 run
again, with the result of every op rounded to float32 (or to the format that the whole module is
in). Measured over modelled, on a CPU:

    float32    mimi_decoder_tiny 7, logits of sensevoice_batch_tiny 5, Silero's probabilities 38
    TF32       mimi_decoder_tiny with operands rounded from 64 steps on: 6,200
"""

from __future__ import annotations

from dataclasses import replace

import torch

from exporter.contracts.compare.noise import Noise, noise_inputs
from exporter.contracts.target import Target

EXPLAINED = 256.0
"""Times the modelled cost that orders of addition and approximations of functions explain."""


def without_coarse_arithmetic(target: Target, noise: Noise) -> Noise:
    """The same noise with the share of every output capped at what float32 explains.

    Unchanged where the module does not run in float64, so that nothing was measured either.
    """
    if not noise.shares:
        return noise
    inputs = noise_inputs(target)
    truth = target.double(inputs)
    rounded = target.double(inputs, rounded=getattr(torch, noise.number_format))
    shares = dict(noise.shares)
    for name, exact in truth.items():
        scale = float(exact.abs().max()) if exact.is_floating_point() and exact.numel() else 0.0
        if name in shares and 0.0 < scale < float("inf"):
            gap = float((rounded[name] - exact).abs().max())
            shares[name] = min(shares[name], EXPLAINED * gap / scale)
    why = f"{noise.why}, capped at what {noise.number_format} explains"
    return replace(noise, shares=shares, why=why)
