"""Parts of moshi (Mimi and its transformers), tiny, with random weights."""

from __future__ import annotations

from moshi.modules.seanet import SEANetDecoder, SEANetEncoder
from moshi.modules.transformer import StreamingTransformer
from moshi.quantization import SplitResidualVectorQuantizer
from torch import Tensor, nn

_SEANET = {
    "channels": 1, "dimension": 16, "n_filters": 4, "n_residual_layers": 1, "ratios": [4, 2],
    "causal": True, "pad_mode": "constant", "compress": 2, "norm": "none",
}  # fmt: skip


def SeanetEncoder() -> nn.Module:  # noqa: N802
    """Sound to frames."""
    return SEANetEncoder(**_SEANET)


def SeanetDecoder() -> nn.Module:  # noqa: N802
    """Frames to sound."""
    return SEANetDecoder(**_SEANET)


def Transformer() -> nn.Module:  # noqa: N802
    """The transformer of Mimi: causal, a limited context, rotary positions."""
    return StreamingTransformer(
        d_model=32, num_heads=4, num_layers=2, dim_feedforward=48, causal=True, context=10,
        positional_embedding="rope",
    )  # fmt: skip


def _quantizer() -> nn.Module:
    return SplitResidualVectorQuantizer(
        n_q=4, dimension=8, input_dimension=16, output_dimension=16, bins=16
    )


class QuantizerDecode(nn.Module):
    """Codes to frames."""

    def __init__(self):
        super().__init__()
        self.inner = _quantizer()

    def forward(self, codes: Tensor) -> Tensor:
        """Codes ``[B, Q, T]``."""
        return self.inner.decode(codes)


class QuantizerEncode(nn.Module):
    """Frames to codes."""

    def __init__(self):
        super().__init__()
        self.inner = _quantizer()

    def forward(self, x: Tensor) -> Tensor:
        """Frames ``[B, 16, T]``."""
        return self.inner.encode(x)
