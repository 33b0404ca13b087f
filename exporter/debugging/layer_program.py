"""The part of the captured program that computes some taps, as a program of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from exporter.debugging.pair import Pair
from exporter.debugging.torch_values import region_of
from exporter.graph.program import Op, Program, Ref


def layer_program(
    pair: Pair, names: Iterable[str], values: Mapping[str, Any], stops: frozenset[str]
) -> Program:
    """Cut ``names`` out of the captured program.

    Args:
        names: the program's outputs.
        values: float32 values of what enters; sizes among them become constants.
        stops: names at which the cut is made.
    """
    names = tuple(names)
    region = region_of(pair, names, stops)
    computed = {op.name for op in region.ops}
    weights = pair.program.weights
    sizes = {
        name: values[name]
        for name in region.entering
        if name not in computed
        and name not in weights
        and not isinstance(values[name], (torch.Tensor, list, tuple))
    }
    ops = tuple(_with_sizes(op, sizes) for op in region.ops)
    read = {name for op in ops for name in op.refs()}
    inside = {name: key for name, key in weights.items() if name in read}
    order = [*pair.program.inputs, *(op.name for op in pair.program.ops)]
    inputs = tuple(n for n in order if n in read and n not in computed and n not in inside)
    return Program(
        inputs=inputs,
        weights=inside,
        ops=ops,
        outputs=names,
        output_names=tuple(pair.program.onnx_name(n) for n in names),
        tensors={key: pair.program.tensors[key] for key in inside.values()},
    )


def _with_sizes(op: Op, sizes: Mapping[str, Any]) -> Op:
    if not any(name in sizes for name in op.refs()):
        return op
    kwargs = {key: _replaced(value, sizes) for key, value in op.kwargs.items()}
    return replace(op, args=_replaced(op.args, sizes), kwargs=kwargs)


def _replaced(value: Any, sizes: Mapping[str, Any]) -> Any:
    if isinstance(value, Ref):
        return sizes.get(value.name, value)
    if isinstance(value, tuple):
        return tuple(_replaced(item, sizes) for item in value)
    return value
