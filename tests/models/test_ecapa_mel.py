"""SpeechBrain's speaker encoder: upstream's embedding for one recording, and in any batch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from exporter.config import load_pipeline
from exporter.core.errors import ConfigError, MissingPackageError, WeightsError, exit_code
from exporter.models.built import Built
from exporter.models.checkpoint_speechbrain import EMBEDDING, HYPERPARAMS
from exporter.models.ecapa_mel import Settings, build, upstream_modules
from exporter.models.seeding import seed_weights
from exporter.models.settings import read_settings

PIPELINES = Path(__file__).parents[2] / "pipelines"
PUBLISHED = """
sample_rate: 16000
hop_length: 256
win_length: 1024
n_mel_channels: 80
n_fft: 1024
mel_fmin: 0.0
mel_fmax: 8000.0
mel_normalized: False
power: 1
norm: "slaney"
mel_scale: "slaney"
dynamic_range_compression: True
embedding_dim: 192
normalizer: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mel_channels>
    channels: [128, 128, 128, 128, 384]
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
    attention_channels: 32
    se_channels: 32
    lin_neurons: !ref <embedding_dim>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables: {normalizer: !ref <normalizer>}
"""


def pipeline(*, weights: str = "seeded", seed: int = 0, **settings: Any) -> Any:
    found = load_pipeline(PIPELINES / "ecapa_mel_tiny.yaml").with_weights(weights)
    changed = {"settings": {**found.model.settings, **settings}, "seed": seed}
    return found.model_copy(update={"model": found.model.model_copy(update=changed)})


def checkpoint(folder: Path, text: str = PUBLISHED) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    _, network = upstream_modules(read_settings(Settings, pipeline()))
    network.to_empty(device="cpu")
    seed_weights(network, 7)
    torch.save(network.state_dict(), folder / EMBEDDING)
    (folder / HYPERPARAMS).write_text(text)
    return folder


@pytest.fixture(scope="module")
def tiny() -> Built:
    return build(pipeline())


def sounds(*lengths: int) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    return [0.1 * torch.randn(1, length, generator=draw) for length in lengths]


def test_the_published_size_has_21_million_parameters():
    settings = read_settings(Settings, load_pipeline(PIPELINES / "ecapa_mel.yaml"))
    assert settings == Settings()
    _, network = upstream_modules(settings)
    assert sum(parameter.numel() for parameter in network.parameters()) == 20_767_552


def test_it_is_upstreams_embedding(tiny: Built):
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
    from speechbrain.processing.features import InputNormalization

    settings = read_settings(Settings, pipeline())
    _, upstream = upstream_modules(settings)
    upstream.to_empty(device="cpu")
    seed_weights(upstream, 0)
    assert type(upstream) is ECAPA_TDNN
    assert type(tiny.module.get_submodule("normalizer")) is InputNormalization
    assert set(tiny.module.get_submodule("embedding_model").state_dict()) == set(
        upstream.state_dict()
    )
    normalizer = InputNormalization(norm_type="sentence", std_norm=False)
    for sound in sounds(1024, 5000, 16_000):
        found = tiny.module(sound, torch.tensor([sound.shape[1]]))
        features = found["log_mel"].transpose(1, 2)
        wanted = upstream.eval()(normalizer(features, torch.ones(1)))
        assert found["embedding"].shape == (1, 192) and wanted.std() > 0.1
        torch.testing.assert_close(found["embedding"], wanted[:, 0], rtol=0, atol=5e-6)


def test_a_batch_gives_what_each_row_gives_alone(tiny: Built):
    rows = sounds(16_000, 9_001, 1024)
    longest = 20_000
    batch = torch.full((3, longest), 1e3)
    for number, row in enumerate(rows):
        batch[number, : row.shape[1]] = row
    lengths = torch.tensor([row.shape[1] for row in rows])
    whole = tiny.module(batch, lengths)
    assert whole["frames"].tolist() == [63, 36, 5]
    for number, row in enumerate(rows):
        alone = tiny.module(row, lengths[number : number + 1])["embedding"][0]
        torch.testing.assert_close(whole["embedding"][number], alone, rtol=0, atol=5e-6)


def test_every_pair_of_lengths_masks_the_frames_in_use(tiny: Built):
    """Relative lengths of float32 round: 7 of 13 comes back as 7.0000005, one frame too many."""
    normalizer = tiny.module.get_submodule("normalizer")
    for longest in range(1, 120):
        frames = torch.arange(1, longest + 1)
        # Ones in use, and something else behind: any frame too many or too few moves the mean.
        used = torch.arange(longest) < frames.unsqueeze(1)
        features = torch.where(used, 1.0, 100.0).unsqueeze(2)
        shares = (frames.to(torch.float32) - 0.5) / longest
        assert torch.equal(normalizer(features, shares)[used], torch.zeros(int(used.sum()), 1))


def test_a_recording_below_the_shortest_may_be_padded(tiny: Built):
    sound = torch.cat([sounds(600)[0], torch.zeros(1, 1024 - 600)], dim=1)
    found = tiny.module(sound, torch.tensor([600]))
    assert found["frames"].tolist() == [3] and torch.isfinite(found["embedding"]).all()


def test_nothing_is_written_and_nothing_is_drawn(tiny: Built, capsys: pytest.CaptureFixture[str]):
    before = torch.random.get_rng_state()
    build(pipeline())
    assert torch.equal(torch.random.get_rng_state(), before)
    sound, lengths = sounds(4000)[0], torch.tensor([4000])
    kept = sound.clone()
    tiny.module(sound, lengths)
    assert torch.equal(sound, kept) and sound._version == 0 and lengths.tolist() == [4000]
    assert capsys.readouterr() == ("", "")


def test_a_checkpoint_loads(tmp_path: Path):
    folder = checkpoint(tmp_path / "encoder")
    built = build(pipeline(weights=str(folder)))
    assert built.weights.digest == build(pipeline(seed=7)).weights.digest
    assert not built.weights.seeded and built.weights.source == str(folder)


def test_tags_of_a_checkpoint_are_never_called(tmp_path: Path):
    evil = f"{PUBLISHED}\nboom: !apply:pathlib.Path.touch [{tmp_path / 'touched'}]\n"
    build(pipeline(weights=str(checkpoint(tmp_path / "encoder", evil))))
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("name", [EMBEDDING, HYPERPARAMS])
def test_a_missing_file(tmp_path: Path, name: str):
    folder = checkpoint(tmp_path)
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=f"{name} is missing"):
        build(pipeline(weights=str(folder)))


def test_a_missing_tensor_is_named(tmp_path: Path):
    folder = checkpoint(tmp_path)
    state = torch.load(folder / EMBEDDING, weights_only=True)
    del state["blocks.1.se_block.conv1.conv.bias"]
    torch.save(state, folder / EMBEDDING)
    with pytest.raises(WeightsError, match=r"missing: blocks.1.se_block.conv1.conv.bias"):
        build(pipeline(weights=str(folder)))


@pytest.mark.parametrize(
    ("before", "after", "error", "match"),
    [
        ("hop_length: 256", "hop_length: 160", ConfigError, "hop_length is 256, but .* says 160"),
        ("sample_rate: 16000", "sample_rate: 22050", ConfigError, "sample rate is 16000"),
        ("attention_channels: 32", "attention_channels: 64", ConfigError, "attention_channels"),
        ("embedding_dim: 192", "embedding_dim: 256", ConfigError, "lin_neurons is 192, but"),
        ('norm: "slaney"', "norm: null", WeightsError, "not supported: norm: None"),
        ("std_norm: False", "std_norm: True", WeightsError, "not supported: normalizer.std_norm"),
        ("n_mel_channels: 80", "n_mels: 80", WeightsError, "another front end"),
        ("embedding_dim: 192", "- a list\n", WeightsError, "cannot be read"),
    ],
)
def test_a_checkpoint_of_something_else(
    tmp_path: Path, before: str, after: str, error: type[Exception], match: str
):
    assert before in PUBLISHED
    folder = checkpoint(tmp_path, PUBLISHED.replace(before, after))
    with pytest.raises(error, match=match):
        build(pipeline(weights=str(folder)))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"dilations": [1, 2]}, "dilations and channels name another number of layers"),
        ({"kernel_sizes": [4, 3, 3, 3, 1]}, "kernel_sizes must be odd"),
        ({"res2net_scale": 7}, "res2net_scale must divide"),
        ({"hop": 256}, "unknown setting 'hop'"),
    ],
)
def test_impossible_settings(wrong: dict[str, Any], match: str):
    with pytest.raises(ConfigError, match=match):
        build(pipeline(**wrong))


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "speechbrain.lobes.models.ECAPA_TDNN", None)
    with pytest.raises(MissingPackageError) as caught:
        build(pipeline())
    assert "install it with: scripts/install-upstream speechbrain" in str(caught.value)
    assert exit_code(caught.value) == 2
