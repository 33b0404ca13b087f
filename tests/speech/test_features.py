"""Features are those of FunASR's WavFrontend: Kaldi fbank, low frame rate, normalisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from exporter.cases.draw import draw
from exporter.core.errors import ConfigError, WeightsError
from exporter.speech.cmvn import Cmvn, read_am_mvn, seeded_cmvn
from exporter.speech.fbank import KaldiFbank, mel_matrix, window_values
from exporter.speech.lfr import LowFrameRate

from .upstream import golden, largest_difference, official_counts, official_features

LIMIT = 5e-3


def features(waveform: torch.Tensor, fbank: KaldiFbank, lfr: LowFrameRate) -> torch.Tensor:
    frames, counts = fbank(waveform.unsqueeze(0), torch.tensor([len(waveform)]))
    stacks, stack_counts = lfr(frames, counts)
    assert stacks.shape[1] == int(stack_counts)
    return stacks[0]


@pytest.fixture(scope="module")
def fbank() -> KaldiFbank:
    return KaldiFbank()


@pytest.fixture(scope="module")
def lfr() -> LowFrameRate:
    return LowFrameRate(7, 6)


@pytest.mark.parametrize("name", ["english", "mandarin", "noisy", "long", "silence"])
def test_features_equal_funasr_on_golden_audio(fbank, lfr, name) -> None:
    waveform = golden(name)
    assert largest_difference(features(waveform, fbank, lfr), official_features(waveform)) <= LIMIT


@pytest.mark.parametrize("kind", ["normal", "square", "sine", "click"])
def test_features_equal_funasr_on_drawn_signals(fbank, lfr, kind) -> None:
    waveform = torch.from_numpy(draw(kind, 16000, seed=1, scale=0.3))
    ours, official = features(waveform, fbank, lfr), official_features(waveform)
    # A bin 80 dB below the loudest holds the rounding of a pure tone, on both sides.
    audible = official > official.amax() - 18
    assert largest_difference(ours[audible], official[audible]) <= LIMIT


def test_frame_counts_equal_funasr_for_every_length_from_400_to_4000(fbank, lfr) -> None:
    lengths = torch.arange(400, 4001)
    _, counts = fbank(torch.zeros(len(lengths), 400), lengths)
    _, stacked = lfr(torch.zeros(len(lengths), 23, 1), counts)
    noise = torch.from_numpy(draw("normal", 4000, seed=2)) * 0.1
    found = dict(
        zip(lengths.tolist(), zip(counts.tolist(), stacked.tolist(), strict=True), strict=True)
    )
    expected = {length: official_counts(noise[:length]) for length in lengths.tolist()}
    assert found == expected


@pytest.mark.parametrize("length", [400, 559, 560, 561, 1359, 1360, 1361, 2319, 2320, 2321, 3999])
def test_features_equal_funasr_at_the_edges_of_frames(fbank, lfr, length) -> None:
    waveform = golden("english")[20000 : 20000 + length]
    assert largest_difference(features(waveform, fbank, lfr), official_features(waveform)) <= LIMIT


@pytest.mark.parametrize("length", [0, 1, 2, 399])
def test_less_than_a_frame_has_no_frames(fbank, lfr, length) -> None:
    frames, counts = fbank(torch.ones(1, length), torch.tensor([length]))
    assert frames.shape == (1, 1, 80)
    assert counts.tolist() == [0]
    _, stacked = lfr(frames, counts)
    assert stacked.tolist() == [0]


def test_rows_of_a_batch_do_not_touch_each_other(fbank, lfr) -> None:
    speech = golden("english")[16000:32000]
    lengths = torch.tensor([16000, 5000, 399, 0, 400])
    rows = speech.repeat(5, 1)
    place = torch.arange(16000)
    rows = torch.where(place < lengths[:, None], rows, torch.nan)
    cmvn = Cmvn(*seeded_cmvn(560, 0))
    frames, counts = lfr(*fbank(rows, lengths))
    batch = cmvn(frames, counts)
    assert counts.tolist() == [17, 5, 0, 0, 1]
    assert batch.isfinite().all()
    for row, length in enumerate(lengths.tolist()):
        alone_frames, alone_counts = lfr(*fbank(speech[None, :length], torch.tensor([length])))
        alone = cmvn(alone_frames, alone_counts)[0, : int(alone_counts)]
        assert int(alone_counts) == int(counts[row])
        if len(alone):
            assert largest_difference(batch[row, : len(alone)], alone) <= 1e-4
        assert (batch[row, len(alone) :] == 0).all()


def test_features_are_right_after_normalisation_too(tmp_path, fbank, lfr) -> None:
    shift, scale = seeded_cmvn(560, 4)
    path = tmp_path / "am.mvn"
    write_am_mvn(path, shift.numpy(), scale.numpy())
    waveform = golden("mandarin")
    frames = features(waveform, fbank, lfr).unsqueeze(0)
    found = Cmvn(*read_am_mvn(path))(frames, torch.tensor([frames.shape[1]]))[0]
    expected = official_features(waveform, cmvn_file=str(path))
    assert largest_difference(found, expected) <= LIMIT


def test_a_long_silence_is_the_logarithm_of_epsilon_throughout(fbank) -> None:
    frames, counts = fbank(torch.zeros(1, 960000), torch.tensor([960000]))
    assert counts.tolist() == [5998]
    assert (frames == np.float32(np.log(np.finfo(np.float32).eps))).all()


@pytest.mark.parametrize(("lfr_m", "lfr_n"), [(7, 6), (1, 1), (5, 1), (7, 2), (3, 3), (6, 6)])
@pytest.mark.parametrize("frames", [1, 2, 3, 5, 6, 7, 12, 13, 100])
def test_low_frame_rate_equals_funasr(lfr_m, lfr_n, frames) -> None:
    from funasr.frontends.wav_frontend import apply_lfr

    values = torch.randn(frames, 4, generator=torch.Generator().manual_seed(frames))
    expected = apply_lfr(values, lfr_m, lfr_n)
    found, counts = LowFrameRate(lfr_m, lfr_n)(values.unsqueeze(0), torch.tensor([frames]))
    assert int(counts) == len(expected)
    assert torch.equal(found[0], expected)


# --- sabotage: the comparison with FunASR must see each of these ---


@pytest.mark.parametrize(
    "changed",
    [
        {"preemphasis": 0.96},
        {"preemphasis": 0.0},
        {"window": "hanning"},
        {"low_freq_hz": 0},
        {"high_freq_hz": -100},
        {"scale": 32767.0 * 0.99},
    ],
    ids=str,
)
def test_a_changed_filter_bank_is_seen(lfr, changed) -> None:
    waveform = golden("english")
    found = features(waveform, KaldiFbank(**changed), lfr)
    assert largest_difference(found, official_features(waveform)) > LIMIT


def test_dither_is_seen() -> None:
    from funasr.frontends.wav_frontend import WavFrontend

    waveform = golden("english")
    dithered = WavFrontend(window="hamming", lfr_m=7, lfr_n=6)  # type: ignore[arg-type]
    features, _ = dithered(waveform.unsqueeze(0), torch.tensor([len(waveform)]))
    assert largest_difference(features[0], official_features(waveform)) > LIMIT


def test_pre_emphasis_of_the_first_sample_with_its_neighbour_is_seen(lfr) -> None:
    """The usual mistake: taking the sample before the frame, or nothing, for the first sample."""
    fbank = KaldiFbank()
    # Undo `x[0] -= 0.97 x[0]`: one column of the kernel, as large as 1 / 0.03 of itself.
    fbank.get_buffer("kernel")[:, :, 0] *= 1 / 0.03
    waveform = golden("english")
    assert largest_difference(features(waveform, fbank, lfr), official_features(waveform)) > LIMIT


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_shifted_low_frame_rate_stack_is_seen(fbank, shift) -> None:
    lfr = LowFrameRate(7, 6)
    lfr.get_buffer("offset").add_(shift)
    waveform = golden("english")
    assert largest_difference(features(waveform, fbank, lfr), official_features(waveform)) > LIMIT


def test_a_low_frame_rate_without_its_clamp_at_the_end_is_seen(fbank, lfr) -> None:
    """Zeros behind the last frame instead of repeating it."""
    waveform = golden("english")[: 400 + 1088 * 160]  # 1089 frames: the last stack needs 1090
    frames, counts = fbank(waveform.unsqueeze(0), torch.tensor([len(waveform)]))
    zeros = torch.zeros(1, 7, 80)
    stacks, _ = lfr(torch.cat([frames, zeros], dim=1), counts + 7)
    expected = official_features(waveform)
    assert largest_difference(stacks[0, : len(expected)], expected) > LIMIT


# --- am.mvn ---


def write_am_mvn(path, shift: np.ndarray, scale: np.ndarray) -> None:
    def values(array: np.ndarray) -> str:
        return " ".join(repr(float(value)) for value in array)

    size = len(shift)
    path.write_text(
        f"<Nnet> \n<Splice> {size} {size}\n[ 0 ]\n"
        f"<AddShift> {size} {size} \n<LearnRateCoef> 0 [ {values(shift)} ]\n"
        f"<Rescale> {size} {size} \n<LearnRateCoef> 0 [ {values(scale)} ]\n</Nnet>\n"
    )


def test_am_mvn_is_read_as_funasr_reads_it(tmp_path) -> None:
    from funasr.frontends.wav_frontend import load_cmvn

    shift, scale = seeded_cmvn(560, 9)
    write_am_mvn(tmp_path / "am.mvn", shift.numpy(), scale.numpy())
    found = read_am_mvn(tmp_path / "am.mvn")
    assert torch.equal(torch.stack(found), load_cmvn(str(tmp_path / "am.mvn")))
    assert torch.equal(found[0], shift)
    assert torch.equal(found[1], scale)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "<AddShift> stands on 0 lines"),
        ("<AddShift> 2 2\n<LearnRateCoef> 0 [ 1 2 ]\n", "<Rescale> stands on 0 lines"),
        ("<AddShift> 2 2\n", "line after <AddShift>"),
        ("<AddShift> 2 2\n<LearnRateCoef> 0 [ 1 x ]\n", "not a number"),
        ("<AddShift> 2 2\n<LearnRateCoef> 0 [ 1 nan ]\n", "NaN or infinite"),
        ("<AddShift> 2 2\n<LearnRateCoef> 0 [ 1 2\n", "line after <AddShift>"),
        (
            "<AddShift> 2 2\n<LearnRateCoef> 0 [ 1 2 ]\n<Rescale> 1 1\n<LearnRateCoef> 0 [ 1 ]\n",
            "2 shifts but 1 scales",
        ),
        (
            "<AddShift> 2 2\n<LearnRateCoef> 0 [ 1 2 ]\n<AddShift> 2 2\n",
            "<AddShift> stands on 2 lines",
        ),
    ],
)
def test_a_malformed_am_mvn_says_what_is_wrong(tmp_path, text, said) -> None:
    path = tmp_path / "am.mvn"
    path.write_text(text)
    with pytest.raises(WeightsError) as caught:
        read_am_mvn(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_or_binary_am_mvn_is_the_users_error(tmp_path) -> None:
    with pytest.raises(WeightsError, match="cannot read"):
        read_am_mvn(tmp_path / "none.mvn")
    (tmp_path / "binary.mvn").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(WeightsError, match="cannot read"):
        read_am_mvn(tmp_path / "binary.mvn")


def test_seeded_statistics_are_never_the_identity_and_follow_the_seed() -> None:
    shift, scale = seeded_cmvn(560, 0)
    assert (shift <= -8).all() and (scale >= 0.15).all() and (scale <= 0.35).all()
    assert torch.equal(shift, seeded_cmvn(560, 0)[0])
    assert not torch.equal(shift, seeded_cmvn(560, 1)[0])


# --- settings ---


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown window"):
        window_values("kaiser", 400)
    with pytest.raises(ConfigError, match="too many"):
        mel_matrix(400, 512, 16000, 20, 0)
    with pytest.raises(ConfigError, match="band"):
        mel_matrix(80, 512, 16000, 20, 9000)
    with pytest.raises(ConfigError, match="impossible"):
        KaldiFbank(frame_length_ms=0)
    with pytest.raises(ConfigError, match="lfr_m"):
        LowFrameRate(0, 6)
