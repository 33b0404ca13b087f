"""Modules whose export holds a constant of the example, and modules with honest sizes."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from exporter.contracts import Target
from exporter.contracts.onnx_side import opened
from exporter.core.tensors import Axis
from tests.contracts.zoo.toy import Toy, features, frames, output, subject
from tests.support.target_from_module import draw_example

Y = output("batch", "time", 4)
INPUTS = frames()


class Two(nn.Module):
    """Linear, the part under test."""

    def __init__(self, part: nn.Module):
        super().__init__()
        self.before = nn.Linear(4, 4)
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return self.part(self.before(x))


class Heads(nn.Module):
    """Splits into heads; with a size that tracing takes for a constant, or one from the input."""

    def __init__(self, baked: bool):
        super().__init__()
        self.baked = baked

    def forward(self, x: Tensor) -> Tensor:
        time = int(x.shape[1]) if self.baked else x.shape[1]
        return x.reshape(x.shape[0], time, 2, 2).flip(-1).reshape(x.shape[0], time, 4)


class BakedMean(nn.Module):
    """Divides by the number of steps of the example."""

    def forward(self, x: Tensor) -> Tensor:
        count = float(int(x.shape[1]))
        return x - x.sum(1, keepdim=True) / count


class HonestMean(nn.Module):
    """Divides by the number of steps that there are."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(1, keepdim=True)


class Table(nn.Module):
    """Adds positions from a table that is made in Python while tracing."""

    def forward(self, x: Tensor) -> Tensor:
        import numpy as np

        table = torch.from_numpy(np.arange(int(x.shape[1]), dtype=np.float32))
        return x + table[:, None] * 0.1


class ShortTable(nn.Module):
    """Positions from a table of 40 rows, and an axis declared to be longer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(40, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table(torch.arange(x.shape[1]))


class BatchMask(nn.Module):
    """A mask for as many rows as the example had: SpeechBrain's ``len(length)``."""

    def forward(self, x: Tensor) -> Tensor:
        rows = int(x.shape[0])
        keep = torch.ones(rows, 1, 4)
        keep = keep.reshape(rows, 4)
        return (x.permute(1, 0, 2) * keep).permute(1, 0, 2)


class EvenOnly(nn.Module):
    """Pairs of steps: odd lengths do not run."""

    def forward(self, x: Tensor) -> Tensor:
        pairs = x.reshape(x.shape[0], -1, 2, 4)
        return pairs.flip(2).reshape(x.shape[0], -1, 4)


class WrongLength(nn.Module):
    """One step short of what is declared."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 1:]


class Strided(nn.Module):
    """Stride 2: lengths that are not multiples leave a remainder."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 4, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Pooled(nn.Module):
    """A vector per row."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(1)


class Positions(nn.Module):
    """Positions computed from the length."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.arange(x.shape[1], device=x.device, dtype=x.dtype)[:, None] * 0.1


class Recurrent(nn.Module):
    """An LSTM over time."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]


def traced(module: nn.Module, inputs=INPUTS, outputs=Y) -> Target:
    """A subject whose file was made by legacy tracing, which bakes without a word."""
    made = subject(module, inputs, outputs)
    folder = tempfile.TemporaryDirectory(prefix="export-verify-")
    path = Path(folder.name) / "traced.onnx"
    example = draw_example(inputs)
    axes = {
        spec.name: {k: size for k, size in enumerate(spec.shape) if isinstance(size, str)}
        for spec in (*inputs, *outputs)
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(example.values()),
            str(path),
            dynamo=False,
            input_names=list(example),
            output_names=[spec.name for spec in outputs],
            dynamic_axes=axes,
            opset_version=18,
            do_constant_folding=False,
        )
    side = opened(path)
    side._folder = folder  # keeps the file for as long as the subject
    made.onnx = side
    return made


def _exported(part, inputs=INPUTS, outputs=Y):
    return lambda: subject(Two(part()), inputs, outputs, with_onnx=True)


def _traced(part):
    return lambda: traced(Two(part()))


LONG = Axis(name="time", minimum=4, maximum=64)
TOYS = [
    Toy(
        name="reshape with the example's length, traced",
        broken=True,
        make=_traced(lambda: Heads(True)),
        torch="pass",
        onnx="fail",
        onnx_module="part",
        says="holds the constant",
    ),
    Toy(
        name="mean over the example's number of steps, traced (SpeechBrain 0.5.16)",
        broken=True,
        make=_traced(BakedMean),
        torch="pass",
        onnx="fail",
        onnx_module="part",
        says="holds the constant",
    ),
    Toy(
        name="table of positions made in Python, traced",
        broken=True,
        make=_traced(Table),
        torch="pass",
        onnx="fail",
        onnx_module="part",
        says="holds the constant",
    ),
    Toy(
        name="mask for the example's batch, traced (SpeechBrain's len(length))",
        broken=True,
        make=_traced(BatchMask),
        torch="pass",
        onnx="fail",
        onnx_module="part",
        says="holds the constant",
    ),
    Toy(
        name="table of 40 positions on an axis declared up to 64",
        broken=True,
        make=lambda: subject(Two(ShortTable()), frames(time=LONG), Y),
        torch="fail",
        module="part.table",
    ),
    Toy(
        name="lengths that must be even",
        broken=True,
        make=lambda: subject(Two(EvenOnly()), frames(), Y),
        torch="fail",
        module="part",
    ),
    Toy(
        name="output one step shorter than declared",
        broken=True,
        make=lambda: subject(Two(WrongLength()), frames(), Y),
        torch="fail",
        says="expected",
    ),
    Toy(
        name="mean over the steps that there are",
        broken=False,
        make=_exported(HonestMean),
        torch="pass",
        onnx="pass",
    ),
    Toy(
        name="heads split by the input's own size",
        broken=False,
        make=_exported(lambda: Heads(False)),
        torch="pass",
        onnx="pass",
    ),
    Toy(
        name="positions computed from the length",
        broken=False,
        make=_exported(Positions),
        torch="pass",
        onnx="pass",
    ),
    Toy(name="LSTM over time", broken=False, make=_exported(Recurrent), torch="pass", onnx="pass"),
    Toy(
        name="stride 2 with remainders",
        broken=False,
        make=lambda: subject(Strided(), features(), output("batch", 4, "half"), with_onnx=True),
        torch="pass",
        onnx="pass",
    ),
    Toy(
        name="one vector per row",
        broken=False,
        make=_exported(Pooled, outputs=output("batch", 4)),
        torch="pass",
        onnx="pass",
    ),
]
