"""Modules that mix dtypes or overflow, and modules that cast on purpose."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.contracts.zoo.toy import Toy, frames, output, subject

Y = output("batch", "time", 4)


class Block(nn.Module):
    """Linear, then the part under test."""

    def __init__(self, part: nn.Module):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return self.part(self.linear(x))


class Attention(nn.Module):
    """Scaled dot product attention; the query may be scaled by a table in float32, the keys may
    come from a cache in a dtype of its own."""

    def __init__(self, wide_query: bool):
        super().__init__()
        self.qkv = nn.Linear(4, 12)
        self.wide_query = wide_query

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).split(4, dim=-1)
        if self.wide_query:
            q = q * torch.ones(4, dtype=torch.float32, device=x.device)
        q, k, v = (part[:, None] for part in (q, k, v))
        return nn.functional.scaled_dot_product_attention(q, k, v)[:, 0]


class Position(nn.Module):
    """Adds a table that is always float32."""

    def forward(self, x: Tensor) -> Tensor:
        steps = torch.arange(x.shape[1], device=x.device, dtype=torch.float32)
        return x + torch.sin(steps[:, None] / torch.ones(4, device=x.device))


class PositionCast(nn.Module):
    """The same, cast to the stream's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        steps = torch.arange(x.shape[1], device=x.device, dtype=torch.float32)
        return x + torch.sin(steps[:, None] / torch.ones(4, device=x.device)).to(x.dtype)


class Cache(nn.Module):
    """Stores keys in a cache of fixed dtype."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.kept = torch.zeros(1, 4, dtype=dtype)  # an attribute: .to() does not reach it

    def forward(self, x: Tensor) -> Tensor:
        store = torch.zeros(1, 4, dtype=self.kept.dtype, device=x.device)
        store[:] = x[0, :1]
        return x * store.to(x.dtype)


class FloatNorm(nn.Module):
    """RMS norm in float32, cast back before the weight."""

    def __init__(self, cast_back: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.linear = nn.Linear(4, 4)
        self.cast_back = cast_back

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
        if self.cast_back:
            wide = wide.type_as(x)
        return self.linear(wide * self.weight)


class Speaker(nn.Module):
    """MetaVoice's first stage in small: bfloat16 weights, a float16 speaker embedding."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.condition = nn.Linear(4, 4).to(torch.bfloat16)
        self.register_buffer("speaker", torch.ones(4, dtype=dtype))
        self.attention = Attention(False).to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(torch.bfloat16) + self.condition(self.speaker)
        return self.attention(x).float()


class Power(nn.Module):
    """A power spectrum of int16-sized samples: beyond 65504."""

    def __init__(self, gain: float):
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        power = (x * self.gain).pow(2)
        return torch.log(power + 1.0)


class BigMask(nn.Module):
    """-1e9 in a mask: not a float16."""

    def forward(self, x: Tensor) -> Tensor:
        steps = torch.arange(x.shape[1], device=x.device)
        scores = (x @ x.transpose(1, 2)).masked_fill(steps[None, :] > steps[:, None], -1e9)
        return scores.softmax(-1) @ x


class InfMask(nn.Module):
    """-inf in a mask: fine in every dtype."""

    def forward(self, x: Tensor) -> Tensor:
        steps = torch.arange(x.shape[1], device=x.device)
        scores = (x @ x.transpose(1, 2)).masked_fill(steps[None, :] > steps[:, None], float("-inf"))
        return scores.softmax(-1) @ x


class Scalars(nn.Module):
    """0-dimensional float32 tensors and Python numbers follow the others."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + torch.tensor(1.0) * 2.0


class WideAccumulator(nn.Module):
    """Sums in float32 on purpose."""

    def forward(self, x: Tensor) -> Tensor:
        total = x.sum(1, keepdim=True, dtype=torch.float32)
        return x + total.to(x.dtype)


def _make(part, with_onnx: bool = False):
    return lambda: subject(Block(part()), frames(), Y, with_onnx=with_onnx)


def _bare(module):
    return lambda: subject(module(), frames(), Y)


HALF = {"precisions": ["float16"]}
BOTH = {"precisions": ["float16", "bfloat16"]}
TOYS = [
    Toy(
        name="float32 query against half key and value (MetaVoice issues 106, 108)",
        broken=True,
        make=_make(lambda: Attention(True)),
        settings=HALF,
        torch="fail",
        module="part",
        says="query float32",
    ),
    Toy(
        name="position table in float32 added to a half stream",
        broken=True,
        make=_make(Position),
        settings=BOTH,
        torch="fail",
        module="part",
        says="promotion",
    ),
    Toy(
        name="bfloat16 weights with a float16 speaker embedding",
        broken=True,
        make=_bare(lambda: Speaker(torch.float16)),
        settings={"precisions": ["as_built"]},
        torch="fail",
        module="condition",
        says="float16",
    ),
    Toy(
        name="cache in float16 that bfloat16 keys are stored in",
        broken=True,
        make=_make(lambda: Cache(torch.float16)),
        settings={"precisions": ["bfloat16"]},
        torch="fail",
        module="part",
        says="casting write",
    ),
    Toy(
        name="norm in float32 that is not cast back before a linear layer",
        broken=True,
        make=_make(lambda: FloatNorm(False)),
        settings=HALF,
        torch="fail",
        module="part.linear",
        says="input float32",
    ),
    Toy(
        name="power spectrum beyond float16",
        broken=True,
        make=_make(lambda: Power(4e3), with_onnx=True),
        settings=HALF,
        torch="fail",
        onnx="fail",
        module="part",
        says="overflows",
    ),
    Toy(
        name="mask of -1e9 in float16",
        broken=True,
        make=_make(BigMask),
        settings=HALF,
        torch="fail",
        module="part",
    ),
    Toy(
        name="attention in one dtype",
        broken=False,
        make=_make(lambda: Attention(False), with_onnx=True),
        settings=HALF,
        torch="pass",
        onnx="pass",
    ),
    Toy(
        name="split into query, key and value: ONNX splits no bfloat16 into a sequence",
        broken=True,
        make=_make(lambda: Attention(False), with_onnx=True),
        settings={"precisions": ["bfloat16"]},
        torch="pass",
        onnx="fail",
        module="part",
    ),
    Toy(
        name="norm in float32, cast back",
        broken=False,
        make=_make(lambda: FloatNorm(True)),
        settings=BOTH,
        torch="pass",
    ),
    Toy(
        name="position table cast to the stream",
        broken=False,
        make=_make(PositionCast),
        settings=BOTH,
        torch="pass",
    ),
    Toy(name="mask of -inf", broken=False, make=_make(InfMask), settings=BOTH, torch="pass"),
    Toy(
        name="0-dimensional float32 tensors",
        broken=False,
        make=_make(Scalars),
        settings=BOTH,
        torch="pass",
    ),
    Toy(
        name="sum in float32, cast back",
        broken=False,
        make=_make(WideAccumulator),
        settings=BOTH,
        torch="pass",
    ),
    Toy(
        name="all weights and embeddings in bfloat16, as built",
        broken=False,
        make=_bare(lambda: Speaker(torch.bfloat16)),
        settings={"precisions": ["as_built"]},
        torch="pass",
    ),
    Toy(
        name="float32 query under autocast, which casts it",
        broken=False,
        make=_make(lambda: Attention(True)),
        settings={"precisions": ["autocast_bfloat16"]},
        torch="pass",
    ),
]
