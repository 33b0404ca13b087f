"""The first value where ONNX differs from the captured program, on inputs of one's own."""

from __future__ import annotations

import numpy as np

from exporter.contracts.compare.noise import Noise, distance, scale_of
from exporter.contracts.target import Target
from exporter.core.tensors import Arrays
from exporter.interpret.run_program import values_of


def first_disagreement(target: Target, inputs: Arrays) -> str | None:
    """Name of the first ONNX value that is further from the program's than rounding explains.

    All tensors of the program are held, so this is for short probes.
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
    noise = Noise()
    for name, (found,) in target.onnx.walk((inputs,), names=target.onnx.value_names()):
        if name not in by_onnx_name:
            continue
        wanted = by_onnx_name[name].detach().numpy()
        if wanted.shape != found.shape:
            return name
        limit = 100 * noise.limit("", scale_of(wanted, found), max(1, wanted.size))
        if not distance(np.asarray(wanted), found) <= limit:
            return name
    return None
