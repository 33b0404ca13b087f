"""MetaVoice-1B's first stage: text and a speaker to audio tokens, its KV cache in sight.

There is no upstream package, so the architecture is written here; facts and names of parameters
are those of ``fam/llm/fast_model.py`` in https://github.com/metavoiceio/metavoice-src: learned
positions, RMS norms computed in float32, one projection for query, key and value, SwiGLU. At its
published size 24 blocks of 2048, 1,248,438,272 parameters.

Upstream writes into cache buffers, which an export would drop silently. Here the cache comes in
and goes out, so a caller keeps it between calls, and of the length that it needs:

    prefill    tokens [B, 7], start 0, keys and values [L, B, H, S, D] of zeros
    decode     tokens [B, 1], start 7, what the call before returned; then 8, 9, ...

Guidance takes two rows: one with the speaker, one with zeros (the projection has no bias, so
zeros are no speaker at all).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from exporter.config import Pipeline
from exporter.config.section import Section
from exporter.core.tensors import Axis, TensorSpec
from exporter.models.built import Built
from exporter.models.metavoice_checkpoint import read_checkpoint
from exporter.models.settings import MOST_LAYERS, MOST_WIDTH, read_settings
from exporter.models.weights import describe_weights, load_strictly, seed_module, weights_of

SHORTEST_CACHE = 8
EXAMPLE = {"batch": 2, "num_tokens": 6, "cache_length": 24}


class Settings(Section):
    """``model.settings``; the defaults are "metavoice-1B". Names are upstream's."""

    n_layer: int = Field(default=24, ge=1, le=MOST_LAYERS)
    n_head: int = Field(default=16, ge=1, le=MOST_WIDTH)
    dim: int = Field(default=2048, ge=1, le=MOST_WIDTH)
    intermediate_size: int = Field(default=5632, ge=1, le=MOST_WIDTH)
    vocab_size: int = Field(default=2562, ge=2, le=MOST_WIDTH)
    block_size: int = Field(default=2048, ge=SHORTEST_CACHE, le=MOST_WIDTH)
    speaker_emb_dim: int = Field(default=256, ge=1, le=MOST_WIDTH)
    norm_eps: float = Field(default=1e-5, gt=0)
    dtype: Literal["float32", "float16"] = "float32"

    @model_validator(mode="after")
    def _heads_fit(self) -> Settings:
        if self.dim % self.n_head:
            raise ValueError(f"dim {self.dim} is no multiple of n_head {self.n_head}")
        return self

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.dim // self.n_head


class RMSNorm(nn.RMSNorm):
    """Root mean square norm, computed in float32 whatever the stream is in."""

    def forward(self, x: Tensor) -> Tensor:
        """Norm ``x [B, T, C]``."""
        wide = x.float()
        scaled = wide * torch.rsqrt((wide * wide).mean(-1, keepdim=True) + float(self.eps or 0.0))
        return scaled.to(x.dtype) * self.weight


class KVCache(nn.Module):
    """Keys and values of all positions so far, with those of this call put in."""

    def forward(
        self, keys: Tensor, values: Tensor, positions: Tensor, k: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Put ``k`` and ``v`` ``[B, H, T, D]`` at ``positions [T]`` of ``[B, H, S, D]``."""
        return keys.index_copy(2, positions, k), values.index_copy(2, positions, v)


class Attention(nn.Module):
    """Attention over everything that the cache holds up to each token's own position."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.n_head, self.head_dim = settings.n_head, settings.head_dim
        self.wqkv = nn.Linear(settings.dim, 3 * settings.dim, bias=False)
        self.wo = nn.Linear(settings.dim, settings.dim, bias=False)
        self.kv_cache = KVCache()

    def forward(
        self, x: Tensor, mask: Tensor, positions: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attend.

        Args:
            x: ``[B, T, C]``. mask: ``[T, S]`` bool, True where a token may look.
            positions: ``[T]`` int64.
            keys, values: ``[B, H, S, D]``.

        Returns:
            ``[B, T, C]``, and keys and values with this call's.
        """
        rows, steps = x.shape[0], x.shape[1]
        # Not split or chunk: in ONNX those make a sequence, which bfloat16 cannot be in.
        parts = self.wqkv(x).reshape(rows, steps, 3, self.n_head, self.head_dim)
        q, k, v = (parts[:, :, number].transpose(1, 2) for number in range(3))
        keys, values = self.kv_cache(keys, values, positions, k, v)
        y = functional.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        y = y.transpose(1, 2).reshape(rows, steps, self.n_head * self.head_dim)
        return self.wo(y), keys, values


class SwiGLU(nn.Module):
    """``silu(w1 x) * w3 x``."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.w1 = nn.Linear(settings.dim, settings.intermediate_size, bias=False)
        self.w3 = nn.Linear(settings.dim, settings.intermediate_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Widen ``[B, T, C]`` to ``[B, T, intermediate_size]``."""
        return functional.silu(self.w1(x)) * self.w3(x)


class FeedForward(nn.Module):
    """SwiGLU and back to the stream's width."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.swiglu = SwiGLU(settings)
        self.w2 = nn.Linear(settings.intermediate_size, settings.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T, C]`` to the same."""
        return self.w2(self.swiglu(x))


class TransformerBlock(nn.Module):
    """Attention and feed forward, each behind a norm and beside the stream."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.attention = Attention(settings)
        self.feed_forward = FeedForward(settings)
        self.ffn_norm = RMSNorm(settings.dim, settings.norm_eps)
        self.attention_norm = RMSNorm(settings.dim, settings.norm_eps)

    def forward(
        self, x: Tensor, mask: Tensor, positions: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As ``Attention.forward``."""
        attended, keys, values = self.attention(
            self.attention_norm(x), mask, positions, keys, values
        )
        x = x + attended
        return x + self.feed_forward(self.ffn_norm(x)), keys, values


class MetaVoice(nn.Module):
    """The first stage; its parameters have the names of upstream's fast model."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(settings.vocab_size, settings.dim)
        self.pos_embeddings = nn.Embedding(settings.block_size, settings.dim)
        self.speaker_cond_pos = nn.Linear(settings.speaker_emb_dim, settings.dim, bias=False)
        self.layers = nn.ModuleList(TransformerBlock(settings) for _ in range(settings.n_layer))
        self.norm = RMSNorm(settings.dim, settings.norm_eps)
        self.output = nn.Linear(settings.dim, settings.vocab_size, bias=False)

    def forward(
        self, tokens: Tensor, speaker: Tensor, start: Tensor, keys: Tensor, values: Tensor
    ) -> dict[str, Tensor]:
        """Score the next token behind each token.

        Args:
            tokens: ``[B, T]`` int64.
            speaker: ``[B, speaker_emb_dim]``; a row of zeros is no speaker.
            start: ``[]`` int64, position of the first token; ``start + T <= S``.
            keys, values: ``[L, B, H, S, D]``; positions from ``start`` on are not read.

        Returns:
            ``logits`` [B, T, vocab_size], ``next_keys`` and ``next_values`` like keys and values.
        """
        positions = start + torch.arange(tokens.shape[1], device=tokens.device)
        slots = torch.arange(keys.shape[3], device=tokens.device)
        mask = slots.unsqueeze(0) <= positions.unsqueeze(1)
        x = self.tok_embeddings(tokens) + self.pos_embeddings(positions)
        x = x + self.speaker_cond_pos(speaker).unsqueeze(1)
        new_keys, new_values = [], []
        for number, layer in enumerate(self.layers):
            x, k, v = layer(x, mask, positions, keys[number], values[number])
            new_keys.append(k)
            new_values.append(v)
        return {
            "logits": self.output(self.norm(x)),
            "next_keys": torch.stack(new_keys),
            "next_values": torch.stack(new_values),
        }


def build(pipeline: Pipeline) -> Built:
    """Build the first stage as a pipeline describes it.

    Raises:
        ConfigError: a setting is wrong, or contradicts the checkpoint.
        WeightsError: the checkpoint is missing or does not fit.
    """
    settings = read_settings(Settings, pipeline)
    source = weights_of(pipeline, files=True)
    module = on_meta(settings)
    if source.folder is None:
        seed_module(module, pipeline.model.seed)
    else:
        state = read_checkpoint(source.folder, settings, pipeline)
        load_strictly(module, state, where=str(source.folder))
    module.eval().requires_grad_(False)
    return Built(
        module=module,
        takes="tensors",
        inputs=input_specs(settings),
        outputs=output_specs(settings),
        weights=describe_weights(module, source),
        example=_example(settings),
        states={"next_keys": "keys", "next_values": "values"},
    )


def on_meta(settings: Settings) -> MetaVoice:
    """The module without memory: shapes and dtypes only."""
    with torch.device("meta"):
        return MetaVoice(settings).to(getattr(torch, settings.dtype))


def input_specs(settings: Settings) -> tuple[TensorSpec, ...]:
    """Specs of the inputs, in call order."""
    batch, tokens = Axis(name="batch"), Axis(name="num_tokens")
    cache = Axis(name="cache_length", minimum=SHORTEST_CACHE)
    shape = (settings.n_layer, batch, settings.n_head, cache, settings.head_dim)
    ids = f"token id below {settings.vocab_size}"
    nobody = "speaker embedding; zeros for no speaker"
    return (
        TensorSpec.of("tokens", "int64", batch, tokens, unit=ids, below=settings.vocab_size),
        TensorSpec.of("speaker", settings.dtype, batch, settings.speaker_emb_dim, unit=nobody),
        TensorSpec.of("start", "int64", unit="tokens before this call", below=settings.block_size),
        *(
            TensorSpec.of(name, settings.dtype, *shape, initial=0.0, unit="one slot per position")
            for name in ("keys", "values")
        ),
    )


def output_specs(settings: Settings) -> tuple[TensorSpec, ...]:
    """Specs of the results."""
    tokens, _, _, *kept = input_specs(settings)
    return (
        TensorSpec.of("logits", settings.dtype, *tokens.axes, settings.vocab_size),
        *(replace(spec, name=f"next_{spec.name}", unit="", initial=None) for spec in kept),
    )


def _example(settings: Settings) -> dict[str, Tensor]:
    # Caches that are not zero: a tracer that fed one input for the other would be seen.
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for spec in input_specs(settings):
        shape = [EXAMPLE[size] if isinstance(size, str) else size for size in spec.shape]
        if spec.name == "start":
            tensors[spec.name] = torch.tensor(3)
        elif spec.dtype == "int64":
            tensors[spec.name] = torch.randint(settings.vocab_size, shape, generator=generator)
        else:
            drawn = torch.randn(shape, generator=generator)
            tensors[spec.name] = drawn.to(getattr(torch, spec.dtype))
    return tensors
