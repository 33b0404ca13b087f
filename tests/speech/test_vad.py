"""Speech probabilities are those of silero-vad, frame by frame."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch

from exporter.cases.draw import draw
from exporter.core.errors import ConfigError, WeightsError
from exporter.speech.silero_weights import renamed
from exporter.speech.vad import SileroNetwork, SileroVad
from tests.support.vad_stream import SileroVadStream

from .upstream import golden, largest_difference, official_probs

LIMIT = 1e-5


@pytest.mark.parametrize("name", ["english", "mandarin", "noisy", "silence"])
def test_probabilities_equal_the_official_model(vad, official_vad, name) -> None:
    waveform = golden(name)
    expected = official_probs(official_vad, waveform, 16000)
    assert largest_difference(vad(waveform), expected) <= LIMIT


def test_probabilities_equal_the_official_model_at_8_khz(official_vad) -> None:
    waveform = golden("english")[::2].contiguous()
    expected = official_probs(official_vad, waveform, 8000)
    assert expected.max() > 0.9
    assert largest_difference(SileroVad.from_package(8000)(waveform), expected) <= LIMIT


@pytest.mark.parametrize("num_samples", [1, 400, 511, 512, 513, 1024, 5000])
def test_the_last_frame_is_completed_with_zeros(vad, official_vad, num_samples) -> None:
    waveform = golden("english")[16000 : 16000 + num_samples]
    probs = vad(waveform)
    assert probs.shape == (-(-num_samples // 512),)
    assert largest_difference(probs, official_probs(official_vad, waveform, 16000)) <= LIMIT


def test_an_empty_waveform_has_no_frames(vad) -> None:
    assert vad(torch.zeros(0)).shape == (0,)


def test_loud_and_odd_signals_agree(vad, official_vad) -> None:
    for kind in ("normal", "square", "click", "constant"):
        waveform = torch.from_numpy(draw(kind, 8000, seed=3))
        expected = official_probs(official_vad, waveform, 16000)
        assert largest_difference(vad(waveform), expected) <= LIMIT, kind


def test_on_digital_silence_upstream_itself_is_further_from_exact_than_we_are_from_it(
    vad, official_vad
) -> None:
    """Words cut out of digital silence condition the network badly: 1e-5 is then below rounding."""
    speech = golden("english")
    waveform = torch.where(speech.abs() < 20 / 32768, 0.0, speech)
    official = official_probs(official_vad, waveform, 16000)
    exact = copy.deepcopy(vad).double()(waveform.double())
    rounding = largest_difference(official, exact)
    assert rounding > LIMIT
    assert largest_difference(vad(waveform), exact) <= 2 * rounding
    assert largest_difference(vad(waveform), official) <= 3 * rounding


@pytest.mark.parametrize("chunk", [1, 3, 50])
def test_a_stream_in_chunks_equals_the_whole_recording(vad, chunk) -> None:
    waveform = golden("english")[: 512 * 150]
    stream = SileroVadStream(vad)
    state = stream.initial_state()
    found = []
    for frames in waveform.reshape(-1, 512).split(chunk):
        probs, *state = stream(frames, *state)
        found.append(probs)
    assert largest_difference(torch.cat(found), vad(waveform)) <= LIMIT


def test_forgetting_the_context_is_seen(vad, official_vad) -> None:
    waveform = golden("english")[:80000]
    frames = torch.nn.functional.pad(waveform, (0, -len(waveform) % 512)).reshape(-1, 512)
    state = torch.zeros(1, 1, 128)
    probs, _, _ = vad.network(frames, torch.zeros(len(frames), 64), state, state)
    assert largest_difference(probs, official_probs(official_vad, waveform, 16000)) > 100 * LIMIT


def test_forgetting_the_lstm_state_between_chunks_is_seen(vad) -> None:
    waveform = golden("english")[: 512 * 150]
    stream = SileroVadStream(vad)
    context, h, c = stream.initial_state()
    found = []
    for frames in waveform.reshape(-1, 512).split(10):
        probs, context, _, _ = stream(frames, context, h, c)
        found.append(probs)
    assert largest_difference(torch.cat(found), vad(waveform)) > 100 * LIMIT


def test_one_changed_weight_matrix_is_seen(official_vad) -> None:
    vad = SileroVad.from_package()
    vad.network.lstm.get_parameter("weight_hh_l0").data.mul_(1.001)
    waveform = golden("english")[:80000]
    assert largest_difference(vad(waveform), official_probs(official_vad, waveform, 16000)) > LIMIT


def test_another_sample_rate_is_refused() -> None:
    with pytest.raises(ConfigError, match="22050"):
        SileroVad.from_package(22050)


def test_a_state_dict_of_another_network_is_refused_with_every_difference() -> None:
    wanted = SileroNetwork(16000).state_dict()
    state = {"_model.decoder.rnn.weight_hh": torch.zeros(2, 2), "_model.surprise": torch.zeros(1)}
    with pytest.raises(WeightsError) as caught:
        renamed(state, wanted, prefix="_model.", where="file.jit")
    for part in ("file.jit", "'surprise' is not known", "(2, 2), not (512, 128)", "is missing"):
        assert part in str(caught.value)


def test_loading_leaves_the_number_of_threads_alone() -> None:
    code = (
        "import torch; torch.set_num_threads(2)\n"
        "from exporter.speech.vad import SileroVad\n"
        "SileroVad.from_package()\n"
        "import sys; assert 'silero_vad' not in sys.modules\n"
        "assert torch.get_num_threads() == 2, torch.get_num_threads()\n"
    )
    subprocess.run([sys.executable, "-W", "error::DeprecationWarning", "-c", code], check=True)
