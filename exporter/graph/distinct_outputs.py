"""A name for every output: what is handed through, or returned twice, gets a copy of its own.

An ONNX graph cannot return an input, a weight, or one value under two names; a ``clone`` in the
program, which becomes an ``Identity``, makes values of them. So does a sum in half precision: torch
adds up in float32 and casts back, but the exporter takes the output from before the cast.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.fx import Node

_CLONE = torch.ops.aten.clone.default
_HALVES = (torch.float16, torch.bfloat16)
_ADD_UP = frozenset("aten::" + name for name in "sum cumsum prod cumprod nansum".split())


def with_distinct_outputs(program: ExportedProgram) -> ExportedProgram:
    """The program, its own graph changed in place where an output is no value of its own."""
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    specs = list(program.graph_signature.output_specs)
    returned = list(output.args[0])  # type: ignore[arg-type]
    seen: set[Node] = set()
    changed = False
    for place, (value, spec) in enumerate(zip(returned, specs, strict=True)):
        if spec.kind != OutputKind.USER_OUTPUT or not isinstance(value, Node):
            continue
        if value.op == "placeholder" or value in seen or _is_half_sum(value):
            with program.graph.inserting_before(output):
                copy = program.graph.call_function(_CLONE, (value,))
            copy.meta.update(value.meta)
            returned[place], changed = copy, True
            specs[place] = replace(spec, arg=replace(spec.arg, name=copy.name))
        seen.add(returned[place])
    if not changed:
        return program
    output.args = (tuple(returned), *output.args[1:])
    program.graph_module.recompile()
    signature = replace(program.graph_signature, output_specs=specs)
    return ExportedProgram(
        root=program.graph_module,
        graph=program.graph,
        graph_signature=signature,
        state_dict=program.state_dict,
        range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph,
        example_inputs=program.example_inputs,
        constants=program.constants,
    )


def _is_half_sum(node: Node) -> bool:
    """True for what torch's pass of type promotion computes in float32."""
    schema = getattr(node.target, "_schema", None)
    value = node.meta.get("val")
    half = isinstance(value, torch.Tensor) and value.dtype in _HALVES
    return half and schema is not None and schema.name in _ADD_UP
