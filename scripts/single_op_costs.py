"""Print what clean single ops cost, and what small faults cost, in units of the policy's limit.

The table in ``exporter/parity/tolerance.py`` comes from here: each op is run by float32 PyTorch,
by onnxruntime on the CPU and by float64 PyTorch on the same float32 inputs, over several seeds.

    python scripts/single_op_costs.py [--seeds 5] [--faults]

Exit 1 when a clean op is beyond its limit.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import warnings
from collections.abc import Callable

import numpy as np
import onnxruntime
import torch
from torch import nn
from torch.nn import functional

from exporter.parity.compare import measure
from exporter.parity.measurement import Distance, Measurement
from exporter.parity.tolerance import FORMATS, Policy, natural_scale
from exporter.parity.verdict import judge

UNIT = FORMATS["float32"].roundoff


class Op(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Lstm(nn.Module):
    """The outputs of an LSTM, without its state."""

    def __init__(self, width: int):
        super().__init__()
        self.lstm = nn.LSTM(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(x)[0]


WIDE = (200, 512)
OPS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear, K = 512": (lambda: nn.Linear(512, 512), WIDE),
    "linear, K = 512, n = 1": (lambda: nn.Linear(512, 1), (1, 512)),
    "linear, K = 512, n = 4": (lambda: nn.Linear(512, 4), (1, 512)),
    "linear, K = 2048": (lambda: nn.Linear(2048, 512), (60, 2048)),
    "linear, 4000 classes": (lambda: nn.Linear(512, 4000), (30, 512)),
    "attention scores": (lambda: Op(lambda x: x @ x.transpose(-1, -2)), (4, 100, 128)),
    "conv, 400 taps": (lambda: nn.Conv1d(1, 514, 400, stride=160, bias=False), (1, 1, 32000)),
    "conv, 129 channels": (lambda: nn.Conv1d(129, 128, 3, padding=1), (1, 129, 300)),
    "conv, depthwise 11": (lambda: nn.Conv1d(512, 512, 11, groups=512, padding=5), (1, 512, 200)),
    "LSTM(128), 500 steps": (lambda: Lstm(128), (500, 1, 128)),
    "softmax of 100": (lambda: Op(lambda x: functional.softmax(4 * x, -1)), (4, 100, 100)),
    "softmax of 1000": (lambda: Op(lambda x: functional.softmax(x, -1)), (4, 20, 1000)),
    "log softmax": (lambda: Op(lambda x: functional.log_softmax(x, -1)), (30, 4000)),
    "layer norm": (lambda: nn.LayerNorm(512), WIDE),
    "layer norm, mean 10": (
        lambda: nn.Sequential(Op(lambda x: x + 10), nn.LayerNorm(512)),
        WIDE,
    ),
    "gelu": (lambda: Op(functional.gelu), WIDE),
    "erf": (lambda: Op(torch.erf), WIDE),
    "erf, |x| < 0.004": (lambda: Op(lambda x: torch.erf(x * 1e-3)), WIDE),
    "sigmoid": (lambda: Op(torch.sigmoid), WIDE),
    "sigmoid at -6": (lambda: Op(lambda x: torch.sigmoid(x - 6)), WIDE),
    "sigmoid at -20": (lambda: Op(lambda x: torch.sigmoid(x - 20)), WIDE),
    "tanh": (lambda: Op(torch.tanh), WIDE),
    "tanh, |x| < 0.004": (lambda: Op(lambda x: torch.tanh(x * 1e-3)), WIDE),
    "elu": (lambda: Op(functional.elu), WIDE),
    "softplus": (lambda: Op(functional.softplus), WIDE),
    "exp": (lambda: Op(torch.exp), WIDE),
    "log": (lambda: Op(lambda x: torch.log(x.abs() + 1e-6)), WIDE),
    "log of x^2": (lambda: Op(lambda x: torch.log(torch.clamp(x**2, min=1.19e-7))), WIDE),
    "sqrt": (lambda: Op(lambda x: x.abs().sqrt()), WIDE),
    "rsqrt": (lambda: Op(lambda x: (x.abs() + 0.1).rsqrt()), WIDE),
    "division": (lambda: Op(lambda x: x / (x.abs() + 0.3)), WIDE),
    "sin": (lambda: Op(torch.sin), WIDE),
    "cos": (lambda: Op(torch.cos), WIDE),
    "sin, |x| < 400": (lambda: Op(lambda x: torch.sin(x * 100)), WIDE),
    "mean of 512": (lambda: Op(lambda x: x.mean(-1)), WIDE),
    "mean of 512, n = 1": (lambda: Op(lambda x: x.mean(-1)), (1, 512)),
    "sum of 4000": (lambda: Op(lambda x: x.sum(-1)), (50, 4000)),
    "sum of 16000": (lambda: Op(lambda x: x.sum(-1)), (50, 16000)),
    "removal of a mean": (
        lambda: Op(lambda x: (x + 5) - (x + 5).mean(-1, keepdim=True)),
        WIDE,
    ),
    "cumsum of 500": (lambda: Op(lambda x: x.cumsum(-1)), (20, 500)),
    "cumsum of 2000": (lambda: Op(lambda x: x.cumsum(-1)), (20, 2000)),
    "product": (lambda: Op(lambda x: x * 0.125), WIDE),
    "sum with a constant": (lambda: Op(lambda x: x + 0.1), WIDE),
}


def draw(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Return standard normal float32 values of a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def run(clean: nn.Module, exported: nn.Module, x: torch.Tensor, op: str) -> Measurement:
    """Measure ``exported`` in onnxruntime against ``clean`` in float32 and float64."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = f"{folder}/op.onnx"
        torch.onnx.export(exported, (x,), path, dynamo=False, opset_version=18)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    actual = np.asarray(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
    with torch.no_grad():
        reference = clean(x).numpy()
        truth = copy.deepcopy(clean).double()(x.double()).numpy()
    return measure(
        op, truth=truth, reference=reference, actual=actual, natural_scale=natural_scale(op)
    )


def clean_ops(seeds: int) -> int:
    """Print one row per op, the worst over the seeds; return how many are beyond the limit."""
    print(f"{'op':24} {'PyTorch':>15} {'ONNX':>21} {'ratio':>15} {'limit / ONNX':>13}")
    print(f"{'':24} {'max':>8} {'rms':>6} {'max':>12} {'rms':>8} {'max':>8} {'rms':>6}")
    failed = 0
    for name, (build, shape) in OPS.items():
        rows, room = [], float("inf")
        for seed in range(seeds):
            torch.manual_seed(seed)
            module = build().eval()
            m = run(module, module, draw(shape, seed + 100), name.split()[0])
            verdict = judge(m, Policy())
            failed += verdict.status != "pass"
            if verdict.strain:
                room = min(room, 1 / verdict.strain)
            max_unit, rms_unit = UNIT * (m.scale or 0), UNIT * (m.rms_scale or 0)
            own, got = m.reference or Distance(elements=0), m.actual or Distance(elements=0)
            rows.append(
                (
                    (own.max_abs or 0) / max_unit,
                    (own.rms or 0) / rms_unit,
                    (got.max_abs or 0) / max_unit,
                    (got.rms or 0) / rms_unit,
                    (got.max_abs or 0) / own.max_abs if own.max_abs else 1.0,
                    (got.rms or 0) / own.rms if own.rms else 1.0,
                )
            )
        a, b, c, d, e, f = (max(column) for column in zip(*rows, strict=True))
        print(
            f"{name:24} {a:8.1f} {b:6.1f} {c:12.1f} {d:8.1f} {e:8.1f} {f:6.1f} {room:13.1f}",
            flush=True,
        )
    return failed


def faults() -> None:
    """Print by how many times small faults are beyond the limit (1 and less: not seen)."""

    def halved(module: nn.Module) -> None:
        module.weight.copy_(module.weight.half().float())  # type: ignore[operator, union-attr]

    def one_halved(module: nn.Module) -> None:
        flat = module.weight.view(-1)  # type: ignore[operator, union-attr]
        at = torch.randint(flat.numel(), (1,))
        flat[at] = flat[at].half().float()

    def bias_element(module: nn.Module) -> None:
        module.bias[3] = 0.0  # type: ignore[index]

    def epsilon(module: nn.Module) -> None:
        module.eps = 1e-6  # type: ignore[assignment]

    plans = [
        (f"{fault}: {name}", build, shape, 1.0, change)
        for name, build, shape in (
            ("linear, K = 512", *OPS["linear, K = 512"]),
            ("linear, K = 2048", *OPS["linear, K = 2048"]),
            ("conv, depthwise 11", *OPS["conv, depthwise 11"]),
        )
        for fault, change in (
            ("weight in float16", halved),
            ("one weight in float16", one_halved),
            ("one bias is 0", bias_element),
        )
    ] + [
        (f"epsilon 1e-6: layer norm, std {std}", lambda: nn.LayerNorm(512), WIDE, std, epsilon)
        for std in (0.1, 0.3, 1.0, 3.0, 10.0)
    ]
    print(f"\n{'fault':42} {'error / limit over 10 draws: least, median, seen':>40}")
    for name, build, shape, std, change in plans:
        strains = []
        for seed in range(10):
            torch.manual_seed(seed)
            module = build().eval()
            bad = copy.deepcopy(module)
            with torch.no_grad():
                change(bad)
            m = run(module, bad, std * draw(shape, seed + 7), "layer")
            strains.append(judge(m, Policy()).strain or 0.0)
        strains.sort()
        seen = sum(s > 1 for s in strains)
        print(f"{name:42} {strains[0]:10.2f} {strains[5]:10.2f} {seen:3} of 10", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--faults", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    failed = clean_ops(options.seeds)
    if options.faults:
        faults()
    print(f"\n{failed} clean draws beyond their limit")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
