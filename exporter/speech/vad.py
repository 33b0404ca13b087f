"""Silero VAD as plain modules: its network, and a whole recording in one pass.

The network and its weights are the ones inside ``silero_vad.jit`` of the silero-vad package,
which is what ``silero_vad.load_silero_vad()`` and FunASR run. The package's safetensors file
holds other weights and is not used.

Framing at 16 kHz (8 kHz: halve every figure):

    | 64 samples before | 512 samples of the frame | 64 mirrored |
                          ^ the frame's speech probability
    |---- 256 ----|
             |---- 256 ----|           four STFT columns, hop 128

The convolutions look along the four columns only. Frames are rows of one image, not a batch:
a kernel of height 1 is then one large matrix product, four times as fast in onnxruntime as one
small product per frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exporter.core.errors import ConfigError
from exporter.speech.silero_weights import package_weights
from exporter.speech.sizes import at_least, data_dependent

FRAME_SAMPLES = {16000: 512, 8000: 256}
HIDDEN = 128


class SileroNetwork(nn.Module):
    """The network behind both forms: framed audio and LSTM state to probabilities.

    Args:
        sample_rate_hz: 16000 or 8000.
    """

    def __init__(self, sample_rate_hz: int = 16000) -> None:
        super().__init__()
        if sample_rate_hz not in FRAME_SAMPLES:
            raise ConfigError(
                f"Silero VAD has no network for {sample_rate_hz} Hz",
                where="sample_rate_hz",
                remedy="use 16000 or 8000",
            )
        self.sample_rate_hz = sample_rate_hz
        self.frame_samples = FRAME_SAMPLES[sample_rate_hz]
        self.context_samples = self.frame_samples // 8
        window = self.frame_samples // 2
        bins = window // 2 + 1
        self.stft = nn.Conv2d(1, 2 * bins, (1, window), stride=(1, window // 2), bias=False)
        self.encoder = nn.Sequential(
            _along_columns(bins, 128, stride=1),
            nn.ReLU(),
            _along_columns(128, 64, stride=2),
            nn.ReLU(),
            _along_columns(64, 64, stride=2),
            nn.ReLU(),
            _along_columns(64, 128, stride=1),
            nn.ReLU(),
        )
        self.lstm = nn.LSTM(128, HIDDEN)
        self.head = nn.Conv1d(HIDDEN, 1, 1)
        # The last sample is not repeated: ... y z | y x w ...
        mirrored = torch.arange(
            self.frame_samples - 2, self.frame_samples - 2 - self.context_samples, -1
        )
        self.register_buffer("mirrored", mirrored, persistent=False)

    def forward(
        self, frames: Tensor, context: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return one speech probability per frame, and the LSTM state after the last.

        Args:
            frames: ``[F, frame_samples]`` float, consecutive frames, F >= 1.
            context: ``[F, context_samples]`` float, the samples before each frame.
            h: ``[1, 1, 128]`` float.
            c: ``[1, 1, 128]`` float.

        Returns:
            probabilities ``[F]``, h ``[1, 1, 128]``, c ``[1, 1, 128]``.
        """
        mirror = frames.index_select(1, self.get_buffer("mirrored"))
        framed = torch.cat([context, frames, mirror], dim=1)
        spectrum = self.stft(framed[None, None])  # [1, 2 * bins, F, 4]
        bins = self.frame_samples // 4 + 1
        real, imaginary = spectrum[:, :bins], spectrum[:, bins:]
        magnitude = torch.sqrt(real * real + imaginary * imaginary)
        encoded = self.encoder(magnitude)  # [1, 128, F, 1]: the strides leave one column a frame
        hidden, (h, c) = self.lstm(encoded.squeeze(3).permute(2, 0, 1), (h, c))
        logits = self.head(torch.relu(hidden).permute(1, 2, 0))
        return torch.sigmoid(logits).reshape(-1), h, c


def _along_columns(channels: int, filters: int, *, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, filters, (1, 3), stride=(1, stride), padding=(0, 1))


class SileroVad(nn.Module):
    """Speech probabilities of a whole recording, all frames at once.

    Args:
        network: the network, with weights.
    """

    def __init__(self, network: SileroNetwork) -> None:
        super().__init__()
        self.network = network
        self.sample_rate_hz = network.sample_rate_hz
        self.frame_samples = network.frame_samples

    @classmethod
    def from_package(cls, sample_rate_hz: int = 16000) -> SileroVad:
        """Build with the weights that the installed silero-vad package ships.

        Args:
            sample_rate_hz: 16000 or 8000.

        Raises:
            ConfigError: another sample rate.
            MissingPackageError: silero-vad is not installed.
            WeightsError: its JIT file is missing or holds another network.
        """
        network = SileroNetwork(sample_rate_hz)
        network.load_state_dict(package_weights(sample_rate_hz, network.state_dict()))
        return cls(network).eval().requires_grad_(False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return the speech probability of every frame.

        The last frame is completed with zeros. An empty waveform has no frames.

        Args:
            waveform: ``[N]`` float in [-1, 1], at ``sample_rate_hz``, N >= 0.

        Returns:
            ``[ceil(N / frame_samples)]`` float in [0, 1].
        """
        size = self.frame_samples
        count = data_dependent((waveform.shape[0] + size - 1) // size, like=waveform)
        # An LSTM refuses zero steps, so an empty waveform runs one frame that is cut off again.
        steps = at_least(count, 1)
        padded = nn.functional.pad(waveform, (size, steps * size - waveform.shape[0]))
        rows = padded.reshape(steps + 1, size)
        context, frames = rows[:-1, size - self.network.context_samples :], rows[1:]
        state = waveform.new_zeros(1, 1, HIDDEN)
        probabilities, _, _ = self.network(frames, context, state, state)
        return probabilities[:count]
