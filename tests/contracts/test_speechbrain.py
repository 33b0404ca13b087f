"""What SpeechBrain shipped and ships: the release that writes into its input, and lengths that are
not passed on. The classes are upstream's own; the old release runs in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from exporter.contracts import run_contracts
from exporter.models.ecapa_layers import EcapaEmbedding
from exporter.models.upstream import quiet_upstream
from tests.support import mel_encoder
from tests.support.mel_encoder import OnMels, as_dict, mels, mutation, old_release, subject

FLOOR = -11.5
"""Log of the smallest mel magnitude: what padded silence is."""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    release = old_release()
    if not release.is_dir():
        pytest.fail("install it with: scripts/install-upstream speechbrain-old", pytrace=False)
    command = [sys.executable, mel_encoder.__file__, str(tmp_path_factory.mktemp("legacy"))]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*command, str(release)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["installed"] == "0.5.16" and Path(told["file"]).is_relative_to(release)
    return told


@pytest.mark.slow
def test_the_release_that_writes_into_its_input_is_named_by_module_op_and_line(old: Any):
    found = old["mutation"]
    assert found["status"] == "fail"
    assert found["reason"] == "input 'mels': its content changed"
    assert found["module"] == "encoder.mods.normalizer"
    assert found["op"] == "aten.copy_.default"
    assert found["source"] == "speechbrain/processing/features.py:1025"
    # Not a rounding: the caller's log mels have lost their mean.
    assert found["mse_of_input"] > 20
    # And invisible to whoever compares two calls, because it is idempotent.
    assert found["second_call_differs"] < 1e-5


def test_the_current_release_leaves_its_input_alone():
    found = mutation()
    assert found["status"] == "pass"
    assert found["mse_of_input"] == 0.0 and found["second_call_differs"] == 0.0


@pytest.mark.slow
def test_its_legacy_export_holds_the_mean_of_the_traced_recording(old: Any):
    found = old["legacy"]
    assert found["traced"] < 2e-6
    assert found["other"] > 0.2
    # The lengths are gone from the file as well.
    assert found["inputs"] == ["mels"]
    assert found["shapes"]["status"] == "fail" and found["shapes"]["module"] == "normalizer"
    assert "'/normalizer/Sub' (Sub) holds a table [80]" in found["shapes"]["reason"]


def shift(module: Any, frames: int, padding: int, fill: float) -> float:
    """How far an embedding moves when its recording is padded beside a longer one."""
    sound = mels(frames, 1)
    alone = module(sound, torch.tensor([frames]))
    padded = torch.cat([sound, torch.full((1, 80, padding), fill)], dim=2)
    batch = torch.cat([padded, mels(frames + padding, 2)])
    beside = module(batch, torch.tensor([frames, frames + padding]))[:1]
    return float((beside - alone).norm() / alone.norm())


class Ours(torch.nn.Module):
    """Our way between upstream's layers."""

    def __init__(self) -> None:
        super().__init__()
        encoder = mel_encoder.upstream_encoder()
        self.normalizer = encoder.hparams.normalizer
        self.embedding = EcapaEmbedding(encoder.hparams.embedding_model)

    def forward(self, mels: torch.Tensor, mels_lengths: torch.Tensor) -> torch.Tensor:
        features = mels.transpose(1, 2)
        shares = (mels_lengths.to(torch.float32) - 0.5) / features.shape[1]
        return self.embedding(self.normalizer(features, shares), mels_lengths).unsqueeze(1)


@pytest.mark.parametrize("fill", [0.0, FLOOR])
def test_lengths_that_never_reach_ecapa_move_embeddings_by_more_than_their_size(fill: float):
    """A finding on the current release, see docs/findings.md."""
    upstream, told, ours = OnMels().eval(), OnMels(pass_lengths_on=True).eval(), Ours().eval()
    assert shift(upstream, 200, 200, fill) > 1.1
    # With the lengths passed on, the convolutions still see padding behind the last frame.
    assert 0.01 < shift(told, 200, 200, fill) < 0.1
    assert shift(ours, 200, 200, fill) < 1e-6


def test_the_padding_contract_names_the_first_layer_that_sees_padding():
    for upstream in (OnMels(), OnMels(pass_lengths_on=True)):
        found = as_dict(run_contracts(subject(upstream), {"padding": None})[0])
        assert found["status"] == "fail"
        assert found["module"] == "encoder.mods.embedding_model.blocks.0.conv.conv"
        assert found["source"].startswith("speechbrain/nnet/CNN.py")
    assert run_contracts(subject(Ours()), {"padding": None})[0].status == "pass"


def test_relative_lengths_in_float32_count_a_padded_frame():
    """A finding on the current release: 7 of 13 frames, as a share, times 13 is more than 7."""
    with quiet_upstream():
        from speechbrain.dataio.dataio import length_to_mask
        from speechbrain.processing.features import make_padding_mask

    share = torch.tensor([7.0]) / 13
    assert int(length_to_mask(share * 13, max_len=13).sum()) == 8
    wrong = [
        (frames, longest)
        for longest in range(1, 201)
        for frames in range(1, longest + 1)
        if int(make_padding_mask(torch.zeros(1, longest, 1),
                                 torch.tensor([frames]).float() / longest).sum()) != frames
    ]  # fmt: skip
    assert len(wrong) > 100


@pytest.mark.slow
def test_upstreams_masks_bake_the_batch_of_the_example():
    """A finding on the current release; ours exports with any batch (pipelines/ecapa_mel.yaml)."""
    example = (torch.cat([mels(40, 1), mels(40, 2)]), torch.tensor([40, 30]))
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time", min=6)
    dynamic = ({0: batch, 2: time}, {0: batch})
    with pytest.raises(Exception, match="batch as dynamic but your code specialized it"):
        torch.export.export(OnMels().eval(), example, dynamic_shapes=dynamic)
    program = torch.onnx.export(
        OnMels().eval(), example, dynamic_shapes=dynamic, dynamo=True, verbose=False
    )
    assert program is not None
    assert program.model.graph.inputs[0].shape[0] == 2  # type: ignore[index]
    assert torch.export.export(Ours().eval(), example, dynamic_shapes=dynamic) is not None
