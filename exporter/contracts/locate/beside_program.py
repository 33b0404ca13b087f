"""The first value of a file that is not the captured program's."""

from __future__ import annotations

import contextlib

import numpy as np

from exporter.contracts.compare.noise import Noise, distance, scale_of
from exporter.contracts.result import Location
from exporter.contracts.target import Target
from exporter.core.errors import OnnxStoppedError
from exporter.core.tensors import Arrays
from exporter.interpret.evaluate import to_array
from exporter.interpret.run_program import values_of

_FAR = (100.0, 10.0, 1.0)
"""Times what rounding explains: what is far off is looked for first, and what is near only where
nothing is, since a rounding grows on its way through a deep model."""


def first_unlike_program(target: Target, inputs: Arrays) -> Location | None:
    """The first ONNX value that is further from the program's than rounding explains.

    ``None`` also without a program, and where the file cannot be run piece by piece. All its
    tensors are held, so this is for short probes.
    """
    program = target.onnx.file.program
    if program is None:
        return None
    tensors = {op.name for op in program.ops if op.kind == "tensor"}
    try:
        values, _ = values_of(program, inputs, tensors)
    except RuntimeError:
        return None
    by_onnx_name = {program.onnx_name(name): value for name, value in values.items()}
    strains: dict[str, float] = {}
    with contextlib.suppress(OnnxStoppedError):
        for name, (found,) in target.onnx.walk((inputs,), names=target.onnx.value_names()):
            if name in by_onnx_name:
                strains[name] = _strain(to_array(by_onnx_name[name]), found)
            if strains.get(name, 0.0) > _FAR[0]:
                break
    for far in _FAR:
        first = next((name for name, strain in strains.items() if strain > far), None)
        if first is not None:
            return target.onnx.place(first)
    return None


def _strain(wanted: np.ndarray, found: np.ndarray) -> float:
    """Distance over what rounding explains; a value that the file keeps otherwise says nothing."""
    if wanted.dtype.kind == "c":
        return 0.0
    if wanted.shape != found.shape and wanted.size == found.size:
        found = found.reshape(wanted.shape)
    limit = Noise().limit("", scale_of(wanted, found), max(1, wanted.size))
    return distance(wanted, found) / limit
