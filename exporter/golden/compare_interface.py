"""What a file takes and gives, held against what was recorded.

Numbers on the recorded cases cannot show that an axis was fixed to the size of a case, that an
input or an output was added, or that the file asks for another runtime.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx

from exporter.golden.sketch import is_floating
from exporter.golden.values import Dim, Golden, Interface, Port
from exporter.graph.index import GraphIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceChange:
    """One difference in words; ``blocks`` when the recorded inputs cannot be given to the file."""

    text: str
    blocks: bool = False


def interface_of(graph: GraphIndex) -> Interface:
    """What a file takes and gives; inputs with a value of their own need not be given."""
    proto = graph.model.graph
    opsets = {entry.domain: entry.version for entry in graph.model.opset_import}
    return Interface(
        inputs=tuple(_port(value) for value in proto.input if value.name not in graph.initializers),
        outputs=tuple(_port(value) for value in proto.output),
        opset=opsets.get("", opsets.get("ai.onnx", 0)),
    )


def _port(value: onnx.ValueInfoProto) -> Port:
    if value.type.WhichOneof("value") != "tensor_type":
        return Port(name=value.name, dtype="", dims=None)
    kind = value.type.tensor_type
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    except KeyError:
        dtype = f"unknown type {kind.elem_type}"
    dims = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
        for dim in kind.shape.dim
    )
    return Port(name=value.name, dtype=dtype, dims=dims if kind.HasField("shape") else None)


def compare_interface(
    golden: Golden, now: Interface, *, opset: int | None = None, any_opset: bool = False
) -> tuple[InterfaceChange, ...]:
    """List what is not as recorded.

    Args:
        golden: if it was recorded before interfaces were, its input specifications, the outputs
            of its cases and ``opset`` take their place.
        opset: what the pipeline asks for; ``None`` when it is in another state than at recording.
        any_opset: the file was written anew by another tool: its opset is that tool's business.
    """
    recorded = golden.interface
    if recorded is None:
        recorded = derived(golden, opset or now.opset)
    return (
        *_inputs(recorded.inputs, now.inputs),
        *_outputs(recorded.outputs, now.outputs),
        *(_order(recorded.outputs, now.outputs) if golden.interface is not None else ()),
        *(() if any_opset else _opset(recorded.opset, now.opset)),
    )


def derived(golden: Golden, opset: int) -> Interface:
    """What an older golden tells of the file that was judged.

    An axis of an output is known to be dynamic when the cases have several sizes there.
    """
    inputs = (Port(name=spec.name, dtype=spec.dtype, dims=spec.shape) for spec in golden.inputs)
    shapes: dict[str, list[tuple[int, ...]]] = {}
    dtypes: dict[str, str] = {}
    for case in golden.cases:
        for output in case.outputs:
            shapes.setdefault(output.name, []).append(output.shape)
            dtypes[output.name] = output.dtype
    outputs = (
        Port(name=name, dtype=dtypes[name], dims=_varying(value_shape))
        for name, value_shape in shapes.items()
    )
    return Interface(inputs=tuple(inputs), outputs=tuple(outputs), opset=opset)


def _varying(shapes: list[tuple[int, ...]]) -> tuple[Dim, ...] | None:
    """``None`` per axis about which nothing is known."""
    if len({len(shape) for shape in shapes}) != 1:
        return None
    return tuple(
        f"axis {at}" if len(set(sizes)) > 1 else None
        for at, sizes in enumerate(zip(*shapes, strict=True))
    )


def _inputs(recorded: tuple[Port, ...], now: tuple[Port, ...]) -> Iterator[InterfaceChange]:
    wanted, given = _by_name(recorded), _by_name(now)
    for name in wanted.keys() - given.keys():
        yield InterfaceChange(
            text=f"the input '{name}' is gone{_instead(wanted, given)}", blocks=True
        )
    for name in given.keys() - wanted.keys():
        text = f"it needs the input '{name}', which was not recorded"
        yield InterfaceChange(text=text, blocks=True)
    for name in (name for name in wanted if name in given):
        yield from _port_differences("input", wanted[name], given[name])


def _instead(wanted: Mapping[str, Port], given: Mapping[str, Port]) -> str:
    new = [name for name in given if name not in wanted]
    return f" (it takes {', '.join(new)})" if new else ""


def _outputs(recorded: tuple[Port, ...], now: tuple[Port, ...]) -> Iterator[InterfaceChange]:
    wanted, given = _by_name(recorded), _by_name(now)
    for name in wanted.keys() - given.keys():
        yield InterfaceChange(text=f"the output '{name}' is gone")
    for name in given.keys() - wanted.keys():
        yield InterfaceChange(text=f"it gives the output '{name}', which was not recorded")
    for name in (name for name in wanted if name in given):
        yield from _port_differences("output", wanted[name], given[name])


def _order(recorded: tuple[Port, ...], now: tuple[Port, ...]) -> Iterator[InterfaceChange]:
    """Whoever takes outputs by their position takes another one."""
    then, after = ([port.name for port in ports] for ports in (recorded, now))
    if then != after and sorted(then) == sorted(after):
        text = f"its outputs come in another order: {', '.join(after)}; recorded was"
        yield InterfaceChange(text=f"{text} {', '.join(then)}")


def _by_name(ports: Iterable[Port]) -> dict[str, Port]:
    return {port.name: port for port in ports}


def _port_differences(kind: str, wanted: Port, given: Port) -> Iterator[InterfaceChange]:
    label, entering = f"{kind} '{wanted.name}'", kind == "input"
    if wanted.dtype != given.dtype and not (
        # A golden calls bfloat16 by the type in which its values are kept.
        kind == "output" and given.dtype == "bfloat16" and is_floating(wanted.dtype)
    ):
        text = f"{label} is {given.dtype or 'no tensor'}, recorded was {wanted.dtype}"
        yield InterfaceChange(text=text, blocks=entering)
    if wanted.dims is None or given.dims is None:
        return
    if len(wanted.dims) != len(given.dims):
        text = f"{label} has {len(given.dims)} axes, recorded were {len(wanted.dims)}"
        yield InterfaceChange(text=text, blocks=entering)
        return
    for at, (then, is_now) in enumerate(zip(wanted.dims, given.dims, strict=True)):
        if isinstance(then, str) and isinstance(is_now, int):
            axis = f"axis {at}" if then == f"axis {at}" else f"axis {at} ('{then}')"
            text = f"{label}: {axis} is fixed to {is_now}, recorded was any size"
            yield InterfaceChange(text=text)
        elif isinstance(then, int) and is_now != then:
            size = "any size" if not isinstance(is_now, int) else f"fixed to {is_now}"
            yield InterfaceChange(text=f"{label}: axis {at} is {size}, recorded was {then}")


def _opset(recorded: int, now: int) -> Iterator[InterfaceChange]:
    if recorded != now:
        yield InterfaceChange(text=f"it is written in opset {now}, recorded was {recorded}")
