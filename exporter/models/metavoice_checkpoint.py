"""MetaVoice's ``first_stage.pt``: names of training or of fast inference to those used here.

model         transformer.h.0.attn.c_attn.weight ...; "_orig_mod." in front when compiled
model_args    n_layer, n_head, n_embd, block_size, vocab_sizes, bias, norm_type, ...
optimizer, iter_num, best_val_loss, config, meta (tokenizer)      are left alone
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from exporter.config import Pipeline
from exporter.config.section import Section
from exporter.core.errors import WeightsError
from exporter.models.stated import refuse_other, same_setting
from exporter.models.weights import read_pt

FILE = "first_stage.pt"
_COMPILED = "_orig_mod."
_WHOLE = {
    "transformer.wtes.0.weight": "tok_embeddings.weight",
    "transformer.wpe.weight": "pos_embeddings.weight",
    "transformer.ln_f.weight": "norm.weight",
    "lm_heads.0.weight": "output.weight",
}
_PARTS = {
    "transformer.h.": "layers.",
    ".attn.c_attn.": ".attention.wqkv.",
    ".attn.c_proj.": ".attention.wo.",
    ".mlp.swiglu.": ".feed_forward.swiglu.",
    ".mlp.c_proj.": ".feed_forward.w2.",
    ".ln_1.": ".attention_norm.",
    ".ln_2.": ".ffn_norm.",
}
# Keys of model_args, and the settings that must say the same.
_SIZES = {
    "n_layer": "n_layer",
    "n_head": "n_head",
    "n_embd": "dim",
    "block_size": "block_size",
    "rmsnorm_eps": "norm_eps",
}
_FIXED = {
    "bias": False,
    "causal": True,
    "norm_type": "rmsnorm",
    "nonlinearity_type": "swiglu",
    "spk_emb_on_text": True,
}


def read_checkpoint(path: Path, settings: Section, pipeline: Pipeline) -> dict[str, Tensor]:
    """Read the tensors of a first stage by the names of ``MetaVoice``.

    Args:
        path: the file, or the folder that holds ``first_stage.pt``.
        settings: compared with what the checkpoint states.
        pipeline: for the place in messages.

    Raises:
        WeightsError: the file is missing, unreadable or of another model.
        ConfigError: the pipeline sets something else than the checkpoint states.
    """
    file = path if path.is_file() else path / FILE
    content = read_pt(file)
    state = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(
            "there are no weights below 'model' in it",
            where=str(file),
            remedy=f"give the {FILE} that MetaVoice publishes",
        )
    _compare(content.get("model_args"), settings, file, pipeline)
    return {renamed(str(name)): tensor for name, tensor in state.items()}


def renamed(name: str) -> str:
    """The name here of a tensor in a checkpoint; names of fast inference stay as they are."""
    name = name.removeprefix(_COMPILED)
    if name in _WHOLE:
        return _WHOLE[name]
    for theirs, ours in _PARTS.items():
        name = name.replace(theirs, ours)
    return name


def _compare(stated: Any, settings: Section, file: Path, pipeline: Pipeline) -> None:
    """Compare ``model_args`` with the settings; a checkpoint without it is judged by shapes."""
    if not isinstance(stated, Mapping):
        return
    refuse_other(stated, _FIXED, file)
    vocabulary = stated.get("vocab_sizes")
    sizes = {ours: stated[theirs] for theirs, ours in _SIZES.items() if theirs in stated}
    if isinstance(vocabulary, list | tuple):
        if len(vocabulary) != 1:
            raise WeightsError(
                f"it has {len(vocabulary)} vocabularies, a first stage has one", where=str(file)
            )
        sizes["vocab_size"] = vocabulary[0]
    for key, value in sizes.items():
        same_setting(pipeline, key, getattr(settings, key), value)
