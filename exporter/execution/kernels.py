"""For which operators and types a provider of onnxruntime has kernels, as onnxruntime tells itself.

What a provider cannot tell on this machine (CUDA without its libraries) is not known, and never
guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from exporter.core.errors import first_line
from exporter.core.operators import is_constant
from exporter.graph.anatomy import STANDARD, Placed, dtype_word, walk

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One kernel: opsets ``first`` to ``last``, and the types that each type parameter takes."""

    op: str
    domain: str
    first: int
    last: int
    types: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """What one provider can do of a file.

    Attributes:
        why: why it is not known; "" where it is.
        nodes: that were looked up. missing: operator and type without a kernel -> how many nodes.
        written_out: operators without a kernel that onnxruntime writes out of others.
        untyped: nodes whose type is not known, so that any type of theirs counts.
    """

    provider: str
    why: str = ""
    nodes: int = 0
    missing: Mapping[str, int] | None = None
    written_out: tuple[str, ...] = ()
    untyped: int = 0


def kernels_of(provider: str) -> tuple[Kernel, ...] | str:
    """The kernels of a provider; a string says why they are not known."""
    try:
        # A compiled module without stubs.
        from onnxruntime.capi import onnxruntime_pybind11_state as state  # type: ignore[attr-defined]
    except ImportError as error:
        return f"onnxruntime is not there: {error}"
    listed = getattr(state, "get_registered_ep_kernel_defs", None)
    if listed is None:
        return "this onnxruntime does not list its kernels"
    try:
        registered = listed(PROVIDERS[provider])
    except Exception as error:  # noqa: BLE001 - whatever it raises, it is what it says
        text = first_line(error, 120)
        return f"onnxruntime does not list the kernels of {provider} here: {text}"
    if not registered:
        return f"onnxruntime lists no kernels of {provider} here"
    return tuple(
        Kernel(
            op=item.op_name,
            domain=item.domain,
            first=item.version_range[0],
            last=item.version_range[1],
            types={
                name: frozenset(constraint) for name, constraint in item.type_constraints.items()
            },
        )
        for item in registered
    )


def support_of(model: onnx.ModelProto, kernels: tuple[Kernel, ...] | str, provider: str) -> Support:
    """Look every node of a file up, those of branches included.

    Args:
        model: with inferred types where they are known.
    """
    if isinstance(kernels, str):
        return Support(provider=provider, why=kernels)
    by_op: dict[tuple[str, str], list[Kernel]] = {}
    for kernel in kernels:
        by_op.setdefault((kernel.op, _plain(kernel.domain)), []).append(kernel)
    opsets = {_plain(item.domain): item.version for item in model.opset_import}
    types = _types(model.graph)
    missing: dict[str, int] = {}
    written: set[str] = set()
    functions = {(f.name, f.domain) for f in model.functions}
    untyped = count = 0
    for item in walk(model.graph):
        node = item.node
        domain = _plain(node.domain)
        if is_constant(node) or (node.op_type, node.domain) in functions:
            continue
        count += 1
        able = _of_version(by_op.get((node.op_type, domain), []), node.op_type, domain, opsets)
        schema = _schema(node.op_type, domain, opsets.get(domain, 1))
        if not able:
            # onnx's stubs lack these two.
            if schema is not None and (
                schema.has_function  # type: ignore[attr-defined]
                or schema.has_context_dependent_function  # type: ignore[attr-defined]
            ):
                written.add(node.op_type)
            else:
                key = f"{domain}::{node.op_type}" if domain else node.op_type
                missing[key] = missing.get(key, 0) + 1
            continue
        bound_types = _held(item, schema, types)
        untyped += schema is not None and not bound_types
        if not any(_takes(kernel, bound_types) for kernel in able):
            words = ", ".join(sorted({_word(kind) for kind in bound_types.values()}))
            key = f"{node.op_type} ({words})"
            missing[key] = missing.get(key, 0) + 1
    return Support(
        provider=provider,
        nodes=count,
        missing=missing,
        written_out=tuple(sorted(written)),
        untyped=untyped,
    )


def _plain(domain: str) -> str:
    return "" if domain in STANDARD and domain in ("", "ai.onnx") else domain


def _schema(op: str, domain: str, opset: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op, opset, domain)
    except onnx.defs.SchemaError:
        return None


def _of_version(
    kernels: list[Kernel], op: str, domain: str, opsets: Mapping[str, int]
) -> list[Kernel]:
    opset = opsets.get(domain, 1)
    schema = _schema(op, domain, opset)
    since = opset if schema is None else schema.since_version
    return [kernel for kernel in kernels if kernel.first <= since <= kernel.last]


def _types(graph: onnx.GraphProto) -> dict[str, str]:
    """Value name -> ``tensor(float)``, as far as the file or inference says; in branches too."""
    types_by_name: dict[str, str] = {}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        if value.type.WhichOneof("value") == "tensor_type" and value.type.tensor_type.elem_type:
            types_by_name[value.name] = _tensor(value.type.tensor_type.elem_type)
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                if inner.node:
                    types_by_name.update(_types(inner))
    return types_by_name


def _tensor(elem_type: int) -> str:
    word = dtype_word(elem_type)
    return f"tensor({ {'float32': 'float', 'float64': 'double'}.get(word, word) })".replace(" ", "")


def _word(kind: str) -> str:
    return {"tensor(float)": "float32", "tensor(double)": "float64"}.get(
        kind, kind.removeprefix("tensor(").removesuffix(")")
    )


def _held(
    item: Placed, schema: onnx.defs.OpSchema | None, types: Mapping[str, str]
) -> dict[str, str]:
    """Type parameter of the operator -> what this node has there."""
    if schema is None:
        return {}
    bindings: dict[str, str] = {}
    for formals, names in ((schema.inputs, item.node.input), (schema.outputs, item.node.output)):
        for formal, name in zip(formals, names, strict=False):
            tensor = item.constants.get(name)
            kind = types.get(name) if tensor is None else _tensor(tensor.data_type)
            if kind is not None:
                bindings.setdefault(formal.type_str, kind)
    return bindings


def _takes(kernel: Kernel, bindings: Mapping[str, str]) -> bool:
    return all(
        kind in kernel.types[name] for name, kind in bindings.items() if name in kernel.types
    )
