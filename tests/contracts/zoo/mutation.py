"""Modules that write where they should not, and modules that write on purpose or to their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.contracts.zoo.toy import Toy, frames, output, subject

Y = output("batch", "time", 4)


class Normaliser(nn.Module):
    """Subtracts the mean, in place: SpeechBrain's InputNormalization before 1.0.1."""

    def forward(self, x: Tensor, device: str = "cpu") -> Tensor:
        x = x.to(device)  # a copy on another device, the caller's own memory here
        for row in range(x.shape[0]):
            x[row] = x[row] - x[row].mean(0)
        return x * 1.0


class CopyingNormaliser(nn.Module):
    """The same on a clone."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        for row in range(x.shape[0]):
            x[row] = x[row] - x[row].mean(0)
        return x


class Scale(nn.Module):
    """In-place arithmetic on what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        x *= 2.0
        return x + 0.0


class Clamp(nn.Module):
    """Writes what is there already: no value changes, and yet it writes."""

    def forward(self, x: Tensor) -> Tensor:
        x.clamp_(-1e9, 1e9)
        return x + 1.0


class ThroughNumpy(nn.Module):
    """Writes through numpy, which no version counter sees."""

    def forward(self, x: Tensor) -> Tensor:
        x.numpy()[:, 0] = 0.0
        return x + 1.0


class ShapeOfView(nn.Module):
    """Changes the shape of views in place, with every op that does so; writes no value."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.transpose(1, 2).unsqueeze_(1)
        y = y.squeeze_(1).transpose_(1, 2).swapaxes_(1, 2)
        y = y[0].t_()
        return x + y + x.detach().as_strided_((4,), (1,)) * 0.0


class ShapeOfInput(nn.Module):
    """Changes the shape of the caller's own tensor, and writes no value."""

    def __init__(self, op: str, *args: int):
        super().__init__()
        self.op, self.args = op, args

    def forward(self, x: Tensor) -> Tensor:
        shape = x.shape
        return getattr(x, self.op)(*self.args).reshape(shape) * 1.0


class WriteThroughReshapedView(nn.Module):
    """A shape that is changed in place on a view, then a write through that view."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.transpose(1, 2).unsqueeze_(1)
        y.mul_(1.0)
        return x + 0.0


class Counter(nn.Module):
    """A buffer that counts calls and enters the result."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1.0)
        return x + self.calls * 0.1


class RunningMean(nn.Module):
    """A buffer that is replaced by another tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.mean((0, 1))
        return x - self.mean


class Renormalised(nn.Module):
    """Normalises its own weights while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data.div_(self.weight.data.norm())
        return x @ self.weight


class KvCache(nn.Module):
    """Attention over a cache that is written on purpose; ``length`` is how much is in it."""

    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Linear(4, 4)
        self.register_buffer("cache", torch.zeros(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        self.cache[:2] = self.key(x)[0, :2]
        return x + self.cache.sum(0)


class OwnTemporary(nn.Module):
    """Activations in place on results of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.linear(x))
        y[:, 0] += 1.0
        return y.mul_(2.0)


class Norms(nn.Module):
    """BatchNorm in eval."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


class View(nn.Module):
    """Returns views of its input, and expands it; nothing is written."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(0, 1).contiguous().transpose(0, 1) + x.expand(-1, -1, 4)


class Memo(nn.Module):
    """Keeps a table that depends on nothing but the length."""

    def __init__(self) -> None:
        super().__init__()
        self.table: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None or self.table.shape[0] != x.shape[1]:
            self.table = torch.arange(x.shape[1], dtype=x.dtype)[:, None]
        return x + self.table


class Front(nn.Module):
    """A linear layer, then the part under test, which gets the caller's input or a result."""

    def __init__(self, part: nn.Module, *, first: bool = True):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.part = part
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.part(x)) if self.first else self.part(self.linear(x))


def _make(part, first: bool = True, with_onnx: bool = False, seed: bool = True):
    return lambda: subject(Front(part(), first=first), frames(), Y, with_onnx=with_onnx, seed=seed)


TOYS = [
    Toy(
        name="normaliser that writes into the caller's features (SpeechBrain issue 2390)",
        broken=True,
        make=_make(Normaliser),
        torch="fail",
        module="part",
        says="input 'x'",
    ),
    Toy(
        name="in-place arithmetic on the input",
        broken=True,
        make=_make(Scale),
        torch="fail",
        module="part",
        says="input 'x'",
    ),
    Toy(
        name="write of the values that are there already",
        broken=True,
        make=_make(Clamp),
        torch="fail",
        module="part",
        says="with the values that it had",
    ),
    Toy(
        name="write through numpy, past the version counter",
        broken=True,
        make=_make(ThroughNumpy),
        torch="fail",
        module="part",
        says="past the version counter",
    ),
    Toy(
        name="buffer that counts calls",
        broken=True,
        make=_make(Counter, with_onnx=True),
        torch="fail",
        onnx="fail",
        module="part",
        says="part.calls",
    ),
    Toy(
        name="buffer that is replaced by another tensor",
        broken=True,
        make=_make(RunningMean, with_onnx=True),
        torch="fail",
        onnx="fail",
        module="part",
        says="part.mean",
    ),
    Toy(
        name="parameter that is normalised in forward",
        broken=True,
        make=_make(Renormalised),
        torch="fail",
        module="part",
        says="part.weight",
    ),
    Toy(
        name="declared KV cache whose writes the export drops (MetaVoice)",
        broken=True,
        make=_make(KvCache, with_onnx=True),
        settings={"caches": ["part.cache"]},
        torch="pass",
        onnx="fail",
        module="part",
        says="drops a write",
    ),
    Toy(
        name="declared KV cache, its loss accepted",
        broken=False,
        make=_make(KvCache),
        settings={"caches": ["*.cache"]},
        torch="pass",
    ),
    Toy(name="normalisation of a clone", broken=False, make=_make(CopyingNormaliser), torch="pass"),
    Toy(
        name="in-place ops on own results",
        broken=False,
        make=_make(OwnTemporary, with_onnx=True),
        torch="pass",
        onnx="pass",
    ),
    Toy(
        name="normaliser in place behind a layer: nobody's input",
        broken=False,
        make=_make(Normaliser, first=False),
        torch="pass",
    ),
    Toy(
        name="BatchNorm in eval",
        broken=False,
        make=_make(Norms, with_onnx=True),
        torch="pass",
        onnx="pass",
    ),
    Toy(name="views and expansions of the input", broken=False, make=_make(View), torch="pass"),
    Toy(name="table kept between calls", broken=False, make=_make(Memo), torch="pass"),
    Toy(
        name="shape of views changed in place",
        broken=False,
        make=_make(ShapeOfView),
        torch="pass",
    ),
    Toy(
        name="unsqueeze_ on the caller's own tensor",
        broken=True,
        make=_make(lambda: ShapeOfInput("unsqueeze_", 1), first=True),
        torch="fail",
        module="part",
        says="its shape was changed in place",
    ),
    Toy(
        name="transpose_ on the caller's own tensor",
        broken=True,
        make=_make(lambda: ShapeOfInput("transpose_", 1, 2), first=True),
        torch="fail",
        module="part",
        says="its shape was changed in place",
    ),
    Toy(
        name="write of equal values through a view whose shape was changed in place",
        broken=True,
        make=_make(WriteThroughReshapedView, first=True),
        torch="fail",
        module="part",
        says="with the values that it had",
    ),
]
