"""torch module -> ``torch.export.ExportedProgram``, with one strategy and no fallback.

``torch.onnx.export`` tries several capture strategies in turn when one fails and may end with a
static axis that nobody asked for. Here the capture is one explicit call; what it cannot do is an
error.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch._decomp import decomposition_table
from torch.fx.proxy import _STACK_TRACE_ANCHORS, _register_stack_trace_anchor

from exporter.core.errors import StageError
from exporter.graph.guards import Guard, guards_of, watched_guards
from exporter.graph.kept_state import KeptState
from exporter.graph.named_graph import NamedGraph, argument_names
from exporter.graph.torch_refusal import freezes_an_axis, line_in
from exporter.models.fast_path import without_fast_path


def _recurrent_shapes(
    x: torch.Tensor,
    states: list[torch.Tensor],
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Abstract result of a recurrent op: output ``[T, B, D*H]`` (or ``[B, T, D*H]``), states."""
    time, batch = (x.shape[1], x.shape[0]) if batch_first else (x.shape[0], x.shape[1])
    width = states[0].shape[2] * (2 if bidirectional else 1)
    shape = (batch, time, width) if batch_first else (time, batch, width)
    return x.new_empty(shape), [s.new_empty(s.shape) for s in states]


def _abstract_lstm(
    x: torch.Tensor,
    hx: Sequence[torch.Tensor],
    params: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    output, (h, c) = _recurrent_shapes(x, list(hx), bidirectional, batch_first)
    return output, h, c


def _abstract_gru(
    x: torch.Tensor,
    hx: torch.Tensor,
    params: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    output, (h,) = _recurrent_shapes(x, [hx], bidirectional, batch_first)
    return output, h


@contextlib.contextmanager
def keep_recurrent_ops() -> Iterator[None]:
    """Keep LSTM, GRU and RNN (``aten.lstm.input`` ...) as single ops while a module is traced.

    torch decomposes them into one step per frame, which bakes the number of frames of the
    example into the program; the decomposition pass of the exporter runs that code once more to
    learn the shapes. During the block both the python kernels and the decomposition only say
    what shape comes out, so the op itself stays in the graph; everything is put back afterwards.
    Nothing may be computed (only traced) inside the block.
    """
    keys = (torch._C.DispatchKey.CompositeImplicitAutograd, torch._C.DispatchKey.Autograd)
    abstract = {
        torch.ops.aten.lstm.input: _abstract_lstm,
        torch.ops.aten.gru.input: _abstract_gru,
        torch.ops.aten.rnn_tanh.input: _abstract_gru,
        torch.ops.aten.rnn_relu.input: _abstract_gru,
    }
    saved = {op: dict(op.py_kernels) for op in abstract}
    decompositions = {op: decomposition_table.get(op) for op in abstract}
    try:
        for op, kernel in abstract.items():
            decomposition_table[op] = kernel
            op.py_kernels.clear()
            op._dispatch_cache.clear()
            for key in keys:
                op.py_impl(key)(kernel)
        yield
    finally:
        for op, kernels in saved.items():
            op.py_kernels.clear()
            op.py_kernels.update(kernels)
            op._dispatch_cache.clear()
            if decompositions[op] is None:
                decomposition_table.pop(op, None)
            else:
                decomposition_table[op] = decompositions[op]


class _WithoutGraphs:
    """A stream that leaves out the graphs that torch prints, thousands of lines of them."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._left_out = False

    def write(self, text: str) -> int:
        # ``print`` writes the end of its line apart.
        self._left_out = "def forward(self" in text or (self._left_out and text == "\n")
        return len(text) if self._left_out else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silence torch's remarks about its own internals; errors still raise.

    When torch.export stops it prints all that it had traced; the error holds that as well, as
    ``partial_fx_graph``.
    """
    names = ("torch.onnx", "torch.export", "torch._export", "torch.fx", "torch._dynamo")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        stream = sys.stderr
        filtered: Any = _WithoutGraphs(stream)
        sys.stderr = filtered
        try:
            yield
        finally:
            if sys.stderr is filtered:
                sys.stderr = stream
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextlib.contextmanager
def _lines_in_methods(module: nn.Module) -> Iterator[None]:
    """Let torch note lines of all methods of a model that is called by another than ``forward``.

    It keeps frames of ``forward`` alone, and there is none: no op would stand at a line.
    """
    saved = set(_STACK_TRACE_ANCHORS)
    if isinstance(module, NamedGraph) and module.binding.method != "forward":
        kinds = {kind for part in module.model.modules() for kind in type(part).__mro__}
        for kind in kinds:
            if kind.__module__.partition(".")[0] != "torch":
                for held in vars(kind).values():
                    _register_stack_trace_anchor(held)
    try:
        yield
    finally:
        _STACK_TRACE_ANCHORS.clear()
        _STACK_TRACE_ANCHORS.update(saved)


def capture(
    module: nn.Module,
    example: Mapping[str, torch.Tensor],
    dynamic_shapes: Mapping[str, Any],
    guards: list[Guard] | None = None,
    *,
    strict: bool = False,
    assumed: bool = False,
) -> torch.export.ExportedProgram:
    """Trace ``module`` into an ``ExportedProgram`` (aten level).

    What the trace leaves in the module's attributes (tensors without values) is taken out again.

    Args:
        module: in eval mode.
        example: one tensor per argument of ``forward``, in order. Every dynamic size is >= 2
            (torch.export treats 0 and 1 as constants) and no tensor object occurs twice (the
            exporter would merge the two inputs).
        dynamic_shapes: per argument, what ``torch.export.export`` takes.
        assumed: ``dynamic_shapes`` leave it to torch what it takes for granted of the sizes.
        strict: let torch read the module's bytecode instead of running it.
        guards: takes what the capture rests on: conditions on the sizes of its inputs.

    Raises:
        StageError: the module is in training mode, an example is unusable, or torch.export
            refuses the module; torch's own message is kept.
    """
    if any(part.training for part in module.modules()):
        culprit = next(name for name, part in module.named_modules() if part.training)
        raise StageError("capture", f"module '{culprit or '(root)'}' is in training mode")
    _check_example(example, dynamic_shapes)
    names = list(example)
    kept = KeptState(module)
    try:
        watching = watched_guards(assumed=assumed)
        with (
            torch.no_grad(),
            keep_recurrent_ops(),
            quiet_exporter(),
            without_fast_path(),
            _lines_in_methods(module),
            watching as watched,
        ):
            exported = torch.export.export(
                module,
                tuple(example.values()),
                dynamic_shapes={
                    argument: dict(dynamic_shapes.get(name) or {})
                    for argument, name in zip(argument_names(names), names, strict=True)
                },
                strict=strict,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
    except Exception as error:
        message = str(error).split("\n\n")[0][:2000]
        raise StageError(
            "capture",
            f"torch.export refused the module: {message}",
            frozen=freezes_an_axis(message),
            source=line_in(message),
        ) from error
    finally:
        kept.restore()
    if guards is not None:
        guards += guards_of(exported, watched, names)
    return exported


def _check_example(example: Mapping[str, torch.Tensor], dynamic_shapes: Mapping[str, Any]) -> None:
    seen: dict[int, str] = {}
    for name, tensor in example.items():
        other = seen.setdefault(id(tensor), name)
        if other != name:
            raise StageError(
                "capture",
                f"the same tensor object is the example of two inputs, '{other}' and '{name}'",
            )
    for name, tensor in example.items():
        for axis in dynamic_shapes.get(name) or {}:
            if tensor.shape[axis] < 2:
                raise StageError(
                    "capture",
                    f"example '{name}' has size {tensor.shape[axis]} on dynamic axis {axis}; "
                    "it must be at least 2",
                )
