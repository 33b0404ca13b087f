"""Small models of what people bring: each stands for a kind; ``table.py`` says what is right."""

import dataclasses

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

W = 24  # width


class Exporting(nn.Module):
    """Takes another path while it is exported, as several upstream packages do."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(W, W)

    def forward(self, x):
        y = self.mix(x)
        return 1.25 * y if torch.compiler.is_exporting() else y


class Resampled(nn.Module):
    """Asks for a size that is computed from the input's; a plain capture freezes it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(W, W, 5, padding=2)

    def forward(self, x):  # [B, T, W]
        y = F.interpolate(
            x.transpose(1, 2), size=int(1.3 * x.shape[1]), mode="linear", align_corners=True
        )
        return self.conv(y).amax(-1)


class OddLength(nn.Module):
    """Another result when the length is no multiple of 4; the example's is one (or is not)."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(W, W)

    def forward(self, x):
        y = self.mix(x)
        return y if x.shape[1] % 4 == 0 else -y


class LongSum(nn.Module):
    """A phase: the running sum over a long axis. Healthy; kernels add up in different orders."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(W, 1)

    def forward(self, x):
        return torch.sin(torch.cumsum(0.05 * torch.sigmoid(self.mix(x)).squeeze(-1), 1))


class LongNorm(nn.Module):
    """One group over a long axis, behind a relu: the mean is large beside the spread."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, W, 16, stride=8)
        self.norm = nn.GroupNorm(1, W)

    def forward(self, x):
        return self.norm(F.relu(self.conv(x[:, None])) + 2)


class Allocated(nn.Module):
    """Allocates, then fills: the allocation is nobody's value."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(W, W)

    def forward(self, x):
        table = torch.empty(x.shape[1], W)
        step = torch.arange(x.shape[1], dtype=torch.float32)[:, None] / torch.arange(1, W // 2 + 1)
        table[:, ::2], table[:, 1::2] = step.sin(), step.cos()
        return self.mix(x) + table


class Reshaped(nn.Module):
    """Changes the shape of its view in place; writes no value."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)

    def forward(self, x):
        return self.conv(x.transpose(1, 2).unsqueeze_(1))


class Spectrum(nn.Module):
    """A complex value inside, real outside."""

    def __init__(self, n_fft=400):
        super().__init__()
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft))

    def forward(self, x):  # [B, samples]
        z = torch.stft(
            x, self.n_fft, self.n_fft // 4, window=self.window, center=False, return_complex=True
        )
        return torch.log1p(z.abs().square().sum(1))


class Tied(nn.Module):
    """The largest three of values with ties: which of equals comes first is nobody's promise."""

    def forward(self, x):
        v, i = torch.topk(torch.round(x), 3, dim=1)
        return v, i


class LengthItem(nn.Module):
    """Reads the longest length as a number."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(W, W)

    def forward(self, x, x_lengths):
        longest = int(x_lengths.max())
        keep = torch.arange(longest)[None, :] < x_lengths[:, None]
        return self.mix(x[:, :longest]) * keep[..., None]


class CountOfTensor(nn.Module):
    """len() of a tensor."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(W, W)

    def forward(self, x, x_lengths):
        steps = torch.arange(x.shape[1]).repeat(len(x_lengths), 1)
        return self.mix(x) * (steps < x_lengths.unsqueeze(-1)).unsqueeze(-1)


class KeptTable(nn.Module):
    """A table on the module that grows when a longer input comes."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(W, W)
        self.table = None

    def forward(self, x):
        if self.table is None or self.table.shape[0] < x.shape[1]:
            at = torch.arange(x.shape[1], dtype=torch.float32)
            self.table = -0.1 * (at[:, None] - at[None]).abs()
        y = self.mix(x)
        return torch.softmax(y @ y.mT + self.table[: x.shape[1], : x.shape[1]], -1) @ y


class Positions(nn.Module):
    """Learned positions behind a stride: every size up to 40 steps is fine."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, W, 10, stride=5)
        self.place = nn.Parameter(torch.randn(40, W))

    def forward(self, x):
        y = self.conv(x[:, None]).mT
        return y + self.place[: y.shape[1]]


class Lists(nn.Module):
    """Caches come and go as a list, as streaming encoders have them."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(W, W)

    def forward(self, x, caches):
        new = [(0.5 * c + x.mean(1)) for c in caches]
        return self.mix(x) + sum(new)[:, None], new


class Loop(nn.Module):
    """A loop that ends when the data say so."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(W, W)

    def forward(self, x):
        def step(n, y):
            return n + 1, torch.tanh(self.mix(y))

        return torch._higher_order_ops.while_loop(lambda n, y: n < 3, step, (torch.tensor(0), x))[1]


class Through(nn.Module):
    """Hands its input on beside its result, and its result twice."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(W, W)

    def forward(self, x):
        y = self.mix(x)
        return {"same": x, "y": y, "again": y}


class Encoder(nn.Module):
    """torch's own encoder, with a padding mask."""

    def __init__(self):
        super().__init__()
        self.net = nn.TransformerEncoder(nn.TransformerEncoderLayer(W, 4, 48, batch_first=True), 2)

    def forward(self, x, x_lengths):
        return self.net(
            x, src_key_padding_mask=torch.arange(x.shape[1])[None] >= x_lengths[:, None]
        )


class Capped(nn.Module):
    """An embedding that renormalises its rows as it is read."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, W, max_norm=1.0)
        self.mix = nn.Linear(W, W)

    def forward(self, x):
        return self.mix(self.table((x * 10).long().clamp(0, 49)[..., 0]))


class Stored(nn.Module):
    """bfloat16 weights, cast where they are used."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(W, W).bfloat16())

    def forward(self, x):
        return x @ self.w.float()


class Flattened(nn.Module):
    """Rows flattened for a product and shaped back, twice; a simplifier drops the way back."""

    def __init__(self):
        super().__init__()
        self.a, self.b = (
            nn.Parameter(torch.randn(W, 2 * W) / 5),
            nn.Parameter(torch.randn(2 * W, W) / 5),
        )

    @staticmethod
    def rows(x, w):
        return torch.addmm(torch.zeros(w.shape[1]), x.view(-1, x.shape[-1]), w).view(
            *x.shape[:-1], w.shape[1]
        )

    def forward(self, x):
        return self.rows(torch.tanh(self.rows(x, self.a)), self.b)


class OneStep(nn.Module):
    """At the traced size an axis has one element; right at every size."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(W, W, 8, stride=8)
        self.mix = nn.Linear(W, W)

    def forward(self, x):
        return self.mix(self.conv(x.mT).mT)


class SqueezeNothing(nn.Module):
    """squeeze() of an axis of several elements changes nothing, and is an error in ONNX."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)

    def forward(self, x):
        return self.conv(x[:, None]).squeeze(1)


@dataclasses.dataclass
class State:
    """Of one layer."""

    h: torch.Tensor
    c: torch.Tensor


@dataclasses.dataclass
class States:
    """Of all layers: records inside of a record."""

    first: State
    others: list[State]


class Kept:
    """A class of one's own, neither a dataclass nor a dict."""

    def __init__(self, left, right):
        self.left, self.right = left, right


class Records(nn.Module):
    """States in records of records, and in a class of one's own; an argument without a name."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(W, W)

    def forward(self, x, states: States, kept: Kept | None = None, **others):
        y = self.mix(x).mean(1) + states.first.h + others["bias"]
        layers = [State(0.5 * each.h + y, each.c + 1) for each in states.others]
        if kept is None:
            return y
        return y, States(State(y, states.first.c), layers), kept.left + kept.right


class Numbers(nn.Module):
    """Numbers of Python among the results, and scalars, int32 and bool all the way."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(W, W)

    def forward(self, x, gain, lengths, keep):
        steps = torch.arange(x.shape[1], dtype=torch.int32)
        inside = (steps < lengths[:, None]) & keep
        y = gain * self.mix(x) * inside[..., None]
        return {"y": y, "inside": inside, "left": lengths - 1, "frames": x.shape[1], "none": None}


class Complex(nn.Module):
    """Complex numbers in and out, as a spectrum is."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(W, W)

    def forward(self, spectrum):
        turned = spectrum * torch.polar(torch.ones(W), torch.arange(W) * 0.1)
        return {"turned": turned.conj(), "size": self.mix(turned.abs())}


class HalfSums(nn.Module):
    """Sums in float16 as results: torch adds up in float32 and casts back."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(W, W).half()

    def forward(self, x):
        y = self.mix(x)
        return y.sum(-1), y.cumsum(-1)
