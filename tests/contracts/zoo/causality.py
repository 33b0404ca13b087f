"""Modules that see the future, and modules that only look as if they did."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exporter.core.tensors import Axis, TensorSpec
from tests.contracts.zoo.toy import Conv, Stack, Toy, features, frames, output, subject

Y = output("batch", 4, "time")
Y_FRAMES = output("batch", "time", 4)


class Fsmn(nn.Module):
    """A memory block: a weak depthwise convolution beside the identity."""

    def __init__(self, left: int, right: int, gain: float):
        super().__init__()
        self.memory = Conv(4, left + right + 1, left, right)
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gain * self.memory(x)


class Attention(nn.Module):
    """Self attention over [B, T, C]; ``allowed`` says which offsets a query may see."""

    def __init__(self, future: int | None):
        super().__init__()
        self.qkv = nn.Linear(4, 12)
        self.future = future

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).split(4, dim=-1)
        scores = q @ k.transpose(1, 2) / 2.0
        if self.future is not None:
            steps = torch.arange(x.shape[1], device=x.device)
            hidden = steps[None, :] > steps[:, None] + self.future
            scores = scores.masked_fill(hidden, float("-inf"))
        return scores.softmax(-1) @ v


class Upsample(nn.Module):
    """A transposed convolution of stride 2; the tail is trimmed right, left or not at all."""

    def __init__(self, trim: str):
        super().__init__()
        self.up = nn.ConvTranspose1d(4, 4, 4, stride=2)
        self.trim = trim

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(x)
        if self.trim == "right":
            return y[..., : y.shape[-1] - 2]
        if self.trim == "left":
            return y[..., 2:]
        return y


class LengthDependent(nn.Module):
    """A convolution that rounds its operands to TF32 where the input is long: what a backend
    does that picks its algorithm by length (the stand-in for cuDNN)."""

    def __init__(self, threshold: int):
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 3)
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.pad(x, (2, 0))
        weight = self.conv.weight
        if x.dtype == torch.float32 and x.shape[-1] >= self.threshold:
            x, weight = tf32(x), tf32(weight)
        return nn.functional.conv1d(x, weight, self.conv.bias)


def tf32(value: Tensor) -> Tensor:
    """Keep ten bits of the significand."""
    bits = value.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


class NormOverTime(nn.Module):
    """Mean over the whole input, subtracted from every step."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(-1, keepdim=True)


class PeakScale(nn.Module):
    """Divides by the loudest step of all; the maximum is detached, so no gradient tells."""

    def forward(self, x: Tensor) -> Tensor:
        return x / x.detach().abs().amax((1, 2), keepdim=True).clamp(min=1e-3)


class ByLength(nn.Module):
    """Scales by the length of the input: no value of the future is read, and yet."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.shape[-1] ** -0.5)


class CumulativeNorm(nn.Module):
    """Mean over the past only."""

    def forward(self, x: Tensor) -> Tensor:
        count = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
        return x - x.cumsum(-1) / count


class Recurrent(nn.Module):
    """An LSTM over [B, T, C]."""

    def __init__(self, bidirectional: bool):
        super().__init__()
        width = 2 if bidirectional else 4
        self.lstm = nn.LSTM(4, width, batch_first=True, bidirectional=bidirectional)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]


class Frames(nn.Module):
    """Frames of 4 samples, hop 2, no padding: a frame exists once all of its samples do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 4, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Stream(nn.Module):
    """A causal convolution that takes and returns its left context."""

    def __init__(self, keep: int):
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 3)
        self.keep = keep

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat([context, x], dim=-1)
        kept = joined[..., -2:]
        if self.keep < 2:
            kept = torch.cat([torch.zeros_like(kept[..., : 2 - self.keep]), kept[..., -1:]], -1)
        return self.conv(joined), kept * 1.0


def _stream(keep: int, with_onnx: bool = False):
    one = Axis(name="time", minimum=1)
    inputs = (
        TensorSpec(name="x", dtype="float32", shape=(1, 4, "time"), axes=(one,)),
        TensorSpec(name="context", dtype="float32", shape=(1, 4, 2)),
    )
    outputs = (*output(1, 4, "time"), *output(1, 4, 2, name="next_context"))
    return lambda: subject(Stream(keep), inputs, outputs, with_onnx=with_onnx)


STREAMING = {"streaming": {"state": {"context": "next_context"}, "chunks": [1, 3, 5]}}


def _features(module, with_onnx: bool = False, out: tuple[TensorSpec, ...] = Y):
    return lambda: subject(module(), features(), out, with_onnx=with_onnx)


def _frames(module, with_onnx: bool = False):
    return lambda: subject(module(), frames(), Y_FRAMES, with_onnx=with_onnx)


def _blocks(*pads: tuple[int, int]):
    return lambda: Stack(*(Conv(4, 3, *pad) for pad in pads))


TOYS = [
    Toy(
        name="symmetric padding in one of three convolutions",
        broken=True,
        make=_features(_blocks((2, 0), (1, 1), (2, 0)), with_onnx=True),
        torch="fail",
        onnx="fail",
        module="layers.1.conv",
        says="really not causal",
    ),
    Toy(
        name="FSMN with one step of right order, weak (1e-4)",
        broken=True,
        make=_features(lambda: Stack(Fsmn(3, 0, 1e-4), Fsmn(3, 1, 1e-4)), with_onnx=True),
        torch="fail",
        onnx="fail",
        module="layers.1.memory.conv",
        says="1 step ahead",
    ),
    Toy(
        name="transposed convolution trimmed on the wrong side",
        broken=True,
        make=_features(
            lambda: Stack(Conv(4, 3, 2, 0), Upsample("left")), out=output("batch", 4, "twice")
        ),
        torch="fail",
        module="layers.1",
        says="really not causal",
    ),
    Toy(
        name="convolution that switches to TF32 when the input is long (Moshi's cuDNN numerics)",
        broken=True,
        make=_features(lambda: Stack(Conv(4, 3, 2, 0), LengthDependent(16), Conv(4, 3, 2, 0))),
        torch="fail",
        module="layers.1",
        says="numerics of the convolution backend",
    ),
    Toy(
        name="attention with a mask that lets two future steps through",
        broken=True,
        make=_frames(lambda: Stack(Attention(0), Attention(2)), with_onnx=True),
        torch="fail",
        onnx="fail",
        module="layers.1",
        says="2 steps ahead",
    ),
    Toy(
        name="normalisation over the whole input",
        broken=True,
        make=_features(lambda: Stack(Conv(4, 3, 2, 0), NormOverTime())),
        torch="fail",
        module="layers.1",
        says="really not causal",
    ),
    Toy(
        name="loudness by the peak of all steps, detached from the gradient",
        broken=True,
        make=_features(lambda: Stack(Conv(4, 3, 2, 0), PeakScale())),
        torch="fail",
        module="layers.1",
        says="really not causal",
    ),
    Toy(
        name="scaling by the length of the input",
        broken=True,
        make=_features(lambda: Stack(Conv(4, 3, 2, 0), ByLength())),
        torch="fail",
        module="layers.1",
        says="depends on how long the input is",
    ),
    Toy(
        name="bidirectional LSTM",
        broken=True,
        make=_frames(lambda: Stack(Recurrent(False), Recurrent(True))),
        torch="fail",
        module="layers.1.lstm",
        says="really not causal",
    ),
    Toy(
        name="stream that forgets a sample of context between chunks",
        broken=True,
        make=_stream(1, with_onnx=True),
        settings=STREAMING,
        torch="fail",
        onnx="fail",
        says="chunks of",
    ),
    Toy(
        name="lookahead of two steps, declared",
        broken=False,
        make=_features(_blocks((2, 0), (1, 1), (1, 1)), with_onnx=True),
        settings={"lookahead_samples": 2},
        torch="pass",
        onnx="pass",
    ),
    Toy(
        name="causal convolutions with an inner left pad",
        broken=False,
        make=_features(_blocks((2, 0), (2, 0), (2, 0)), with_onnx=True),
        torch="pass",
        onnx="pass",
    ),
    Toy(
        name="raw transposed convolution: its tail is still open",
        broken=False,
        make=_features(
            lambda: Stack(Conv(4, 3, 2, 0), Upsample("none")), out=output("batch", 4, "twice")
        ),
        torch="pass",
    ),
    Toy(
        name="transposed convolution trimmed on the right",
        broken=False,
        make=_features(
            lambda: Stack(Upsample("right"), Conv(4, 3, 2, 0)),
            out=output("batch", 4, "twice"),
            with_onnx=True,
        ),
        torch="pass",
        onnx="pass",
    ),
    Toy(
        name="causal attention with -inf in its mask",
        broken=False,
        make=_frames(lambda: Stack(Attention(0), Attention(0)), with_onnx=True),
        torch="pass",
        onnx="pass",
    ),
    Toy(
        name="cumulative normalisation",
        broken=False,
        make=_features(lambda: Stack(Conv(4, 3, 2, 0), CumulativeNorm())),
        torch="pass",
    ),
    Toy(
        name="one-way LSTM",
        broken=False,
        make=_frames(lambda: Stack(Recurrent(False))),
        torch="pass",
    ),
    Toy(
        name="frames without padding, stride 2",
        broken=False,
        make=_features(lambda: Stack(Frames(), Conv(4, 3, 2, 0)), out=output("batch", 4, "half")),
        torch="pass",
    ),
    Toy(
        name="causal padding with reflection of the past",
        broken=False,
        make=_features(lambda: Stack(Conv(4, 3, 2, 0, mode="reflect"))),
        torch="pass",
    ),
    Toy(
        name="stream that hands over its context",
        broken=False,
        make=_stream(2, with_onnx=True),
        settings=STREAMING,
        torch="pass",
        onnx="pass",
    ),
]
