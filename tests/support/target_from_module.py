"""Any small module with specs as the target of contracts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from exporter.contracts.onnx_side import OnnxFile, OnnxSide, exported
from exporter.contracts.target import Target
from exporter.core.errors import StageError
from exporter.core.tensors import Case, TensorSpec
from exporter.graph.wrap import dynamic_shapes


def no_file(reason: str) -> OnnxSide:
    """A target without an ONNX file, and why."""

    def make() -> OnnxFile:
        raise StageError("export", reason)

    return OnnxSide(make)


def target_from_module(
    module: nn.Module,
    *,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    values: Mapping[str, np.ndarray] | None = None,
    name: str = "module",
    with_onnx: bool = True,
    onnx: OnnxSide | None = None,
    **options: Any,
) -> Target:
    """Any module under contract.

    Args:
        module: put into eval mode is the caller's business.
        inputs, outputs: specs; axes of equal name are one axis.
        values: inputs of the only case; drawn from a seed where not given.
        with_onnx: False when there is to be no ONNX side.
        options: further attributes of ``Target``.
    """
    example = draw_example(inputs)
    drawn = {key: tensor.numpy() for key, tensor in draw_example(inputs, seed=1, grow=9).items()}
    case = Case(name="seed_1", inputs={**drawn, **(values or {})}, origin="normal seed 1")
    if onnx is None and with_onnx:
        onnx = exported(module, inputs, outputs, example, dynamic_shapes(inputs))
    return Target(
        name=name,
        module=module,
        inputs=inputs,
        outputs=outputs,
        cases=(case,),
        onnx=onnx or no_file("no ONNX file was asked for"),
        example=example,
        **options,
    )


def draw_example(
    inputs: tuple[TensorSpec, ...], *, seed: int = 0, grow: int = 0
) -> dict[str, Tensor]:
    """One tensor per input, every symbolic axis of another size >= 3, distinct objects.

    Lengths (``<input>_lengths``) are full; masks are all True.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    sizes: dict[str, int] = {}
    for axis in (axis for spec in inputs for axis in spec.axes):
        # The batch stays small, and no two axes have one size by accident.
        small = axis.name in ("batch", "B", "rows")
        wanted = 3 + len(sizes) if small else max(axis.minimum, 2) + 11 + len(sizes) + grow
        sizes.setdefault(axis.name, min(wanted, axis.maximum or wanted))
    drawn: dict[str, Tensor] = {}
    for spec in inputs:
        shape = tuple(sizes[size] if isinstance(size, str) else size for size in spec.shape)
        base = spec.name.removesuffix("_lengths")
        if spec.dtype == "bool":
            values = np.ones(shape, dtype=bool)
        elif base != spec.name and base in drawn:
            full = next(s for s in inputs if s.name == base)
            time = [size for size in full.shape if isinstance(size, str)][-1]
            values = np.full(shape, sizes[time], dtype=spec.dtype)
        elif spec.dtype.startswith(("int", "uint")):
            valid = sorted(spec.choices.values()) or [0, 1, 2]
            values = np.asarray(generator.choice(valid, size=shape), dtype=spec.dtype)
        else:
            values = np.asarray(generator.standard_normal(shape), dtype=np.float32)
        drawn[spec.name] = torch.from_numpy(np.ascontiguousarray(values).reshape(shape))
        if spec.dtype in ("bfloat16", "float16", "float64"):
            drawn[spec.name] = drawn[spec.name].to(getattr(torch, spec.dtype))
    return drawn
