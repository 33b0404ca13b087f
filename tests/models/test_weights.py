"""Checkpoints that cannot be used say so; none of them turns into seeded weights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from exporter.core.errors import WeightsError
from exporter.models.weights import (
    digest_tensors,
    load_strictly,
    read_model_pt,
    read_safetensors,
    resolve_weights,
)


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):  # what a hostile pickle does
        return os.mkdir, (str(self.target),)


def test_a_pickle_with_code_is_refused_and_its_code_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "code_ran"
    torch.save({"weight": Payload(marker)}, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match="would run its code"):
        read_model_pt(tmp_path / "model.pt")
    assert not marker.exists()


@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"PK\x03\x04cut"]
)
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(WeightsError, match="no readable checkpoint"):
        read_model_pt(tmp_path / "model.pt")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        read_model_pt(tmp_path / "model.pt")


@pytest.mark.parametrize("content", [{}, [1, 2], {"step": 3, "a": torch.zeros(1)}])
def test_something_that_is_no_state_dict(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(WeightsError):
        read_model_pt(tmp_path / "model.pt")


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_nested_state_dicts_are_found(tmp_path: Path, key: str) -> None:
    torch.save({key: {"a": torch.ones(2)}, "epoch": 1}, tmp_path / "model.pt")
    assert list(read_model_pt(tmp_path / "model.pt")) == ["a"]


def test_the_old_format_without_zip(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "model.pt", _use_new_zipfile_serialization=False)
    assert list(read_model_pt(tmp_path / "model.pt")) == ["a"]


def test_all_differences_are_listed_at_once() -> None:
    state = {"0.weight": torch.zeros(3, 4), "0.bais": torch.zeros(3)}
    with pytest.raises(WeightsError) as caught:
        load_strictly(nn.Sequential(nn.Linear(4, 2)), state, where="x.pt")
    message = str(caught.value)
    assert "missing: 0.bias" in message
    assert "unexpected: 0.bais" in message
    assert "0.weight [3, 4] instead of [2, 4]" in message


def test_a_weight_that_is_nan_is_refused() -> None:
    state = {"0.weight": torch.full((2, 4), float("nan")), "0.bias": torch.zeros(2)}
    with pytest.raises(WeightsError, match="not finite: 0.weight"):
        load_strictly(nn.Sequential(nn.Linear(4, 2)), state, where="x.pt")


@pytest.mark.parametrize("prefix", ["module.", "model."])
def test_a_common_prefix_is_removed(prefix: str) -> None:
    module = nn.Sequential(nn.Linear(4, 2))
    state = {f"{prefix}0.weight": torch.ones(2, 4), f"{prefix}0.bias": torch.ones(2)}
    load_strictly(module, state, where="x.pt")
    assert torch.equal(module.get_parameter("0.weight"), torch.ones(2, 4))


def test_half_precision_becomes_float32() -> None:
    module = nn.Sequential(nn.Linear(4, 2))
    state = {"0.weight": torch.ones(2, 4).half(), "0.bias": torch.ones(2).half()}
    load_strictly(module, state, where="x.pt")
    assert module.get_parameter("0.weight").dtype == torch.float32


@pytest.mark.parametrize("text", ["hub:org/name", "hub:org/name@", "hub:name@v1"])
def test_the_hub_needs_a_revision(text: str) -> None:
    with pytest.raises(WeightsError, match="names no fixed revision"):
        resolve_weights(text, seed=0)


def test_without_a_network_the_hub_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def unreachable(repo: str, *, revision: str) -> str:
        raise LocalEntryNotFoundError(
            f"{repo} at {revision} is not here and the hub cannot be reached"
        )

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(WeightsError, match="cannot fetch 'hub:org/name@v1'"):
        resolve_weights("hub:org/name@v1", seed=0, where="p.yaml:3: model.weights")


def test_a_snapshot_of_the_hub_is_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda repo, *, revision: str(tmp_path)
    )
    source = resolve_weights("hub:org/name@v1", seed=0)
    assert source.folder == tmp_path and source.label == "hub:org/name@v1"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        resolve_weights(str(tmp_path / "nothing"), seed=0)


def test_the_digest_sees_names_values_shapes_and_dtypes() -> None:
    base = {"a": torch.zeros(2, 3)}
    others = [
        {"b": torch.zeros(2, 3)},
        {"a": torch.zeros(3, 2)},
        {"a": torch.zeros(2, 3, dtype=torch.int32)},
        {"a": torch.tensor([[0, 0, 0], [0, 0, 1e-7]])},
    ]
    digests = {digest_tensors(state) for state in [base, *others]}
    assert len(digests) == 5
    assert digest_tensors({"a": torch.zeros(3, 2).T}) == digest_tensors(base)
    assert digest_tensors({"s": torch.tensor(3)}) and digest_tensors({"e": torch.zeros(0, 2)})


# -- tensors that are none ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tensor",
    [
        torch.empty(4, 3, device="meta"),
        torch.ones(4, 3).to_sparse(),
        torch.ones(4, 3, dtype=torch.complex64),
        torch.ones(4, 3).to(torch.float8_e4m3fn),
        torch.ones(1).as_strided((4, 3), (0, 0)).to(torch.complex64),
    ],
)
def test_a_tensor_that_is_no_plain_numbers_is_named(tensor: torch.Tensor):
    with pytest.raises(WeightsError, match="no plain numbers: weight"):
        load_strictly(nn.Linear(3, 4, bias=False), {"weight": tensor}, where="x.pt")


def test_a_tensor_of_another_shape_is_not_looked_at():
    """It would take terabytes."""
    huge = torch.ones(1).as_strided((1 << 20, 1 << 20), (0, 0))
    with pytest.raises(WeightsError, match="of another shape: weight"):
        load_strictly(nn.Linear(3, 4, bias=False), {"weight": huge}, where="x.pt")


@pytest.mark.parametrize("name", ["x.safetensors", "x.pt"])
def test_a_pipe_is_no_checkpoint(tmp_path: Path, name: str):
    os.mkfifo(tmp_path / name)
    read = read_safetensors if name.endswith("tensors") else read_model_pt
    with pytest.raises(WeightsError):
        read(tmp_path / name)
