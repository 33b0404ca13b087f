"""What a contract checks: a module, its specs, inputs to try, and the ONNX file made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from exporter.cases.defaults import counted_input
from exporter.contracts.locate.recorder import raised_in
from exporter.contracts.memo import Memo, digest_of
from exporter.contracts.onnx_side import OnnxSide
from exporter.contracts.result import ONNX, ContractResult, Location, not_run
from exporter.contracts.state import Snapshot
from exporter.core.errors import ExportVerifyError, OnnxStoppedError, first_line, named_line
from exporter.core.stopwatch import RUNNING, timed
from exporter.core.tensors import BATCH_NAMES, Arrays, Axis, Case, TensorSpec
from exporter.interpret.eager_float64 import call_in_double
from exporter.interpret.evaluate import to_tensor
from exporter.joining.evaluate import Values


class ForwardError(ExportVerifyError):
    """A forward raised; says what it raised and on which inputs."""

    def __init__(self, error: BaseException, shapes: Mapping[str, tuple[int, ...]]):
        self.kind = type(error).__name__
        self.text = first_line(error, 300)
        sizes = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        super().__init__(f"{named_line(error, 300)} (inputs: {sizes})")


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeAxis:
    """The axis of an input along which it may be cut: its name, its input, its position."""

    input: str
    name: str
    position: int
    minimum: int
    maximum: int | None
    multiple_of: int = 1

    def near(self, size: int) -> int:
        """As ``Axis.near``."""
        return Axis(name=self.name, minimum=self.minimum, multiple_of=self.multiple_of).near(size)


@dataclass(kw_only=True)
class Target:
    """A module under contract, independent of how it came to be.

    Attributes:
        name: for messages.
        module: in eval mode; called as ``module(*inputs)`` in the order of ``inputs``; returns a
            tensor, a tuple in the order of ``outputs``, or a dict by output name.
        inputs, outputs: their specs.
        cases: at least one; the first is what probes are cut from.
        lengths: input -> the input that says how much of each of its rows is in use, either
            lengths [B] int or a mask [B, T] bool (True where in use). Guessed from the names
            ``<input>_lengths`` and ``<input>_mask`` when empty.
        batch: name of the batch axis; guessed from ``BATCH_NAMES`` when None.
        example: traced sizes, one tensor per input; drawn from the specs when None.
        onnx: the exported side; made on demand.
        sweep: declared sizes of an axis or an input, for the shapes contract.
        probe_size: steps of the time axis that probes use at most.
        thorough: look at more, without regard to cost.
        beside: what ``module`` is called in sentences.
        windows: a signal without an axis that varies is a window of that size, to be filled
            with other signals whole.
        states: output that holds state after a call -> the input that takes it in the next.
        trusted: code that a YAML names may run.
        inside: of a file that stands where a module would: its values in float64, by its names,
            one array each.
    """

    name: str
    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    cases: tuple[Case, ...]
    onnx: OnnxSide
    lengths: Mapping[str, str] = field(default_factory=dict)
    batch: str | None = None
    example: Mapping[str, Tensor] | None = None
    sweep: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    probe_size: int | None = None
    thorough: bool = False
    beside: str = "PyTorch"
    windows: bool = False
    states: Mapping[str, str] = field(default_factory=dict)
    trusted: bool = False
    inside: Callable[[Arrays], AbstractContextManager[Values]] | None = None
    forwards: int = 0

    def __post_init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._noise: Any = None
        self._memo = Memo()
        if not self.lengths:
            names = {spec.name for spec in self.inputs}
            self.lengths = {
                spec.name: f"{spec.name}{suffix}"
                for spec in self.inputs
                for suffix in ("_mask", "_lengths")
                if f"{spec.name}{suffix}" in names
            }
        if not self.lengths:
            shapes = {spec.name: spec.shape for spec in self.inputs}
            counts = {
                counted_input(spec.name, shapes): spec.name
                for spec in self.inputs
                if "int" in spec.dtype and len(spec.shape) == 1
            }
            self.lengths = {key: name for key, name in counts.items() if key is not None}
        if self.batch is None:
            # Rows that come in groups of several are no items of their own.
            batch_axes = [
                axis.name
                for spec in self.inputs
                for axis in spec.axes
                if axis.name in BATCH_NAMES and axis.multiple_of == 1
            ]
            self.batch = batch_axes[0] if batch_axes else None

    # -- running ---------------------------------------------------------------------------

    def call(self, inputs: Arrays | Mapping[str, Tensor], *, keep_state: bool = False) -> Any:
        """Run the module once on fresh copies; return what it returns.

        Raises:
            ForwardError: the module raised.
        """
        tensors = self.tensors(inputs)
        snapshot = self.snapshot
        self._count(tensors)
        try:
            with torch.no_grad(), timed(RUNNING):
                return self.module(*tensors.values())
        except Exception as error:
            shapes = {name: tuple(value.shape) for name, value in tensors.items()}
            raise ForwardError(error, shapes) from error
        finally:
            if not keep_state:
                snapshot.restore()

    def tensors(self, inputs: Arrays | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Fresh tensors of the module's inputs, in call order."""
        return {name: as_tensor(inputs[name]) for name in self.input_names}

    def double(self, inputs: Arrays, *, rounded: torch.dtype | None = None) -> dict[str, Tensor]:
        """Outputs of the module in float64, as ``call_in_double`` has them and raises."""
        snapshot = self.snapshot
        try:
            return self.named(call_in_double(self.module, self.tensors(inputs), rounded=rounded))
        finally:
            snapshot.restore()

    def recall_double(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """``double`` as arrays, of an earlier call on equal inputs where there was one."""
        key = ("float64", digest_of(inputs))
        found = self._memo.get(key)
        if found is None:
            found = {name: as_array(value) for name, value in self.double(inputs).items()}
            self._memo.put(key, found)
        return found

    def torch(self, inputs: Arrays, *, keep_state: bool = False) -> dict[str, np.ndarray]:
        """Outputs of PyTorch by name; bfloat16 comes back as float32."""
        return self.arrays(self.call(inputs, keep_state=keep_state))

    def recall(self, inputs: Arrays, *, keep: bool = True) -> dict[str, np.ndarray]:
        """As ``torch``, of an earlier run on equal inputs and as many threads where there was one.

        Not for what asks whether a run repeats. The arrays may be read-only.

        Args:
            keep: the outputs of a run that is made now; False where nobody will ask again.
        """
        kept = self._memo.get((torch.get_num_threads(), digest_of(inputs)))
        if kept is not None:
            return kept
        return self.remember(inputs, self.call(inputs)) if keep else self.torch(inputs)

    def remember(self, inputs: Arrays, returned: Any) -> dict[str, np.ndarray]:
        """Keep what a run from the state before the first call returned, for ``recall``."""
        outputs = self.arrays(returned)
        self.keep(inputs, outputs)
        return outputs

    def keep(self, inputs: Arrays, outputs: Arrays) -> None:
        """As ``remember``, of outputs as arrays, which become read-only."""
        self._memo.put((torch.get_num_threads(), digest_of(inputs)), outputs)

    def arrays(self, returned: Any) -> dict[str, np.ndarray]:
        """What ``module`` returned, as output name -> array."""
        return {name: as_array(value) for name, value in self.named(returned).items()}

    def raised_at(self, error: ForwardError) -> Location:
        """Which part of the module raised, and on which line."""
        return raised_in(self.module, error.__cause__ or error)

    def named(self, returned: Any) -> dict[str, Tensor]:
        """What ``module`` returned, as output name -> tensor."""
        names = [spec.name for spec in self.outputs]
        if isinstance(returned, Mapping):
            return {name: returned[name] for name in names}
        if isinstance(returned, Tensor):
            returned = (returned,)
        return dict(zip(names, returned, strict=False))

    @property
    def snapshot(self) -> Snapshot:
        """State before the first call."""
        if self._snapshot is None:
            self._snapshot = Snapshot(self.module)
        return self._snapshot

    def _count(self, tensors: Mapping[str, Tensor]) -> None:
        self.forwards += 1

    # -- names and axes --------------------------------------------------------------------

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in call order."""
        return tuple(spec.name for spec in self.inputs)

    def spec(self, name: str) -> TensorSpec:
        """Spec of an input or output; raises ``KeyError`` for another name."""
        for spec in (*self.inputs, *self.outputs):
            if spec.name == name:
                return spec
        raise KeyError(name)

    def time_axis(self, input_name: str | None = None, axis: str | None = None) -> TimeAxis | None:
        """The axis to cut along: the last symbolic axis, that is not the batch, of the first
        input that has one (of ``input_name`` and called ``axis``, when given)."""
        for spec in self.inputs:
            if input_name not in (None, spec.name) or spec.name in self.lengths.values():
                continue
            for position in reversed(range(len(spec.shape))):
                size = spec.shape[position]
                if not isinstance(size, str) or size == self.batch or axis not in (None, size):
                    continue
                limits = next((a for a in spec.axes if a.name == size), None)
                return TimeAxis(
                    input=spec.name,
                    name=size,
                    position=position,
                    minimum=limits.minimum if limits else 1,
                    maximum=limits.maximum if limits else None,
                    multiple_of=limits.multiple_of if limits else 1,
                )
        return None

    def signal_axis(self, name: str | None = None, axis: str | None = None) -> TimeAxis | None:
        """``time_axis``, or where inputs are windows the last axis of the first one of floats that
        has more than one element; its name is "" then: no size of it can be chosen."""
        time_axis = self.time_axis(name, axis)
        if time_axis is not None or not self.windows:
            return time_axis
        for spec in self.inputs:
            signal = spec.dtype.startswith(("float", "bfloat")) and spec.initial is None
            states = set(self.states.values())
            if not signal or spec.name in states or name not in (None, spec.name):
                continue
            # Samples may have their channel behind them: [batch, samples, 1].
            for at, size in reversed([*enumerate(spec.shape)]):
                if isinstance(size, int) and size > 1:
                    ends = {"minimum": size, "maximum": size}
                    return TimeAxis(input=spec.name, name="", position=at, **ends)
        return None

    def batch_position(self, name: str) -> int | None:
        """Position of the batch axis in an input or output; ``None`` without one."""
        shape = self.spec(name).shape
        return shape.index(self.batch) if self.batch in shape else None


def on_file(name: str, target: Target, check: Callable[[], ContractResult]) -> ContractResult:
    """What a contract says of the file: not run where there is none, or where it does not run.

    Args:
        name: of the contract. check: looks at the file.
    """
    if target.onnx.problem is not None:
        return not_run(name, ONNX, f"no ONNX file: {target.onnx.problem}")
    try:
        return check()
    except OnnxStoppedError as error:
        return not_run(name, ONNX, f"onnxruntime does not run the probe: {error}")


def as_tensor(value: np.ndarray | Tensor) -> Tensor:
    """A tensor that owns its memory."""
    return value.detach().clone() if isinstance(value, Tensor) else to_tensor(value)


def as_array(value: Tensor) -> np.ndarray:
    """A numpy array of its own; bfloat16 becomes float32."""
    return as_view(value).copy()


def as_view(value: Tensor) -> np.ndarray:
    """As ``as_array``, on the tensor's own memory where that can be: to look, not to keep."""
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
