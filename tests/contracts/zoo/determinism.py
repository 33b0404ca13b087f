"""Modules that draw, remember or mix, and modules that only look as if they did."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.contracts.zoo.toy import Toy, frames, output, subject

Y = output("batch", "time", 4)


class Two(nn.Module):
    """Linear, the part under test, linear."""

    def __init__(self, part: nn.Module):
        super().__init__()
        self.before = nn.Linear(4, 4)
        self.part = part
        self.after = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.part(self.before(x)))


class Dropout(nn.Module):
    """Dropout that forgot to ask whether it trains."""

    def __init__(self, training: bool):
        super().__init__()
        self.always = training

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5, training=self.always)


class Dither(nn.Module):
    """Noise on the features, as Kaldi's fbank has by default."""

    def __init__(self, dither: float):
        super().__init__()
        self.dither = dither

    def forward(self, x: Tensor) -> Tensor:
        if self.dither:
            x = x + self.dither * torch.randn_like(x)
        return x


class KeptState(nn.Module):
    """An LSTM that goes on where the last call ended."""

    def __init__(self, keep: bool):
        super().__init__()
        self.lstm = nn.LSTM(4, 4, batch_first=True)
        self.state: tuple[Tensor, Tensor] | None = None
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        y, state = self.lstm(x, self.state)
        if self.keep:
            self.state = state
        return y


class Peak(nn.Module):
    """Remembers the loudest input of all calls."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("loudest", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.loudest.copy_(torch.maximum(self.loudest, x.abs().max()))
        return x / (1.0 + self.loudest)


class OverBatch(nn.Module):
    """Mixes each row with the one before it."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * x.roll(1, dims=0)


class Seeded(nn.Module):
    """Noise from a generator of its own, seeded in each call."""

    def forward(self, x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        return x + torch.randn(4, generator=generator)


class NoisyFallback(nn.Module):
    """Draws a tie-break so small that nothing moves."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.0 * torch.rand(4)


class Cached(nn.Module):
    """A declared cache that the caller resets."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("context", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.context
        self.context.copy_(x[0, -1])
        return y


class Memo(nn.Module):
    """A table kept between calls, a function of the length alone."""

    def __init__(self) -> None:
        super().__init__()
        self.table: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None or self.table.shape[0] != x.shape[1]:
            self.table = torch.arange(x.shape[1], dtype=x.dtype)[:, None] / 10
        return x + self.table


def _make(part, with_onnx: bool = False, wrap: bool = True):
    return lambda: subject(Two(part()) if wrap else part(), frames(), Y, with_onnx=with_onnx)


TOYS = [
    Toy(
        name="dropout that is always on",
        broken=True,
        make=_make(lambda: Dropout(True), with_onnx=True),
        torch="fail",
        onnx="fail",
        module="part",
    ),
    Toy(
        name="dither on the features (FunASR's front end by default)",
        broken=True,
        make=_make(lambda: Dither(0.01), with_onnx=True),
        torch="fail",
        onnx="fail",
        module="part",
    ),
    Toy(
        name="LSTM state kept between calls",
        broken=True,
        make=_make(lambda: KeptState(True)),
        torch="fail",
        module="part.lstm",
    ),
    Toy(
        name="loudest input of all calls is remembered",
        broken=True,
        make=_make(Peak),
        torch="fail",
        module="part",
    ),
    Toy(
        name="rows of a batch mixed with their neighbours",
        broken=True,
        make=_make(OverBatch),
        torch="fail",
        module="part",
    ),
    Toy(
        name="dropout in eval",
        broken=False,
        make=_make(lambda: Dropout(False), with_onnx=True),
        torch="pass",
        onnx="pass",
    ),
    Toy(name="dither of zero", broken=False, make=_make(lambda: Dither(0.0)), torch="pass"),
    Toy(
        name="LSTM that starts anew",
        broken=False,
        make=_make(lambda: KeptState(False), with_onnx=True),
        torch="pass",
        onnx="pass",
    ),
    Toy(
        name="noise from a generator seeded in each call",
        broken=False,
        make=_make(Seeded),
        torch="pass",
    ),
    Toy(
        name="random numbers without effect", broken=False, make=_make(NoisyFallback), torch="pass"
    ),
    Toy(
        name="declared cache that the caller resets",
        broken=False,
        make=_make(Cached),
        settings={"caches": ["*.context"]},
        torch="pass",
    ),
    Toy(name="table kept between calls", broken=False, make=_make(Memo), torch="pass"),
]
