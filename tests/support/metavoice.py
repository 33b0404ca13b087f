"""MetaVoice the ways that broke: caches in buffers; weights, cache and speaker of three minds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from exporter.models.metavoice import MetaVoice, Settings, on_meta
from exporter.models.weights import seed_module

TINY: dict[str, Any] = {
    "n_layer": 2,
    "n_head": 4,
    "dim": 128,
    "intermediate_size": 352,
    "vocab_size": 300,
    "block_size": 64,
    "speaker_emb_dim": 256,
}


def tiny(**changes: Any) -> MetaVoice:
    """A small first stage with seeded weights, in eval mode."""
    module = on_meta(Settings.model_validate({**TINY, **changes}))
    seed_module(module, 0)
    return module.eval().requires_grad_(False)


class CacheInBuffers(nn.Module):
    """The cache as upstream keeps it: buffers that every call writes into.

    Args:
        rows: of the batch. length: slots. dtype: of the buffers.
    """

    def __init__(
        self, settings: Settings, rows: int, length: int, dtype: torch.dtype, device: str
    ) -> None:
        super().__init__()
        shape = (rows, settings.n_head, length, settings.head_dim)
        for name in ("k_cache", "v_cache"):
            self.register_buffer(name, torch.zeros(shape, dtype=dtype, device=device))
        self.k_cache: Tensor
        self.v_cache: Tensor

    def forward(
        self, keys: Tensor, values: Tensor, positions: Tensor, k: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Write into the buffers; what is handed in is not looked at."""
        self.k_cache[:, :, positions] = k
        self.v_cache[:, :, positions] = v
        return self.k_cache, self.v_cache


class WithBuffers(nn.Module):
    """A first stage whose caches are buffers; called with tokens, speaker and start only."""

    def __init__(
        self,
        module: MetaVoice,
        settings: Settings,
        *,
        rows: int = 2,
        length: int = 32,
        cache: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.model = module
        for layer in module.layers:
            layer.attention.kv_cache = CacheInBuffers(settings, rows, length, cache, device)

    def forward(self, tokens: Tensor, speaker: Tensor, start: Tensor) -> Tensor:
        """Logits ``[B, T, vocab_size]``."""
        caches = [layer.attention.kv_cache for layer in self.model.layers]
        keys = torch.stack([cache.k_cache for cache in caches])
        values = torch.stack([cache.v_cache for cache in caches])
        return self.model(tokens, speaker, start, keys, values)["logits"]


def three_minds(settings: Settings) -> tuple[WithBuffers, tuple[Tensor, Tensor, Tensor]]:
    """Weights in bfloat16, cache and speaker in float16, on the meta device, and a prompt."""
    module = on_meta(settings).to(torch.bfloat16)
    broken = WithBuffers(module, settings, cache=torch.float16, device="meta")
    prompt = (
        torch.zeros(2, 7, dtype=torch.int64, device="meta"),
        torch.zeros(2, settings.speaker_emb_dim, dtype=torch.float16, device="meta"),
        torch.zeros((), dtype=torch.int64, device="meta"),
    )
    return broken.eval().requires_grad_(False), prompt


def published_names(module: MetaVoice) -> dict[str, Tensor]:
    """The state dict of a first stage by the names that training saves."""
    renames = {
        "tok_embeddings.weight": "transformer.wtes.0.weight",
        "pos_embeddings.weight": "transformer.wpe.weight",
        "norm.weight": "transformer.ln_f.weight",
        "output.weight": "lm_heads.0.weight",
    }
    parts = {
        "layers.": "transformer.h.",
        ".attention.wqkv.": ".attn.c_attn.",
        ".attention.wo.": ".attn.c_proj.",
        ".feed_forward.swiglu.": ".mlp.swiglu.",
        ".feed_forward.w2.": ".mlp.c_proj.",
        ".attention_norm.": ".ln_1.",
        ".ffn_norm.": ".ln_2.",
    }
    state = {}
    for name, tensor in module.state_dict().items():
        if name in renames:
            name = renames[name]
        else:
            for ours, theirs in parts.items():
                name = name.replace(ours, theirs)
        state[name] = tensor
    return state


def write_checkpoint(
    file: Path,
    module: MetaVoice,
    settings: Settings,
    *,
    prefix: str = "",
    model_args: dict[str, Any] | None = None,
) -> Path:
    """Write ``first_stage.pt`` as MetaVoice's training saves it, optimizer and all."""
    state = {f"{prefix}{name}": tensor for name, tensor in published_names(module).items()}
    args = {
        "n_layer": settings.n_layer,
        "n_head": settings.n_head,
        "n_embd": settings.dim,
        "block_size": settings.block_size,
        "bias": False,
        "vocab_sizes": [settings.vocab_size],
        "dropout": 0.0,
        "causal": True,
        "norm_type": "rmsnorm",
        "rmsnorm_eps": settings.norm_eps,
        "nonlinearity_type": "swiglu",
        "spk_emb_on_text": True,
        "attn_kernel_type": "torch_attn",
        "swiglu_multiple_of": 256,
    }
    content = {
        "model": state,
        "optimizer": {"state": {0: {"step": torch.tensor(5.0)}}, "param_groups": [{"lr": 1e-4}]},
        "model_args": {**args, **(model_args or {})},
        "iter_num": 5,
        "best_val_loss": torch.tensor(2.5),
        "config": {"dtype": "bfloat16", "batch_size": 2, "out_dir": "finetune"},
        "meta": {
            "speaker_cond": True,
            "speaker_emb_size": settings.speaker_emb_dim,
            "tokenizer": {"name": "bpe", "pat_str": "a|b", "mergeable_ranks": {b"a": 0, b"b": 1}},
        },
    }
    torch.save(content, file)
    return file
