"""Modules in which padding or neighbours leak, and modules that only look as if they did."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.contracts.zoo.toy import Masked, Toy, features, output, subject, with_lengths

Y = output("batch", 4, "time")
INPUTS = with_lengths(features())


class Conv(nn.Module):
    """A convolution over the masked input."""

    def __init__(self, masked: bool, mode: str = "constant"):
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 3)
        self.masked = masked
        self.mode = mode

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.masked:
            x = x * mask
        return self.conv(nn.functional.pad(x, (1, 1), mode=self.mode))


class Attention(nn.Module):
    """Self attention with a key mask; an additive one of -1e4 is what many models use."""

    def __init__(self, masked: bool, additive: bool = False):
        super().__init__()
        self.qkv = nn.Linear(4, 12)
        self.masked = masked
        self.additive = additive

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.qkv(x.transpose(1, 2)).split(4, dim=-1)
        scores = q @ k.transpose(1, 2)
        if self.additive:
            v = v * mask.transpose(1, 2)
            scores = torch.where(mask, scores, torch.tensor(-1e9))
        elif self.masked:
            scores = scores.masked_fill(~mask, float("-inf"))
        return (scores.softmax(-1) @ v).transpose(1, 2)


class Residual(nn.Module):
    """x + layer(x), as in an encoder block."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        normed = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return x + self.layer(normed, mask)


class DropsMask(nn.Module):
    """A container that keeps the mask to itself: its layer gets none."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.layer(x, torch.ones_like(mask))


class TimeNorm(nn.Module):
    """Mean over time: over the padded axis, or over the steps in use."""

    def __init__(self, masked: bool):
        super().__init__()
        self.masked = masked

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if not self.masked:
            return x - x.mean(-1, keepdim=True)
        kept = torch.where(mask, x, torch.zeros(()))
        return x - kept.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True)


class GuessedLength(nn.Module):
    """Takes what is not zero for the utterance, whatever the lengths say."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        used = (x.abs().sum(1, keepdim=True) != 0).to(x.dtype)
        return x - (x * used).sum(-1, keepdim=True) / used.sum(-1, keepdim=True)


class GuessAlone(nn.Module):
    """The same guess in a model that takes no lengths at all."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = _Guess()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class _Guess(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        used = (x.abs().sum(1, keepdim=True) != 0).to(x.dtype)
        return x - (x * used).sum(-1, keepdim=True) / used.sum(-1, keepdim=True)


class BatchStatistics(nn.Module):
    """BatchNorm, in eval or with the statistics of the batch."""

    def __init__(self, of_the_batch: bool):
        super().__init__()
        self.norm = nn.BatchNorm1d(4, track_running_stats=not of_the_batch)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.norm(x)


class Packed(nn.Module):
    """A bidirectional LSTM, told the lengths or not."""

    def __init__(self, packed: bool):
        super().__init__()
        self.lstm = nn.LSTM(4, 2, batch_first=True, bidirectional=True)
        self.packed = packed

    def forward(self, x: Tensor, x_lengths: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        if self.packed:
            held = nn.utils.rnn.pack_padded_sequence(
                x, x_lengths.cpu(), batch_first=True, enforce_sorted=False
            )
            found, _ = self.lstm(held)
            total = x.shape[1]
            x, _ = nn.utils.rnn.pad_packed_sequence(found, batch_first=True, total_length=total)
        else:
            x, _ = self.lstm(x)
        return x.transpose(1, 2)


class ReflectValid(nn.Module):
    """Reflects at the end of each utterance, not of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        lengths = mask.sum(-1)  # [B, 1]
        steps = torch.arange(-1, x.shape[2] + 1).expand(x.shape[0], -1)
        last = lengths - 1
        steps = torch.where(steps > last, 2 * last - steps, steps).abs()
        steps = steps.clamp(min=0, max=x.shape[2] - 1)
        return self.conv(x.gather(2, steps[:, None, :].expand(-1, 4, -1)))


class Stream(nn.Module):
    """A causal model without lengths: nothing behind the end is ever read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(nn.functional.pad(x, (2, 0)))


class CausalIgnoringLengths(nn.Module):
    """FSMN-like: ignores the lengths, and needs none, because it looks back only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 5)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.conv(nn.functional.pad(x, (4, 0)))


def _masked(*layers, with_onnx: bool = False):
    return lambda: subject(Masked(*(layer() for layer in layers)), INPUTS, Y, with_onnx=with_onnx)


def _plain(module, inputs=INPUTS, with_onnx: bool = False):
    return lambda: subject(module(), inputs, Y, with_onnx=with_onnx)


def good() -> nn.Module:
    """A block that masks as it should."""
    return Residual(Attention(masked=True))


TOYS = [
    Toy(
        name="attention that ignores the mask (Paraformer with lengths ignored)",
        broken=True,
        make=_masked(good, lambda: Residual(Attention(masked=False)), with_onnx=True),
        torch="fail",
        onnx="fail",
        module="layers.1.layer",
    ),
    Toy(
        name="convolution behind attention that reads padded steps (FSMN mask dropped)",
        broken=True,
        make=_masked(good, lambda: Residual(Conv(masked=False)), with_onnx=True),
        torch="fail",
        onnx="fail",
        module="layers.1.layer.conv",
        onnx_module="layers.1.layer",
    ),
    Toy(
        name="container that drops the mask silently",
        broken=True,
        make=_masked(good, lambda: DropsMask(Residual(Attention(masked=True)))),
        torch="fail",
        module="layers.1.layer.layer",
    ),
    Toy(
        name="normalisation over the padded axis",
        broken=True,
        make=_masked(good, lambda: TimeNorm(masked=False)),
        torch="fail",
        module="layers.1",
    ),
    Toy(
        name="length guessed from x != 0 although lengths are given",
        broken=True,
        make=_masked(good, GuessedLength),
        torch="fail",
        module="layers.1",
    ),
    Toy(
        name="length guessed from x != 0 in a model without lengths",
        broken=True,
        make=_plain(GuessAlone, features()),
        torch="fail",
        module="inner",
    ),
    Toy(
        name="BatchNorm with the statistics of the batch",
        broken=True,
        make=_masked(good, lambda: BatchStatistics(True)),
        torch="fail",
        module="layers.1.norm",
    ),
    Toy(
        name="bidirectional LSTM that is not told the lengths",
        broken=True,
        make=_plain(lambda: Packed(False)),
        torch="fail",
        module="lstm",
    ),
    Toy(
        name="masked attention and masked convolution",
        broken=False,
        make=_masked(good, lambda: Residual(Conv(masked=True)), with_onnx=True),
        torch="pass",
        onnx="pass",
    ),
    Toy(
        name="additive mask of -1e9",
        broken=False,
        make=_masked(good, lambda: Residual(Attention(True, additive=True))),
        torch="pass",
    ),
    Toy(
        name="BatchNorm in eval",
        broken=False,
        make=_masked(good, lambda: BatchStatistics(False)),
        torch="pass",
    ),
    Toy(
        name="reflection at the end of each utterance",
        broken=False,
        make=_masked(good, ReflectValid),
        torch="pass",
    ),
    Toy(
        name="mean over the steps in use",
        broken=False,
        make=_masked(good, lambda: TimeNorm(masked=True)),
        torch="pass",
    ),
    Toy(
        name="packed bidirectional LSTM",
        broken=False,
        make=_plain(lambda: Packed(True)),
        torch="pass",
    ),
    Toy(
        name="causal memory that ignores the lengths (FSMN-VAD)",
        broken=False,
        make=_masked(CausalIgnoringLengths),
        torch="pass",
    ),
    Toy(
        name="causal convolution without lengths, padded all the same",
        broken=False,
        make=_plain(Stream, features(), with_onnx=True),
        settings={"without_lengths": True},
        torch="pass",
        onnx="pass",
    ),
    Toy(
        name="causal convolution without lengths, batches of one length",
        broken=False,
        make=_plain(Stream, features()),
        torch="pass",
    ),
]
