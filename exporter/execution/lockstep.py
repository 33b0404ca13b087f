"""PyTorch in float32, PyTorch in float64 and ONNX walk the same program in lock-step.

Five values belong to a tap; four numbers come out of them, and then all five are dropped:

    reference   float32 PyTorch, free run of the captured program
    truth_free  float64 PyTorch, free run; integer and boolean values are the reference's
    truth_local float64 on the float32 reference values that the op read (upcast op by op)
    free        ONNX on its own values: the error that a user gets
    forced      ONNX fed the reference at every tap: the error that this layer makes by itself

Windows are cut so that one window's taps (reference, free, forced) stay under a byte budget. The
float64 values are computed op by op inside the window and live only as long as they are read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from exporter.core.tensors import Arrays
from exporter.execution.memory import FreedPages, keep_freed_pages, large_blocks_from_system
from exporter.execution.onnx_windows import OnnxWindows
from exporter.execution.onnxruntime import Deployment, WindowRun
from exporter.execution.pieces import Pieces
from exporter.execution.products import Products
from exporter.execution.stored import StoredFormats, StoredShapes, supplier
from exporter.execution.tap_values import Clock, TapValues
from exporter.graph.held_precision import HeldPrecision, native_formats
from exporter.graph.index import GraphIndex
from exporter.graph.program import Op, Program
from exporter.graph.taps import COMPARED, PlannedTap
from exporter.interpret.evaluate import (
    call,
    call_double,
    is_floating,
    keep_decisions,
    to_array,
    to_tensor,
    widen,
)
from exporter.interpret.linear_change import add_change
from exporter.interpret.margins import Margin, margin_of, uses_until_judged
from exporter.interpret.rearranged import Rearranged, rearrange, rearranged_source
from exporter.interpret.sliced_linear import SLICED_OPS, LinearSlices, operands, sliceable
from exporter.interpret.targets import moves_elements, shown_targets

_TAP_COPIES = 3
_KEPT = 1 << 30
# Bytes of taps in a window. What one has freed is there for the next, and the time to build a
# session grows faster than its nodes: many small windows cost less than a few large ones.
_WINDOW = 128 << 20
_LARGE = 64 << 20
"""Bytes of one float64 value from which freed ones are not kept for the next."""


class Lockstep:
    """One program and one ONNX graph, walked together on any number of cases.

    Args:
        program: captured program (the reference).
        graph: the ONNX file under test.
        planned: fate of every tap, from ``plan_taps``.
        deployment: how the windows of the ONNX graph are run.
        budget: bytes that the taps of one window may hold.
    """

    def __init__(
        self,
        program: Program,
        graph: GraphIndex,
        planned: tuple[PlannedTap, ...],
        *,
        deployment: Deployment,
        budget: int,
    ):
        self._program = program
        self._graph = graph
        self._planned = {tap.tap.name: tap for tap in planned}
        self._deployment = deployment
        self._budget = budget
        self._window = min(budget, _WINDOW)
        self._freed = FreedPages(max(4 * budget, _KEPT))
        self._products = Products()
        self._ops = {op.name: op for op in program.ops}
        self._last = uses_until_judged(program, self._ops)
        self._sessions: dict[tuple, WindowRun] = {}
        self._stored = StoredShapes()
        self._weights: dict[str, Any] = {}
        self._names = {tap.onnx_name: tap.tap.name for tap in planned}
        live = [t for t in planned if t.fate == COMPARED and not t.constant]
        self._cut = frozenset(tap.onnx_name for tap in live)
        self.held = HeldPrecision(graph, self._cut, native_formats(program))
        self._formats = StoredFormats(self.held)
        self._shown = shown_targets(program)
        self._sources = {op.name: tuple(op.refs()) for op in program.ops}
        self._sliceable = sliceable(program)
        self._rearranged = frozenset(
            source for op in program.ops if (source := rearranged_source(op)) is not None
        )
        self.clock = Clock()

    def sources(self, name: str) -> tuple[str, ...]:
        """Values that the op behind a tap reads."""
        return self._sources[name]

    def walk(self, inputs: Arrays, again: frozenset[str] = frozenset()) -> Iterator[TapValues]:
        """Yield every tap of the program, in order, on one case.

        Args:
            again: taps to look at once more: these alone are yielded, onnxruntime is not run, and
                the piece of each can be evaluated in float64 until the next one is asked for.
        """
        keep_freed_pages()
        with torch.no_grad():
            yield from _Walk(self, inputs, again).run()
        # The next case touches the same pages again; what is far more than it needs goes back.
        self._freed.settle()


class _Walk:
    """State of one walk."""

    def __init__(self, owner: Lockstep, inputs: Arrays, again: frozenset[str] = frozenset()):
        self.owner = owner
        self.pieces = Pieces(owner._graph, owner._cut, owner._planned, inputs, again)
        program = owner._program
        weights = {name: program.tensors[key] for name, key in program.weights.items()}
        start = {name: to_tensor(inputs[name]) for name in program.inputs}
        self.reference: dict[str, Any] = {**weights, **start}
        self.wide: dict[str, Any] = {}
        self.local: dict[str, Any] = {}
        self.op_weights: dict[str, Any] = {}
        self.sliced: dict[str, LinearSlices] = {}
        self.free_values: dict[str, np.ndarray] = {}
        # What is looked at again has the shapes and formats that the walk before has found.
        self.stored = owner._stored = owner._stored if again else StoredShapes()
        self.formats = owner._formats = owner._formats if again else StoredFormats(owner.held)
        self.supply = self.formats.feeding(supplier(self.reference, owner._names, self.stored))
        options: dict[str, Any] = {
            "taps": owner._cut,
            "sessions": owner._sessions,
            "weights": owner._weights,
        }
        self.free = OnnxWindows(owner._graph, inputs, owner._deployment, **options)
        self.forced = OnnxWindows(
            owner._graph,
            inputs,
            owner._deployment,
            forced=owner._cut,
            supply=self.supply,
            **options,
        )
        self.ops: list[tuple[int, Op]] = []
        self.held: set[str] = set()
        self.products = owner._products
        self.freed = owner._freed
        self.large = False

    def run(self) -> Iterator[TapValues]:
        owner, bytes_held = self.owner, 0
        for index, op in enumerate(owner._program.ops):
            started = time.perf_counter()
            value = call(op, self.reference.__getitem__)
            owner.clock.add("torch float32", time.perf_counter() - started)
            size = 0
            if op.kind == "tensor" and op.name in owner._planned:
                size = _TAP_COPIES * value.numel() * value.element_size()
            if self.ops and bytes_held + size > owner._window:
                # A tap that is larger than that by itself gets a window of its own.
                yield from self._flush(last=False)
                bytes_held = 0
            if not self.large and size // _TAP_COPIES * 2 > _LARGE:
                large_blocks_from_system()
                self.large = True
            if size > owner._budget:
                self.freed.give_back()
            self.reference[op.name] = value
            self.ops.append((index, op))
            bytes_held += size
        yield from self._flush(last=True)

    def _flush(self, *, last: bool) -> Iterator[TapValues]:
        owner = self.owner
        here = [owner._planned[op.name] for _, op in self.ops if op.name in owner._planned]
        names = [tap.onnx_name for tap in here if tap.onnx_name in owner._cut]
        built = self.free.build_seconds + self.forced.build_seconds
        ran = self.free.run_seconds, self.forced.run_seconds
        if self.pieces.wanted:
            self.free.pass_over(names)
            self.forced.pass_over(names)
            free, forced = {}, {}
        else:
            free = self.formats.learn(self.free.advance(names, last=last))
            free = self._in_shape(here, free)
            forced = self.formats.as_seen(self.forced.advance(names, last=last))
            forced = self._in_shape(here, forced)
        built = self.free.build_seconds + self.forced.build_seconds - built
        owner.clock.add("session building", built)
        owner.clock.add("onnx free", self.free.run_seconds - ran[0])
        owner.clock.add("onnx forced", self.forced.run_seconds - ran[1])
        for index, op in self.ops:
            started = time.perf_counter()
            self._double(op)
            owner.clock.add("torch float64", time.perf_counter() - started)
            planned = owner._planned.get(op.name)
            if planned is not None:
                if not self.pieces.wanted or op.name in self.pieces.wanted:
                    yield self._values(op, planned, free, forced)
                    self.pieces.done(op.name)
                # Whoever reads a tap reads the reference: its local value has done its work.
                if planned.onnx_name in owner._cut:
                    self.local.pop(op.name, None)
                    value = free.pop(planned.onnx_name, None)
                    if value is not None and op.name in owner._rearranged:
                        self.free_values[op.name] = value
                    forced.pop(planned.onnx_name, None)
            self._release(owner._last.get(index, ()))
        done = [n for n in self.held if not self._onnx_reads(n) and not self.pieces.reads(n)]
        for name in done:
            self.held.discard(name)
            self.reference.pop(name, None)
        self.ops = []
        free.clear()
        forced.clear()
        if self.large:
            self.freed.give_back()
        else:
            self.freed.settle()

    def _in_shape(
        self, here: list[PlannedTap], values: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Values of the file in PyTorch's shapes, where only that differs; outputs as they are."""
        for tap in here:
            name = tap.onnx_name
            if name in values and not tap.output:
                reference = self.reference[tap.tap.name]
                parts = isinstance(reference, torch.Tensor) and reference.is_complex()
                expected = (*np.shape(reference), 2) if parts else np.shape(reference)
                values[name] = self.stored.take(name, values[name], expected)
        return values

    def _double(self, op: Op) -> None:
        """Compute the free and the local float64 value of ``op``."""
        reference = self.reference[op.name]
        if not is_floating(reference):
            self.wide[op.name] = reference
            self.local[op.name] = reference
            return
        self.op_weights.clear()
        if self._too_large(op, reference):
            self.sliced[op.name] = self._slices(op, reference)
            return
        if moves_elements(op.target) and all(self._is_exact(name) for name in op.refs()):
            self.local[op.name] = reference
            self.formats.move(op, self._name_in_file(op.name), self._operand)
        else:
            self.local[op.name] = self._local_value(op, reference)
        wide = self._changed(op) if op.target in SLICED_OPS else None
        if wide is None:
            wide = keep_decisions(call_double(op, self._wide_of), reference)
        self.wide[op.name] = wide

    def _local_value(self, op: Op, reference: Any) -> Any:
        if op.target not in SLICED_OPS:
            return keep_decisions(call_double(op, self._local_of), reference)
        x, weight, bias = operands(op)
        found = self.products.multiply(widen(self._local_of(x)), widen(self._local_of(weight)))
        return found if bias is None else found.add_(widen(self._local_of(bias)))

    def _changed(self, op: Op) -> torch.Tensor | None:
        x, weight, _ = operands(op)
        if weight not in self.owner._program.weights:
            return None
        return add_change(
            self.local[op.name],
            widen(self._wide_of(x)),
            self._local_of(x),
            self.reference[weight],
            self.products.multiply,
        )

    def _too_large(self, op: Op, reference: torch.Tensor) -> bool:
        planned = self.owner._planned.get(op.name)
        cut = planned is not None and planned.onnx_name in self.owner._cut
        float64 = 2 * 8 * reference.numel() if op.name in self.owner._sliceable else 0
        return cut and float64 > self.owner._budget

    def _slices(self, op: Op, reference: torch.Tensor) -> LinearSlices:
        x, weight, bias = operands(op)
        rows = max(1, self.owner._budget // (4 * 8 * reference.shape[-1]))
        return LinearSlices(
            wide=widen(self._wide_of(x)),
            local=widen(self._local_of(x)),
            weight=self._widened(weight),
            bias=None if bias is None else self._widened(bias),
            rows=rows,
        )

    def _wide_of(self, name: str) -> Any:
        if name in self.sliced:
            return self.sliced[name].whole()
        return self.wide[name] if name in self.wide else self._widened(name)

    def _local_of(self, name: str) -> Any:
        """What the ONNX piece reads: the reference at a cut, else the piece's own float64."""
        if self._is_cut(name) or name not in self.local:
            return self.formats.rounded(self._name_in_file(name), self._widened(name))
        return self.local[name]

    def _name_in_file(self, name: str) -> str:
        planned = self.owner._planned.get(name)
        return planned.onnx_name if planned is not None else name

    def _operand(self, name: str) -> tuple[str, Any]:
        """A reference value and its name in the file; "" where the piece itself computes it."""
        return self._name_in_file(name) if self._is_cut(name) else "", self.reference[name]

    def _widened(self, name: str) -> Any:
        """A reference value in float64; a weight is widened once for both float64 values."""
        if name not in self.owner._program.weights:
            return self.reference[name]
        if name not in self.op_weights:
            self.op_weights[name] = widen(self.reference[name])
        return self.op_weights[name]

    def _is_cut(self, name: str) -> bool:
        planned = self.owner._planned.get(name)
        if planned is None:
            return name not in self.local
        # A constant that the file holds is part of the piece, computed there once and for all.
        return planned.onnx_name in self.owner._cut

    def _is_exact(self, name: str) -> bool:
        """True when the local float64 value of ``name`` is the float32 reference itself."""
        return self._is_cut(name) or self.local.get(name) is self.reference.get(name)

    def _values(self, op: Op, planned: PlannedTap, free: Arrays, forced: Arrays) -> TapValues:
        name = planned.onnx_name
        constant = None
        if planned.constant:
            held = {name: self.owner._graph.array(name)}
            constant = self._in_shape([planned], held)[name]
        floating = is_floating(self.reference[op.name])
        sliced = self.sliced.get(op.name)
        return TapValues(
            planned=planned,
            reference=to_array(self.reference[op.name]),
            truth_free=None if sliced else to_array(self.wide[op.name]),
            truth_local=None if sliced else to_array(self.local[op.name]),
            free=free.get(name, constant),
            forced=forced.get(name, constant),
            exact=not sliced and self.local[op.name] is self.reference[op.name],
            margin=None if floating else self._margin(op, self._wide_of),
            margin_local=None if floating else self._margin(op, self._local_of),
            stopped=self.forced.stopped.get(name) or self.free.stopped.get(""),
            slices=sliced,
            rearranged=self._rearranged(op) if floating and not sliced else None,
            stored=self.stored.of(name),
            shown=self.owner._shown[op.name],
            moved=self.formats.moved.get(op.name),
            double=self.pieces.evaluation(op.name, self.supply),
            losing=self.pieces.losing(op.name, self.supply, self.owner._deployment),
            cost=self.pieces.cost(op, self.reference.__getitem__, self.local.get(op.name)),
        )

    def _margin(self, op: Op, truth: Callable[[str], Any]) -> Callable[..., Margin] | None:
        sliced = self.sliced if truth == self._wide_of else {}
        return margin_of(op, self.reference.__getitem__, truth, sliced, self.owner._ops.get)

    def _rearranged(self, op: Op) -> Rearranged | None:
        source = rearranged_source(op)
        reference = self.reference[op.name]
        # A cast to the dtype that a value has already shows the same elements as well.
        if source not in self.free_values or self.reference[source].dtype != reference.dtype:
            return None
        return rearrange(op, self.free_values[source], tuple(reference.shape))

    def _onnx_reads(self, name: str) -> bool:
        planned = self.owner._planned.get(name)
        return planned is not None and self.forced.reads_later(planned.onnx_name)

    def _release(self, names: tuple[str, ...]) -> None:
        for name in names:
            self.wide.pop(name, None)
            self.local.pop(name, None)
            self.sliced.pop(name, None)
            self.free_values.pop(name, None)
            self.formats.moved.pop(name, None)
            if self._onnx_reads(name) or self.pieces.reads(name):
                self.held.add(name)
            else:
                self.reference.pop(name, None)
