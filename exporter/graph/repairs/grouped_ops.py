"""Products of groups of rows with a matrix each (experts), as an op that a program and ONNX have.

    grouped_product(x [S, K], weights [E, K, N], ends [E]) -> y [S, N]

Rows up to ``ends[0]`` are multiplied by ``weights[0]``, those behind, up to ``ends[1]``, by the
next one, and so on; rows behind the last end are zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from exporter.graph.repairs.sequence_ops import NAMESPACE

GROUPED = f"{NAMESPACE}.grouped_product.default"


@torch.library.custom_op(f"{NAMESPACE}::grouped_product", mutates_args=())
def grouped_product(x: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """See this module."""
    parts, begin = [], 0
    for weight, end in zip(weights.unbind(0), ends.tolist(), strict=True):
        parts.append(x[begin:end] @ weight)
        begin = max(begin, end)
    parts.append(x.new_zeros(x.shape[0] - begin, weights.shape[2]))
    return torch.cat(parts)


@grouped_product.register_fake
def _(x, weights, ends):  # noqa: ANN001, ANN202
    return x.new_empty((x.shape[0], weights.shape[2]))
