"""``atan2`` of a file is PyTorch's, on the axes too."""

from __future__ import annotations

import math

import numpy as np
import torch

from exporter.graph.strategies import capture_openly
from tests.graph.repairs.models import file_of, model

NUMBERS = (0.0, -0.0, 1.0, -1.0, 1e-30, -1e-30, 3.5, -2.25, math.inf, -math.inf, math.nan)


def test_every_pair_of_signs_zeros_and_large_numbers(tmp_path):
    forward = "return torch.atan2(x[..., 0], x[..., 1]) + 0 * x_lengths.sum()"
    wrapped = model(tmp_path, forward, name="angles")
    session = file_of(wrapped, capture_openly(wrapped), tmp_path)
    pairs = [(y, x) for y in NUMBERS for x in NUMBERS if not math.isinf(y) or not math.isinf(x)]
    x = np.zeros((1, len(pairs), 4), np.float32)
    x[0, :, :2] = pairs
    values = {"x": x, "x_lengths": np.array([len(pairs)])}
    want = wrapped.module(*map(torch.from_numpy, values.values()))[0].numpy()
    (y,) = session.run(None, values)
    np.testing.assert_allclose(y, want, rtol=1e-6, atol=1e-7)
