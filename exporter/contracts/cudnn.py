"""Prefix against full on a CUDA device, with cuDNN and TF32 on and off.

What broke Moshi's decoder was a choice of convolution algorithm that hangs on the length; it
only shows where that backend runs.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from exporter.contracts.align import Law
from exporter.contracts.noise import distance, scale_of
from exporter.contracts.subject import Subject, as_array, as_tensor

if TYPE_CHECKING:
    from exporter.contracts.causality import Plan

SETTINGS = (
    ("cuDNN, float32", True, False),
    ("cuDNN, TF32", True, True),
    ("without cuDNN, float32", False, False),
    ("without cuDNN, TF32", False, True),
)


def check_backends(
    subject: Subject, plan: Plan, laws: Mapping[str, Law], *, device: str = "cuda"
) -> dict[str, Any] | str:
    """Largest relative difference of a prefix per setting and output; a reason without a device.

    These figures decide nothing: the module is judged where it runs.
    """
    if device == "cuda" and not torch.cuda.is_available():
        return "not run (no CUDA device)"
    module = copy.deepcopy(subject.module).to(device)
    found: dict[str, Any] = {}
    for label, cudnn, tf32 in SETTINGS:
        with _backend(cudnn, tf32), torch.no_grad():
            runs = []
            for inputs in (plan.full, plan.prefix(subject, plan.cut)):
                tensors = [as_tensor(inputs[name]).to(device) for name in subject.input_names]
                returned = subject.named(module(*tensors))
                runs.append({name: as_array(value) for name, value in returned.items()})
        whole, short = runs
        row = {}
        for name, law in laws.items():
            index = law.past(plan.cut - plan.declared[name], short[name].shape)
            left, right = short[name][index], whole[name][index]
            row[name] = distance(left, right) / max(scale_of(left, right), 1e-30)
        found[label] = row
    return found


@contextlib.contextmanager
def _backend(cudnn: bool, tf32: bool) -> Iterator[None]:
    saved = torch.backends.cuda.matmul.allow_tf32
    with torch.backends.cudnn.flags(enabled=cudnn, benchmark=False, allow_tf32=tf32):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        try:
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32 = saved
