"""Streams that remember what they were not handed, lose what they were, or outgrow it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from exporter.contracts import Target
from exporter.core.tensors import TensorSpec
from tests.contracts.zoo.toy import Toy, output, subject

STEPS, WIDTH = 6, 4


class Context(nn.Module):
    """A causal convolution whose left context goes in and comes out; ``reads``: how much counts."""

    def __init__(self, reads: float = 1.0):
        super().__init__()
        self.conv = nn.Conv1d(WIDTH, WIDTH, 3)
        self.reads = reads

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat([state * self.reads, x], dim=-1)
        return self.conv(joined), joined[..., -2:] * 1.0


class Remembers(Context):
    """Keeps the loudest level of all calls in a buffer, beside its state."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("peak", torch.zeros(()))
        self.peak: Tensor

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        self.peak.copy_(torch.maximum(self.peak, x.abs().max()))
        y, state = super().forward(x, state)
        return y / (1.0 + self.peak), state


class Counts(Context):
    """Its first call is another one than those behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        y, state = super().forward(x, state)
        return (y if self.calls > 1 else y * 0.5), state


class Memoises(Context):
    """Keeps a window that depends on nothing that was said: made in the first call."""

    def __init__(self) -> None:
        super().__init__()
        self.window: Tensor | None = None

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        if self.window is None:
            self.window = torch.hann_window(STEPS + 2, periodic=False)[1:-1]
        y, state = super().forward(x, state)
        return y * self.window, state


class Wider(Context):
    """Hands its context on in float64."""

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y, state = super().forward(x, state)
        return y, state.double()


class Grows(Context):
    """Hands on one step more than it has taken."""

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y, _ = super().forward(x, state)
        return y, torch.cat([state, x], dim=-1)[..., -3:] * 1.0


class Level(nn.Module):
    """A level that follows the signal: ``gain`` above 1 has no end."""

    def __init__(self, gain: float):
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = self.gain * state + x.abs().mean(-1, keepdim=True).expand(-1, -1, 2)
        return x / (1e-3 + state[..., :1].abs()), state * 1.0


class Cell(nn.Module):
    """A recurrent cell, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(WIDTH, WIDTH)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        held, found = state[0].t(), []
        for step in range(STEPS):
            held = self.cell(x[0, :, step : step + 1].t().expand(2, -1), held)
            found.append(held[0])
        return torch.stack(found, -1)[None], held.t()[None] * 1.0


def _stream(make: Callable[[], nn.Module], *, with_onnx: bool = False) -> Callable[[], Target]:
    inputs = (
        TensorSpec(name="x", dtype="float32", shape=(1, WIDTH, STEPS)),
        TensorSpec(name="state", dtype="float32", shape=(1, WIDTH, 2)),
    )
    outputs = (*output(1, WIDTH, STEPS), *output(1, WIDTH, 2, name="next_state"))
    states = {"next_state": "state"}
    return lambda: subject(make(), inputs, outputs, with_onnx=with_onnx, states=states)


TOYS = [
    Toy(
        name="loudest level of all calls, kept in a buffer",
        broken=True,
        make=_stream(Remembers),
        torch="fail",
        says="behind another utterance",
    ),
    Toy(
        name="first call of all is another one",
        broken=True,
        make=_stream(Counts),
        torch="fail",
        says="behind another utterance",
    ),
    Toy(
        name="context that is handed over and not read",
        broken=True,
        make=_stream(lambda: Context(reads=0.0), with_onnx=True),
        torch="fail",
        onnx="fail",
        says="changes no output",
    ),
    Toy(
        name="context that comes out in float64",
        broken=True,
        make=_stream(Wider),
        torch="fail",
        says="does not run",
    ),
    Toy(
        name="context that comes out one step longer",
        broken=True,
        make=_stream(Grows),
        torch="fail",
        says="comes out as [1, 4, 3]",
    ),
    Toy(
        name="level that grows tenfold a call",
        broken=True,
        make=_stream(lambda: Level(10.0), with_onnx=True),
        torch="fail",
        onnx="fail",
        says="in a long stream",
    ),
    Toy(
        name="convolution that hands over its context",
        broken=False,
        make=_stream(Context, with_onnx=True),
        torch="pass",
        onnx="pass",
    ),
    Toy(
        name="window made in the first call and kept",
        broken=False,
        make=_stream(Memoises),
        torch="pass",
    ),
    Toy(
        name="level that forgets",
        broken=False,
        make=_stream(lambda: Level(0.9), with_onnx=True),
        torch="pass",
        onnx="pass",
    ),
    Toy(
        name="recurrent cell",
        broken=False,
        make=_stream(Cell),
        torch="pass",
    ),
]
