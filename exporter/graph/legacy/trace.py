"""One run of a module, written down op by op; and what its Python decided on the way."""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.jit import _trace
from torch.overrides import TorchFunctionMode

from exporter.graph.guards import Guard
from exporter.graph.legacy.conditions import condition_of
from exporter.graph.legacy.schema import flat
from exporter.graph.node_origin import short_place
from exporter.models.user_code import is_users

_TO_PYTHON = frozenset(
    "__bool__ __int__ __float__ __complex__ __index__ __array__ __contains__ item tolist numpy"
    " equal allclose is_nonzero".split()
)
"""What makes a number or an answer of Python's from a tensor; a trace keeps what came out."""
_TO_CONSTANT = {"tensor": 0, "scalar_tensor": 0, "new_tensor": 1, "as_tensor": 0, "asarray": 0}
"""What writes numbers into a new tensor, and which argument has them; a trace keeps them as they
are. The last two give a tensor back as it is, and copy lists of tensors alone."""
_SIZES = frozenset("aten::size aten::dim aten::numel aten::len aten::sym_size".split())
_OF_SHAPE = frozenset(
    "aten::zeros_like aten::ones_like aten::full_like aten::empty_like aten::new_zeros"
    " aten::new_ones aten::new_empty aten::new_full".split()
)
_SHAPED_BY_DATA = frozenset(
    "aten::nonzero aten::nonzero_numpy aten::masked_select aten::unique aten::_unique2"
    " aten::unique_consecutive aten::unique_dim aten::index aten::repeat_interleave aten::bincount"
    " aten::Int aten::IntImplicit aten::ScalarImplicit aten::item aten::_pack_padded_sequence"
    " aten::_pad_packed_sequence".split()
)
_VIEWS = frozenset(
    "aten::" + name
    for name in "select slice view view_as reshape transpose permute unsqueeze squeeze expand t"
    " alias detach chunk split unbind narrow diagonal flatten unflatten movedim contiguous".split()
)
_FRAME = re.compile(r"^(.+)\((\d+)\): ", re.MULTILINE)
_BREAK = "|"


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonRead:
    """A tensor that the model's Python has read.

    Attributes:
        place: ``file:line`` of the user's code. asked: what was called (``__bool__``, ``item``).
        by_data: it hangs on values of the inputs, not on their sizes alone.
        guard: the same as a condition, where sizes of the inputs are all that it hangs on.
    """

    place: str
    asked: str
    by_data: bool
    guard: Guard | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A traced module.

    Attributes:
        graph: of TorchScript; its inputs are those of the module, then its weights.
        outputs: what the module returned. weights: name -> tensor, in the order of the graph.
        decisions: what Python read, each place once.
    """

    graph: Any
    outputs: Any
    weights: Mapping[str, torch.Tensor]
    decisions: tuple[PythonRead, ...]


def trace(module: nn.Module, example: Sequence[torch.Tensor], names: Sequence[str]) -> Trace:
    """Run ``module`` on an example and write down what it does.

    Args:
        names: of its inputs, in order.

    Raises:
        Exception: whatever the model or torch's tracer raises.
    """
    weights = dict(_trace._unique_state_dict(module))
    watch = _Watch(names)
    with torch.no_grad(), _scopes(module), watch:
        graph, outputs, _ = _trace._get_trace_graph(
            module, tuple(example), strict=False, _force_outplace=False, _return_inputs_states=True
        )
    torch._C._jit_pass_inline(graph)
    return Trace(
        graph=graph,
        outputs=outputs,
        weights=weights,
        decisions=tuple(dict.fromkeys(watch.decisions)),
    )


def module_of(node: Any) -> tuple[str, str]:
    """Path and class of the module that a node was traced in."""
    last = node.scopeName().rpartition("/")[2].partition("::")[0]
    path, _, kind = last.rpartition(_BREAK)
    return path, kind


def place_of_node(node: Any) -> str:
    """``file:line`` of the innermost line behind a node that is not torch's or ours."""
    frames = _FRAME.findall(node.sourceRange())
    users_frame = next((frame for frame in frames if is_users(frame[0])), None)
    return short_place(*users_frame) if users_frame else ""


@contextlib.contextmanager
def _scopes(module: nn.Module) -> Iterator[None]:
    """Let nodes say which module they are of. The exporter names ONNX nodes by what stands last."""
    saved = _trace._trace_module_map
    _trace._trace_module_map = {
        part: torch._C._jit_onnx_create_full_scope_name(
            f"{path}{_BREAK}{torch.typename(type(part))}", _short(path)
        )
        for path, part in module.named_modules()
    }
    try:
        yield
    finally:
        _trace._trace_module_map = saved


def _short(path: str) -> str:
    """``encoder.layers.0`` is ``layers.0`` inside of ``encoder``."""
    atoms = path.split(".")
    at = next((n for n in reversed(range(len(atoms))) if not atoms[n].isnumeric()), 0)
    return ".".join(atoms[at:])


class _Watch(TorchFunctionMode):
    """Writes down what Python reads of tensors while a module is traced."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.decisions: list[PythonRead] = []
        self._names = names

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        result = func(*args, **(kwargs or {}))
        if name in _TO_PYTHON and args and isinstance(args[0], torch.Tensor):
            self._note(name, args[0], result)
        for tensor in _copied(name, args, kwargs or {}):
            self._note(name, tensor, result)
        return result

    def _note(self, name: str, tensor: torch.Tensor, result: Any) -> None:
        value = torch._C._get_value_trace(tensor)  # type: ignore[attr-defined] # not in the stubs
        if value is None:
            return
        place = next(
            (
                short_place(frame.filename, frame.lineno)
                for frame in reversed(traceback.extract_stack())
                if is_users(frame.filename)
            ),
            "",
        )
        by_data = _reaches_data(value, len(self._names))
        if by_data is None:
            return
        plain = not by_data and isinstance(result, int | float)
        guard = condition_of(value, result, self._names, place) if plain else None
        self.decisions.append(PythonRead(place=place, asked=name, by_data=by_data, guard=guard))


def _copied(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
    """Tensors whose numbers a call writes into a constant."""
    if name not in _TO_CONSTANT:
        return []
    given = args[_TO_CONSTANT[name] :] or [kwargs.get("data", kwargs.get("s"))]
    if name in ("as_tensor", "asarray") and isinstance(given[0], torch.Tensor):
        return []
    return [value for value in flat(given[:1]) if isinstance(value, torch.Tensor)]


def _reaches_data(value: Any, inputs: int) -> bool | None:
    """Whether a value hangs on the values of the inputs; None where it does on neither these nor
    their sizes."""
    waiting, seen, sized = [(value, False)], set(), False
    while waiting:
        tensor, shape_only = waiting.pop()
        key = (tensor.unique(), shape_only)
        if key in seen:
            continue
        seen.add(key)
        node = tensor.node()
        kind = node.kind()
        if kind == "prim::Param":
            first = [each.unique() for each in list(node.outputs())[:inputs]]
            if tensor.unique() in first:
                if not shape_only:
                    return True
                sized = True
            continue
        if kind in _SIZES or kind in _OF_SHAPE:
            shape_only = True
        elif shape_only and kind in _SHAPED_BY_DATA:
            shape_only = False
        waiting += [(each, shape_only) for each in node.inputs()]
        if not shape_only:
            waiting += [(each, False) for each in _written_to(tensor)]
    return False if sized else None


def _written_to(value: Any) -> Iterator[Any]:
    """What has been written into the memory of a value by now, through it or a view of it."""
    waiting, seen = [value], set()
    while waiting:
        tensor = waiting.pop()
        if tensor.unique() in seen:
            continue
        seen.add(tensor.unique())
        for use in tensor.uses():
            node = use.user
            first = next(iter(node.inputs()), None)
            if first is None or first.unique() != tensor.unique():
                continue
            if node.kind().endswith("_") and not node.kind().endswith("__"):
                yield from list(node.inputs())[1:]
            elif node.kind() in _VIEWS or node.kind() == "prim::ListUnpack":
                waiting += list(node.outputs())
