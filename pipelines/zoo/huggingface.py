"""Models of transformers, tiny, with random weights: as they are, and as people wrap them."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, EncoderDecoderCache


def build(model: str, config: dict[str, Any]) -> nn.Module:
    """A class of transformers itself.

    Args:
        model: its name. config: ``class`` names the configuration; the rest are its fields.
    """
    fields = dict(config)
    kind = getattr(transformers, fields.pop("class"))
    made = kind(**fields)
    made._attn_implementation = "sdpa" if fields.get("attn") is None else fields["attn"]
    try:
        return getattr(transformers, model)(made)
    except (ValueError, NotImplementedError):
        made._attn_implementation = "eager"
        return getattr(transformers, model)(made)


class Called(nn.Module):
    """Any class, of which one method is called, with some arguments fixed."""

    def __init__(
        self,
        model: str,
        config: dict[str, Any],
        method: str = "forward",
        fixed: dict[str, Any] | None = None,
        first: str = "",
    ):
        super().__init__()
        self.inner = build(model, config)
        for part in filter(None, first.split(".")):
            self.inner = getattr(self.inner, part)
        self.method = method
        self.fixed = fixed or {}

    def forward(self, x: Tensor) -> Any:
        """The method of one tensor."""
        return getattr(self.inner, self.method)(x, **self.fixed)


class WithMask(Called):
    """Of a tensor and which of it is there."""

    def forward(self, x: Tensor, mask: Tensor) -> Any:  # type: ignore[override]
        """The method of a tensor and its mask."""
        return getattr(self.inner, self.method)(x, attention_mask=mask, **self.fixed)


class CachedStep(nn.Module):
    """One step of a decoder of tokens: what it keeps comes in and goes out as plain tensors."""

    def __init__(self, model: str, config: dict[str, Any], layers: int):
        super().__init__()
        self.inner = build(model, config)
        self.layers = layers

    def forward(self, tokens: Tensor, caches: list[Tensor]) -> dict[str, Any]:
        """Tokens ``[B, T]``; keys and values ``[B, H, past, D]``, a pair for each layer."""
        cache = DynamicCache()
        for layer in range(self.layers):
            cache.update(caches[2 * layer], caches[2 * layer + 1], layer)
        found = self.inner(input_ids=tokens, past_key_values=cache, use_cache=True)
        kept = found.past_key_values
        flat = [each for layer in kept.layers for each in (layer.keys, layer.values)]
        return {"logits": found.logits, "next": flat}


class WhisperStep(nn.Module):
    """One step of Whisper's decoder with the caches of both attentions."""

    def __init__(self, config: dict[str, Any], layers: int):
        super().__init__()
        whole = build("WhisperForConditionalGeneration", config)
        self.decoder, self.head = whole.model.decoder, whole.proj_out
        self.layers = layers

    def forward(self, tokens: Tensor, encoded: Tensor, caches: list[Tensor]) -> dict[str, Any]:
        """Tokens ``[B, T]``, encoder's output ``[B, S, D]``, keys and values of each layer."""
        own, cross = DynamicCache(), DynamicCache()
        for layer in range(self.layers):
            own.update(caches[2 * layer], caches[2 * layer + 1], layer)
        cache = EncoderDecoderCache(own, cross)
        found = self.decoder(
            input_ids=tokens, encoder_hidden_states=encoded, past_key_values=cache, use_cache=True
        )
        kept = found.past_key_values.self_attention_cache
        flat = [each for layer in kept.layers for each in (layer.keys, layer.values)]
        return {"logits": self.head(found.last_hidden_state), "next": flat}


class Both(nn.Module):
    """An encoder and decoder in one call, without what it keeps for a next one."""

    def __init__(self, model: str, config: dict[str, Any], output: str = "logits", **fixed: Any):
        super().__init__()
        self.inner = build(model, config)
        self.output, self.fixed = output, fixed

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """What goes into the encoder, and tokens ``[B, T]`` for the decoder."""
        name = self.inner.main_input_name
        found = self.inner(**{name: x}, decoder_input_ids=tokens, use_cache=False, **self.fixed)
        return found[self.output]


class Codes(nn.Module):
    """The codes of a codec, or the sound of codes."""

    def __init__(self, model: str, config: dict[str, Any], way: str):
        super().__init__()
        self.inner = build(model, config)
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        """Sound ``[B, 1, samples]`` for "encode", codes ``[B, Q, frames]`` for "decode"."""
        if self.way == "decode":
            found = (
                self.inner.decode(x)
                if self.inner.config.model_type != "dac"
                else (self.inner.decode(audio_codes=x))
            )
            return found.audio_values if hasattr(found, "audio_values") else found[0]
        return self.inner.encode(x).audio_codes


class Vocoder(nn.Module):
    """A model of which one result counts."""

    def __init__(self, model: str, config: dict[str, Any], result: str, **fixed: Any):
        super().__init__()
        self.inner = build(model, config)
        self.result, self.fixed = result, fixed

    def forward(self, x: Tensor) -> Tensor:
        """Whatever its main input is."""
        return self.inner(x, **self.fixed)[self.result]


class Embedded(nn.Module):
    """One of the methods that give the embedding of one modality."""

    def __init__(self, model: str, config: dict[str, Any], method: str):
        super().__init__()
        self.inner = build(model, config)
        self.method = method

    def forward(self, x: Tensor) -> Tensor:
        """Features or tokens."""
        found = getattr(self.inner, self.method)(x)
        return found if isinstance(found, torch.Tensor) else found.pooler_output
