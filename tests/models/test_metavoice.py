"""MetaVoice's first stage: its size, its cache, its checkpoint, the mix of dtypes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu

from exporter.cases.load import load_cases
from exporter.config import load_pipeline
from exporter.contracts import run_contracts
from exporter.contracts.causality.streaming import Streaming, check_streaming
from exporter.contracts.dtype.audit import DtypeAudit, Event
from exporter.contracts.locate.recorder import ModuleStack
from exporter.contracts.make_target import target_from_wrapped
from exporter.contracts.result import TORCH
from exporter.core.errors import ConfigError, WeightsError
from exporter.core.tensors import Axis, TensorSpec
from exporter.graph.wrap import wrap
from exporter.models.metavoice import MetaVoice, Settings, build, on_meta
from exporter.parity.status import Status
from tests.support.metavoice import (
    TINY,
    WithBuffers,
    published_names,
    three_minds,
    tiny,
    write_checkpoint,
)
from tests.support.target_from_module import target_from_module

ROOT = Path(__file__).parents[2]
SETTINGS = Settings.model_validate(TINY)


def pipeline(weights: str = "seeded", **settings: Any) -> Any:
    return SimpleNamespace(
        model=SimpleNamespace(
            kind="metavoice", weights=weights, seed=0, settings={**TINY, **settings}
        ),
        where=lambda *keys: "mine.yaml:1: " + ".".join(map(str, keys)),
    )


def caches(rows: int, length: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    shape = (SETTINGS.n_layer, rows, SETTINGS.n_head, length, SETTINGS.head_dim)
    return torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype)


def prompt(steps: int = 15) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(SETTINGS.vocab_size, (2, steps), generator=generator)
    return tokens, torch.randn(2, SETTINGS.speaker_emb_dim, generator=generator)


# -- the network -----------------------------------------------------------------------------------


def test_the_published_size_has_1248_million_parameters_under_the_published_names():
    module = on_meta(Settings())
    assert sum(parameter.numel() for parameter in module.parameters()) == 1_248_438_272
    assert all(parameter.is_meta for parameter in module.parameters())
    shapes = {name: list(tensor.shape) for name, tensor in published_names(module).items()}
    assert len(shapes) == 24 * 7 + 5
    assert shapes["transformer.wtes.0.weight"] == [2562, 2048]
    assert shapes["transformer.wpe.weight"] == [2048, 2048]
    assert shapes["transformer.h.23.attn.c_attn.weight"] == [6144, 2048]
    assert shapes["transformer.h.0.mlp.swiglu.w3.weight"] == [5632, 2048]
    assert shapes["speaker_cond_pos.weight"] == [2048, 256]
    assert shapes["lm_heads.0.weight"] == [2562, 2048]


def plain_attention(module: MetaVoice, tokens: Tensor, speaker: Tensor) -> Tensor:
    """The whole sequence at once, written from the formulas, without cache, in float64."""
    state = {name: tensor.double() for name, tensor in module.state_dict().items()}

    def norm(x: Tensor, name: str) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * state[name]

    x = state["tok_embeddings.weight"][tokens]
    x = x + state["pos_embeddings.weight"][: tokens.shape[1]]
    x = x + (speaker.double() @ state["speaker_cond_pos.weight"].T)[:, None]
    future = torch.ones(tokens.shape[1], tokens.shape[1]).triu(1).bool()
    for number in range(SETTINGS.n_layer):
        path = f"layers.{number}"
        y = norm(x, f"{path}.attention_norm.weight") @ state[f"{path}.attention.wqkv.weight"].T
        q, k, v = y.split(SETTINGS.dim, dim=-1)
        heads = []
        for head in range(SETTINGS.n_head):
            part = slice(head * SETTINGS.head_dim, (head + 1) * SETTINGS.head_dim)
            scores = q[..., part] @ k[..., part].transpose(1, 2) / SETTINGS.head_dim**0.5
            weights = scores.masked_fill(future, -torch.inf).softmax(-1)
            heads.append(weights @ v[..., part])
        x = x + torch.cat(heads, -1) @ state[f"{path}.attention.wo.weight"].T
        y = norm(x, f"{path}.ffn_norm.weight")
        gate = silu(y @ state[f"{path}.feed_forward.swiglu.w1.weight"].T)
        wide = gate * (y @ state[f"{path}.feed_forward.swiglu.w3.weight"].T)
        x = x + wide @ state[f"{path}.feed_forward.w2.weight"].T
    return norm(x, "norm.weight") @ state["output.weight"].T


def decoded(module: MetaVoice, first: int = 7) -> Tensor:
    """Logits of a prompt of ``first`` tokens and of every token after it, call by call."""
    tokens, speaker = prompt()
    dtype = module.output.weight.dtype
    keys, values = caches(2, 24, dtype)
    found, start = [], 0
    for stop in range(first, tokens.shape[1] + 1):
        out = module(tokens[:, start:stop], speaker.to(dtype), torch.tensor(start), keys, values)
        keys, values = out["next_keys"], out["next_values"]
        found.append(out["logits"])
        start = stop
    return torch.cat(found, dim=1)


@pytest.mark.parametrize("first", [1, 7, 15])
def test_prefill_and_decode_are_the_whole_sequence(first):
    module = tiny()
    truth = plain_attention(module, *prompt())
    assert float((decoded(module, first) - truth).abs().max()) < 5e-6
    assert float(truth.abs().max()) > 1


def test_prefill_and_decode_in_float16():
    module = tiny(dtype="float16")
    truth = plain_attention(module, *prompt())
    assert float((decoded(module) - truth).abs().max()) < 0.02


def test_a_cache_keeps_what_other_positions_hold():
    module = tiny()
    tokens, speaker = prompt(2)
    keys, values = (torch.randn_like(cache) for cache in caches(2, 16))
    before = keys.clone()
    out = module(tokens, speaker, torch.tensor(5), keys, values)
    changed = (out["next_keys"] != before).any(-1).all(0).all(0).all(0).nonzero().flatten()
    assert changed.tolist() == [5, 6]
    assert torch.equal(keys, before)


def test_slots_behind_a_token_do_not_reach_it():
    module = tiny()
    tokens, speaker = prompt(2)
    keys, values = (torch.randn_like(cache) for cache in caches(2, 16))
    first = module(tokens, speaker, torch.tensor(5), keys, values)["logits"]
    keys[..., 7:, :], values[..., 7:, :] = 1e4, 1e4
    again = module(tokens, speaker, torch.tensor(5), keys, values)["logits"]
    assert torch.equal(first, again)


def test_a_speaker_of_zeros_is_no_speaker():
    module = tiny()
    tokens, speaker = prompt(3)
    start, (keys, values) = torch.tensor(0), caches(2, 8)
    without = module(tokens, torch.zeros_like(speaker), start, keys, values)["logits"]
    module.speaker_cond_pos.weight.zero_()
    assert torch.equal(without, module(tokens, speaker, start, keys, values)["logits"])


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ConfigError, match="dim 128 is no multiple of n_head 3"):
        build(pipeline(n_head=3))


# -- the checkpoint --------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
@pytest.mark.parametrize("whole_folder", [True, False])
def test_a_published_checkpoint_is_loaded(tmp_path: Path, prefix: str, whole_folder: bool):
    module = on_meta(SETTINGS)
    module.to_empty(device="cpu")
    for number, parameter in enumerate(module.parameters()):
        parameter.data.fill_(float(number + 1))
    file = write_checkpoint(tmp_path / "first_stage.pt", module, SETTINGS, prefix=prefix)
    built = build(pipeline(str(tmp_path if whole_folder else file)))
    for (name, ours), theirs in zip(
        built.module.state_dict().items(), module.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    assert not built.weights.seeded and built.weights.source.startswith(str(tmp_path))


def test_a_checkpoint_in_bfloat16_becomes_float16_where_that_is_asked_for(tmp_path: Path):
    module = tiny().to(torch.bfloat16)
    file = write_checkpoint(tmp_path / "first_stage.pt", module, SETTINGS)
    built = build(pipeline(str(file), dtype="float16"))
    assert {tensor.dtype for tensor in built.module.state_dict().values()} == {torch.float16}
    assert torch.equal(built.module.output.weight, module.output.weight.to(torch.float16))


def test_names_of_fast_inference_are_taken_too(tmp_path: Path):
    module = tiny()
    torch.save({"model": module.state_dict()}, tmp_path / "first_stage.pt")
    built = build(pipeline(str(tmp_path)))
    assert torch.equal(built.module.output.weight, module.output.weight)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"n_layer": 3}, ConfigError, "n_layer is 2, but the checkpoint says 3"),
        ({"vocab_sizes": [301]}, ConfigError, "vocab_size is 300, but the checkpoint says 301"),
        ({"norm_type": "layernorm"}, WeightsError, "norm_type is 'layernorm'"),
        ({"vocab_sizes": [300, 1025]}, WeightsError, "2 vocabularies"),
    ],
)
def test_another_model_is_refused(tmp_path: Path, changes: dict, error: type, said: str):
    file = write_checkpoint(tmp_path / "first_stage.pt", tiny(), SETTINGS, model_args=changes)
    with pytest.raises(error, match=said):
        build(pipeline(str(file)))


def test_tensors_that_are_missing_or_of_another_shape_are_named(tmp_path: Path):
    state = published_names(tiny())
    del state["transformer.h.1.ln_2.weight"]
    state["transformer.wpe.weight"] = torch.zeros(9, 128)
    torch.save({"model": state}, tmp_path / "first_stage.pt")
    with pytest.raises(WeightsError, match=r"missing: layers.1.ffn_norm.weight.*\[9, 128\]"):
        build(pipeline(str(tmp_path)))


class Evil:
    def __reduce__(self):
        return print, ("code of a checkpoint ran",)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, capsys):
    torch.save({"model": {}, "config": Evil()}, tmp_path / "first_stage.pt")
    with pytest.raises(WeightsError, match="more than tensors"):
        build(pipeline(str(tmp_path)))
    assert "ran" not in capsys.readouterr().out


def test_a_file_without_a_model_is_refused(tmp_path: Path):
    torch.save({"weights": {}}, tmp_path / "first_stage.pt")
    with pytest.raises(WeightsError, match="no weights below 'model'"):
        build(pipeline(str(tmp_path)))


# -- three dtypes at once (metavoice-src issues 106, 108) ------------------------------------------


def audited(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> list[Event]:
    with torch.no_grad(), ModuleStack(module) as stack, DtypeAudit(stack, None) as audit:
        module(*inputs)
    return audit.events


def test_the_mix_of_dtypes_has_seven_events_up_to_the_attention_that_stops():
    """At the published size, without memory: the cause is the first event, not the message."""
    events = audited(*three_minds(Settings()))
    until = next(n for n, event in enumerate(events) if event.kind == "refused") + 1
    assert [(event.kind, event.place.module, event.place.op) for event in events[:until]] == [
        ("mixed operands", "model.speaker_cond_pos", "linear"),
        ("promotion", "model", "add"),
        ("promotion", "model.layers.0.attention_norm", "mul"),
        ("mixed operands", "model.layers.0.attention.wqkv", "linear"),
        ("casting write", "model.layers.0.attention.kv_cache", "__setitem__"),
        ("casting write", "model.layers.0.attention.kv_cache", "__setitem__"),
        ("refused", "model.layers.0.attention", "scaled_dot_product_attention"),
    ]
    assert until == 7
    assert dict(events[0].dtypes) == {"input": "float16", "weight": "bfloat16"}
    assert events[0].repair == "cast input with .to(torch.bfloat16) before linear"
    stopped = events[6]
    assert dict(stopped.dtypes) == {"query": "float32", "key": "float16", "value": "float16"}
    assert "Expected query, key, and value to have the same dtype" in stopped.message
    # Each repaired, all 24 layers have the same.
    assert sum(event.kind == "refused" for event in events) == 24


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_one_dtype_has_no_events(dtype: torch.dtype):
    settings = Settings()
    module = WithBuffers(on_meta(settings).to(dtype), settings, cache=dtype, device="meta")
    inputs = (
        torch.zeros(2, 7, dtype=torch.int64, device="meta"),
        torch.zeros(2, 256, dtype=dtype, device="meta"),
        torch.zeros((), dtype=torch.int64, device="meta"),
    )
    assert audited(module, inputs) == []


def test_the_contract_names_the_speaker_and_what_is_later_seen_of_it():
    module = WithBuffers(tiny().to(torch.bfloat16), SETTINGS, cache=torch.float16)
    rows = Axis(name="rows")
    specs = (
        TensorSpec(name="tokens", dtype="int64", shape=("rows", 5), axes=(rows,)),
        TensorSpec(name="speaker", dtype="float16", shape=("rows", 256), axes=(rows,)),
        TensorSpec(name="start", dtype="int64", shape=()),
    )
    values = {
        "tokens": np.zeros((2, 5), np.int64),
        "speaker": np.zeros((2, 256), np.float16),
        "start": np.array(0),
    }
    logits = TensorSpec(name="logits", dtype="bfloat16", shape=("rows", 5, 300), axes=(rows,))
    subject = target_from_module(
        module.eval(), inputs=specs, outputs=(logits,), values=values, with_onnx=False
    )
    found, _ = run_contracts(subject, {"dtype": {"precisions": ["as_built"]}})
    assert found.status is Status.FAIL
    assert found.where is not None and found.where.module == "model.speaker_cond_pos"
    assert "refused in model.layers.0.attention [scaled_dot_product_attention]" in found.reason
    assert found.advice == "cast input with .to(torch.bfloat16) before linear"


# -- chunk by chunk --------------------------------------------------------------------------------


@pytest.mark.parametrize(("position", "status"), [("start", Status.PASS), (None, Status.FAIL)])
def test_chunks_are_the_whole_when_their_position_is_told(position: str | None, status: Status):
    loaded = load_pipeline(ROOT / "pipelines" / "metavoice_tiny.yaml")
    found = wrap(loaded)
    case = load_cases(loaded, found.inputs, ["prefill_and_decode"])
    subject = target_from_wrapped(found, case, name="metavoice")
    streaming = Streaming(
        state={"keys": "next_keys", "values": "next_values"}, chunks=(1, 3), position=position
    )
    assert check_streaming(subject, streaming, TORCH).status is status
