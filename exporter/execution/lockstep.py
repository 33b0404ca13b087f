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
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from exporter.core.tensors import COMPARED, Arrays, PlannedTap
from exporter.execution.deployment import Deployment
from exporter.execution.memory import FreedPages, keep_freed_pages, large_blocks_from_system
from exporter.execution.onnx_runs import WindowRun
from exporter.execution.onnx_windows import OnnxWindows
from exporter.execution.pieces import Pieces
from exporter.execution.products import Products
from exporter.execution.stored_form import StoredFormats, StoredShapes, supplier
from exporter.execution.tap_values import Clock, TapValues
from exporter.graph.index import GraphIndex
from exporter.graph.node_formats import HeldPrecision, native_formats
from exporter.graph.program import Op, Program
from exporter.interpret.allowed_ops import shown_targets
from exporter.interpret.evaluate import is_floating, to_array
from exporter.interpret.margins import ANGLES
from exporter.interpret.rearranged import Rearranged, rearrange, rearranged_source
from exporter.interpret.sliced_linear import SLICED_OPS
from exporter.interpret.stepper import Stepper, start_values

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
        # Of a constant that the file holds there is no cut: it is part of the pieces that read it.
        self._cut_taps = frozenset(t.tap.name for t in planned if t.onnx_name in self._cut)
        self._sliceable = _sliceable(program) & self._cut_taps
        values = (*program.inputs, *program.weights, *(op.name for op in program.ops))
        self._in_file = {name: name for name in values}
        self._in_file |= {tap.tap.name: tap.onnx_name for tap in planned}
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
        self.free_values: dict[str, np.ndarray] = {}
        # What is looked at again has the shapes and formats that the walk before has found.
        self.stored = owner._stored = owner._stored if again else StoredShapes()
        self.formats = owner._formats = owner._formats if again else StoredFormats(owner.held)
        formats, names = self.formats, owner._in_file
        self.stepper = Stepper(
            owner._program,
            start_values(owner._program, inputs),
            free=names,
            cuts=owner._cut_taps,
            fed=lambda name, value: formats.rounded(names[name], value),
            multiply=owner._products.multiply,
            sliced=owner._sliceable,
            budget=owner._budget,
        )
        self.reference = self.stepper.plain
        self.supply = formats.feeding(supplier(self.reference, owner._names, self.stored))
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
        self.freed = owner._freed
        self.large = False

    def run(self) -> Iterator[TapValues]:
        owner, bytes_held = self.owner, 0
        for index, op in enumerate(owner._program.ops):
            started = time.perf_counter()
            value = self.stepper.float32(op)
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
            if self.stepper.float64(op):
                self.formats.move(op, owner._in_file[op.name], self._operand)
            owner.clock.add("torch float64", time.perf_counter() - started)
            planned = owner._planned.get(op.name)
            if planned is not None:
                if not self.pieces.wanted or op.name in self.pieces.wanted:
                    yield self._values(op, planned, free, forced)
                    self.pieces.done(op.name)
                if planned.onnx_name in owner._cut:
                    value = free.pop(planned.onnx_name, None)
                    if value is not None and op.name in owner._rearranged:
                        self.free_values[op.name] = value
                    forced.pop(planned.onnx_name, None)
            self.stepper.restart(op.name)
            self._release(index)
        done = [name for name in self.held if not self._is_read_later(name)]
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

    def _operand(self, name: str) -> tuple[str, Any]:
        """A reference value and its name in the file; "" where the piece itself computes it."""
        inside = name in self.stepper.local
        return "" if inside else self.owner._in_file[name], self.reference[name]

    def _values(self, op: Op, planned: PlannedTap, free: Arrays, forced: Arrays) -> TapValues:
        name = planned.onnx_name
        constant = None
        if planned.constant:
            weights = {name: self.owner._graph.array(name)}
            constant = self._in_shape([planned], weights)[name]
        stepper = self.stepper
        floating = is_floating(self.reference[op.name])
        decides = not floating or op.target in ANGLES
        sliced = stepper.slices.get(op.name)
        return TapValues(
            planned=planned,
            reference=to_array(self.reference[op.name]),
            truth_free=None if sliced else to_array(stepper.read_free(op.name)),
            truth_local=None if sliced else to_array(stepper.read_local(op.name)),
            free=free.get(name, constant),
            forced=forced.get(name, constant),
            exact=not sliced and stepper.is_moved(op.name),
            margin=stepper.margin(op) if decides else None,
            margin_local=stepper.margin(op, local=True) if decides else None,
            stopped=self.forced.stopped.get(name) or self.free.stopped.get(""),
            slices=sliced,
            rearranged=self._rearranged(op) if floating and not sliced else None,
            stored=self.stored.of(name),
            shown=self.owner._shown[op.name],
            moved=self.formats.moved.get(op.name),
            double=self.pieces.evaluation(op.name, self.supply),
            losing=self.pieces.losing(op.name, self.supply, self.owner._deployment),
            cost=self.pieces.cost(op, self.reference.__getitem__, stepper.local.get(op.name)),
        )

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

    def _is_read_later(self, name: str) -> bool:
        return self._onnx_reads(name) or self.pieces.reads(name)

    def _release(self, index: int) -> None:
        for name in self.stepper.release(index, float32=False):
            self.free_values.pop(name, None)
            self.formats.moved.pop(name, None)
            if not self._is_read_later(name):
                self.reference.pop(name, None)
            elif name in self.reference:
                self.held.add(name)


def _sliceable(program: Program) -> frozenset[str]:
    """Ops whose float64 value nobody reads but a decision, and that can be computed by rows."""
    floats = {op.name for op in program.ops if not op.discrete}
    read = {name for op in program.ops if op.name in floats for name in op.refs()}
    return frozenset(
        op.name
        for op in program.ops
        if op.target in SLICED_OPS and op.name not in read and op.name not in program.outputs
    )
