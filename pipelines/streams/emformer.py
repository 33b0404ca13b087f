"""torchaudio's Emformer, the whole at once and a segment at a time with its states in lists."""

from __future__ import annotations

from torch import Tensor, nn
from torchaudio.models import Emformer as _Emformer


class Emformer(nn.Module):
    """Args: layers, segment, right and left: of the Emformer, in frames."""

    def __init__(self, layers: int = 2, segment: int = 4, right: int = 2, left: int = 6):
        super().__init__()
        self.inner = _Emformer(
            input_dim=12,
            num_heads=2,
            ffn_dim=24,
            num_layers=layers,
            segment_length=segment,
            right_context_length=right,
            left_context_length=left,
        )

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """``[B, T + right, 12]`` to ``[B, T, 12]``; T is a number of segments."""
        return self.inner(features, lengths)[0]

    def infer(
        self, features: Tensor, lengths: Tensor, states: list[list[Tensor]]
    ) -> tuple[Tensor, list[list[Tensor]]]:
        """``[B, segment + right, 12]``; per layer keys and values ``[left, B, 12]`` and how much of
        them was ever filled ``[1, B]``. Its memory is empty and is no state."""
        empty = features.new_zeros(0, features.shape[0], 12)
        held = [[empty, *layer] for layer in states]
        found, _, following = self.inner.infer(features, lengths, held)
        return found, [layer[1:] for layer in following]
