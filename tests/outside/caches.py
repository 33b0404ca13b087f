"""Decoders of transformers, tiny, that take and return its caches as they are."""

import torch
import transformers
from torch import nn
from transformers.cache_utils import DynamicCache


def llama() -> nn.Module:
    """The class itself: its cache has no annotation but ``Cache``."""
    config = transformers.LlamaConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=48,
        vocab_size=50,
        max_position_embeddings=128,
    )
    return transformers.LlamaForCausalLM(config)


class Step(nn.Module):
    """A user's own step around it: the cache goes in and comes out whole."""

    def __init__(self):
        super().__init__()
        self.net = llama()

    def forward(self, tokens: torch.Tensor, cache: DynamicCache):
        found = self.net(input_ids=tokens, past_key_values=cache, use_cache=True)
        return found.logits, found.past_key_values


class StaticStep(nn.Module):
    """A cache of a fixed size is written in place; its inputs stay their caller's."""

    def __init__(self):
        super().__init__()
        self.net = llama()

    def forward(self, tokens, cache):
        found = self.net(input_ids=tokens, past_key_values=cache, use_cache=True)
        return found.logits, found.past_key_values


def whisper() -> nn.Module:
    """Whisper's decoder: what it knows of the encoder is in the other half of its cache."""
    config = transformers.WhisperConfig(
        vocab_size=60,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=40,
        decoder_ffn_dim=40,
        max_source_positions=12,
        max_target_positions=40,
        num_mel_bins=20,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    return transformers.WhisperModel(config).decoder
