"""Prefix against full on a CUDA device, with cuDNN and TF32 on and off.

What broke Moshi's decoder was arithmetic that hangs on the length: TF32 tiles of convolution
kernels. It only shows where that backend runs. The module itself is judged where it was given;
what a device's settings add to that is said beside the verdict and does not change it.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from exporter.contracts.causality.plan import Plan
from exporter.contracts.compare.align import Law
from exporter.contracts.compare.noise import distance, scale_of
from exporter.contracts.target import Target, as_array, as_tensor
from exporter.core.tensors import Arrays

SETTINGS = (
    ("cuDNN, float32", True, False),
    ("cuDNN, TF32", True, True),
    ("without cuDNN, float32", False, False),
    ("without cuDNN, TF32", False, True),
)
"""What PyTorch may be told; the second is what it does when it is told nothing."""


def check_backends(
    target: Target, plan: Plan, laws: Mapping[str, Law], *, device: str = "cuda"
) -> dict[str, dict[str, float]] | str:
    """Largest relative difference of a prefix, over all lengths of the plan.

    Returns:
        setting -> output -> figure, infinite where a NaN came or went; a reason without a device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        return "not run (no CUDA device)"
    module = copy.deepcopy(target.module).to(device)

    def run(inputs: Arrays) -> Mapping[str, np.ndarray]:
        tensors = [as_tensor(inputs[name]).to(device) for name in target.input_names]
        return {name: as_array(v) for name, v in target.named(module(*tensors)).items()}

    sizes = sorted({plan.cut, *plan.sweep})
    differing = {}
    for label, cudnn, tf32 in SETTINGS:
        with _backend(cudnn, tf32), torch.no_grad():
            whole = run(plan.full)
            row = dict.fromkeys(laws, 0.0)
            for size in sizes:
                short = run(plan.prefix(target, size))
                for name, law in laws.items():
                    index = law.past(size - plan.declared[name], short[name].shape)
                    left, right = short[name][index], whole[name][index]
                    share = distance(left, right) / max(scale_of(left, right), 1e-30)
                    row[name] = max(row[name], share)
        differing[label] = row
    return differing


def backend_note(
    backends: Mapping[str, Mapping[str, float]] | str, limits: Mapping[str, float]
) -> str | None:
    """One sentence when a setting moves an output further than float32 explains, else None.

    Args:
        backends: what ``check_backends`` found.
        limits: output -> largest relative difference of a prefix that rounding explains.
    """
    if isinstance(backends, str):
        return None
    moved = [
        (value, label, name)
        for label, row in backends.items()
        for name, value in row.items()
        if name in limits and not value <= limits[name]
    ]
    if not moved:
        return None
    value, label, name = max(moved)
    clean = [label for label in backends if all(label != other for _, other, _ in moved)]
    rest = f"; {' and '.join(clean)} within rounding" if clean else ""
    return (
        f"numerics of the convolution backend on CUDA, not structure: with '{label}' {name} moves "
        f"by {value:.3g} with the length (limit {limits[name]:.3g}){rest}"
    )


@contextlib.contextmanager
def _backend(cudnn: bool, tf32: bool) -> Iterator[None]:
    saved = torch.backends.cuda.matmul.allow_tf32
    with torch.backends.cudnn.flags(enabled=cudnn, benchmark=False, allow_tf32=tf32):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        try:
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32 = saved
