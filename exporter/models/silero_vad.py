"""Silero VAD: a waveform and the state of a stream in; probabilities, segments and state out.

The network and its weights are those of ``silero_vad.load_silero_vad()`` (for how they are put
together see ``exporter/speech/vad.py``), the segments those of ``silero_vad.get_speech_timestamps``
without its maximum length. The inputs that carry state are laid out as in the package's own ONNX
files, so a stream hands over what it hands over there:

    waveform [num_samples]   state [2, 1, 128]   context [64]       (8 kHz: context [32])
            |                     |                  |
    speech_probs, segments   next_state          next_context

A chunk of whole frames can be followed by another one; what is not a whole frame is completed
with zeros and ends the recording.
"""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn

from exporter.config import Pipeline
from exporter.config.section import Section
from exporter.core.errors import ConfigError, WeightsError
from exporter.core.tensors import Axis, TensorSpec
from exporter.models.built import Built
from exporter.models.settings import read_settings
from exporter.models.weights import (
    WeightsSource,
    checkpoint_path,
    describe_weights,
    load_strictly,
    resolve_weights,
)
from exporter.speech.segments import SpeechSegments
from exporter.speech.silero_weights import file_weights, installed_release, package_weights
from exporter.speech.sizes import at_least, data_dependent
from exporter.speech.vad import FRAME_SAMPLES, HIDDEN, SileroNetwork

PACKAGE = "package"
"""``model.weights``: the weights inside the installed silero-vad package."""
JIT_NAME = "silero_vad.jit"


class Settings(Section):
    """``model.settings``: how probabilities become segments; defaults are silero-vad's."""

    threshold: float = Field(default=0.5, gt=0, lt=1)
    negative_threshold: float | None = Field(default=None, gt=0, lt=1)
    min_speech_ms: float = Field(default=250, ge=0)
    min_silence_ms: float = Field(default=100, ge=0)
    speech_pad_ms: float = Field(default=30, ge=0)
    max_segment_ms: float | None = Field(default=None, ge=1)
    round_to_ms: bool = False


class SileroVadModel(nn.Module):
    """One recording, or the next chunk of one.

    Args:
        network: with weights.
        segmenter: probabilities to segments, of the same sample rate.
    """

    def __init__(self, network: SileroNetwork, segmenter: SpeechSegments) -> None:
        super().__init__()
        self.network = network
        self.segmenter = segmenter

    def forward(self, waveform: Tensor, state: Tensor, context: Tensor) -> dict[str, Tensor]:
        """Return probabilities, segments and what the next chunk starts from.

        Args:
            waveform: ``[N]`` float32 in [-1, 1]; the last frame is completed with zeros. No
                samples at all leave the state as it is.
            state: ``[2, 1, 128]`` float32, h and c of the LSTM; zeros before the first chunk.
            context: ``[frame_samples / 8]`` float32, the samples before the first frame; zeros
                before the first chunk.

        Returns:
            ``speech_probs`` [ceil(N / frame_samples)], ``segments`` [S, 2] int64 in samples of
            this waveform, ``next_state`` and ``next_context`` in the shapes of the inputs.
        """
        size = self.network.frame_samples
        samples = waveform.shape[0]
        count = data_dependent((samples + size - 1) // size, like=waveform)
        # An LSTM refuses zero steps: without samples one frame is run and cut off again.
        steps = at_least(count, 1)
        padded = nn.functional.pad(waveform, (0, steps * size - samples))
        frames = padded.reshape(steps, size)
        tails = frames[:, size - self.network.context_samples :]
        before = torch.cat([context.unsqueeze(0), tails[:-1]])
        probability, h, c = self.network(frames, before, state[:1], state[1:])
        speech_probs = probability[:count]
        any_samples = torch.full((), count, dtype=torch.int64, device=waveform.device) > 0
        return {
            "speech_probs": speech_probs,
            "segments": self.segmenter(speech_probs, samples),
            "next_state": torch.where(any_samples, torch.cat([h, c]), state),
            "next_context": torch.where(any_samples, tails[-1], context),
        }


def build(pipeline: Pipeline) -> Built:
    """Build Silero VAD at the pipeline's sample rate.

    ``model.weights`` is ``package``, a ``silero_vad.jit`` (or a folder that holds one), or a
    revision on the hub.

    Raises:
        ConfigError: a setting or the sample rate is wrong.
        WeightsError: the weights are missing or those of another network.
        MissingPackageError: ``package``, and silero-vad is not installed.
    """
    settings = read_settings(Settings, pipeline)
    rate = pipeline.sample_rate_hz
    if rate not in FRAME_SAMPLES:
        raise ConfigError(
            f"Silero VAD has no network for {rate} Hz",
            where=pipeline.where("sample_rate_hz"),
            remedy=f"use one of: {', '.join(map(str, FRAME_SAMPLES))}",
        )
    network = SileroNetwork(rate)
    source = _fill(network, pipeline)
    module = SileroVadModel(network, SpeechSegments(**settings.model_dump(), sample_rate_hz=rate))
    module.eval().requires_grad_(False)
    return Built(
        module=module,
        takes="tensors",
        inputs=input_specs(network),
        outputs=output_specs(network),
        weights=describe_weights(module, source),
        states={"next_state": "state", "next_context": "context"},
    )


def _fill(network: SileroNetwork, pipeline: Pipeline) -> WeightsSource:
    """Give the network the weights that the pipeline asks for, and say which they are."""
    text, where = pipeline.model.weights, pipeline.where("model", "weights")
    wanted = network.state_dict()
    if text == PACKAGE:
        network.load_state_dict(package_weights(network.sample_rate_hz, wanted))
        return WeightsSource(kind="folder", label=f"silero-vad {installed_release()}, {JIT_NAME}")
    if text == "seeded":
        raise ConfigError(
            "a VAD with random weights finds no speech, and the real ones are at hand",
            where=where,
            remedy=f"write weights: {PACKAGE}",
        )
    path = checkpoint_path(text, where)
    source = None
    if not path.is_file():
        source = resolve_weights(text, seed=pipeline.model.seed, where=where)
        path = _jit_in(source.folder or path, where)
    if path.suffix == ".safetensors":
        raise WeightsError(
            "the safetensors file of silero-vad holds other weights than load_silero_vad() runs: "
            "its probabilities differ by more than 0.5 on one of the golden recordings",
            where=where,
            remedy=f"give '{PACKAGE}' or a {JIT_NAME}",
        )
    state = file_weights(path, network.sample_rate_hz, wanted)
    load_strictly(network, state, where=str(path))
    return source or WeightsSource(kind="folder", label=text, folder=path.parent)


def _jit_in(folder: Path, where: str | None) -> Path:
    scripts = sorted(folder.rglob(JIT_NAME))
    if not scripts:
        raise WeightsError(
            f"there is no {JIT_NAME} in '{folder}'",
            where=where,
            remedy=f"give '{PACKAGE}', the file, or a folder that holds it",
        )
    return scripts[0]


def input_specs(network: SileroNetwork) -> tuple[TensorSpec, ...]:
    """Specs of waveform and state."""
    samples, unit = Axis(name="num_samples", minimum=1), f"samples at {network.sample_rate_hz} Hz"
    state, context = "h and c of the LSTM before the first frame", "samples before the first frame"
    size = network.context_samples
    return (
        TensorSpec.of("waveform", "float32", samples, unit=unit),
        TensorSpec.of("state", "float32", 2, 1, HIDDEN, unit=state, initial=0.0),
        TensorSpec.of("context", "float32", size, unit=context, initial=0.0),
    )


def output_specs(network: SileroNetwork) -> tuple[TensorSpec, ...]:
    """Specs of everything that the model returns."""
    frames = Axis(name="num_vad_frames", minimum=1)
    segments = Axis(name="num_segments", minimum=0)
    each, ends = f"probability per {network.frame_samples} samples", "start and end in samples"
    state, context = "state behind the last frame", "the last samples of the last frame"
    return (
        TensorSpec.of("speech_probs", "float32", frames, unit=each),
        TensorSpec.of("segments", "int64", segments, 2, discrete=True, unit=ends),
        TensorSpec.of("next_state", "float32", 2, 1, HIDDEN, unit=state),
        TensorSpec.of("next_context", "float32", network.context_samples, unit=context),
    )
