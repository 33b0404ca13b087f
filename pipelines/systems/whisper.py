"""Whisper of transformers in the two parts that are deployed: encoder, decoder step with cache."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import WhisperConfig, WhisperForConditionalGeneration
from transformers.cache_utils import DynamicCache, EncoderDecoderCache


def whole(config: dict[str, Any]) -> WhisperForConditionalGeneration:
    """The model of both parts; with one seed both are of the same weights."""
    return WhisperForConditionalGeneration(WhisperConfig(**config)).eval()


class Encoder(nn.Module):
    """Log mel features to what the decoder attends to."""

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        self.encoder = whole(config).model.encoder

    def forward(self, input_features: Tensor) -> Tensor:
        """Features ``[B, mels, frames]`` to ``[B, S, D]``."""
        return self.encoder(input_features).last_hidden_state


class DecoderStep(nn.Module):
    """Tokens to scores; keys and values of earlier tokens come in and go out."""

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        model = whole(config)
        self.decoder, self.head = model.model.decoder, model.proj_out
        self.layers = model.config.decoder_layers

    def forward(self, input_ids: Tensor, encoded: Tensor, cache: list[Tensor]) -> dict[str, Any]:
        """Tokens ``[B, T]``, encoder's output ``[B, S, D]``, keys and values of every layer."""
        own = DynamicCache()
        for layer in range(self.layers):
            own.update(cache[2 * layer], cache[2 * layer + 1], layer)
        held = EncoderDecoderCache(own, DynamicCache())
        found = self.decoder(
            input_ids=input_ids, encoder_hidden_states=encoded, past_key_values=held, use_cache=True
        )
        kept = found.past_key_values.self_attention_cache
        flat = [each for layer in kept.layers for each in (layer.keys, layer.values)]
        return {"logits": self.head(found.last_hidden_state), "next_cache": flat}
