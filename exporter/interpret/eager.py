"""The eager module on one case, as a user runs it; ``eager_float64`` runs it in float64."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from exporter.core.errors import ExportVerifyError, named_line
from exporter.core.stopwatch import RUNNING, timed
from exporter.core.tensors import Arrays, Case, TensorSpec
from exporter.interpret.decisions import SEED, Recording, seeded
from exporter.interpret.eager_float64 import named, outputs_in_double
from exporter.interpret.evaluate import to_array, to_tensor


class ModuleStoppedError(ExportVerifyError):
    """The eager module raised on its inputs; what it raised is the cause.

    Attributes:
        case: whose inputs they are; None where that is not known yet.
    """

    def __init__(self, error: BaseException, case: Case | None = None) -> None:
        super().__init__(named_line(error, 500))
        self.case = case


@contextlib.contextmanager
def on_case(case: Case) -> Iterator[None]:
    """Inputs that are given to a module while the block runs are those of a case."""
    try:
        yield
    except ModuleStoppedError as error:
        cause = error.__cause__ or error
        raise ModuleStoppedError(cause, case) from cause


def _called(module: nn.Module, fed: Mapping[str, Tensor]) -> Any:
    try:
        return module(*fed.values())
    except (ExportVerifyError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise ModuleStoppedError(error) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class EagerRun:
    """What the module gave on one case.

    Attributes:
        outputs: in its own precision, by name.
        written: inputs that it wrote to.
        truth: the same outputs in float64 (integers and booleans as in ``outputs``); None when
            its code does not run in float64.
        doubt: why there is no ``truth``; "".
        narrow: ops without a float64 kernel, which ran in float32 inside of the float64 run.
        draws: ops that drew random numbers.
    """

    outputs: Arrays
    written: tuple[str, ...] = ()
    truth: Arrays | None = None
    doubt: str = ""
    narrow: tuple[str, ...] = ()
    draws: tuple[str, ...] = ()


def run_plain(
    module: nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    arrays: Arrays,
    *,
    seed: int = SEED,
) -> Arrays:
    """The module as a user runs it, watched by nobody; random numbers from ``seed``.

    Raises:
        ModuleStoppedError: it raised.
    """
    fed = {spec.name: to_tensor(arrays[spec.name]) for spec in inputs}
    with torch.no_grad(), timed(RUNNING), seeded(seed):
        return named(outputs, _called(module, fed))


def run_eager(
    module: nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    arrays: Arrays,
    *,
    wide: Arrays | None = None,
) -> EagerRun:
    """Run the module as it is, and in float64.

    Args:
        module: called with one tensor per input, in order; returns one per output.
        inputs, outputs: specs, in order. arrays: one per input; never written to.
        wide: float64 values of inputs that carry state, for the float64 run.

    Raises:
        ModuleStoppedError: it raised, as it is.
    """
    fed = {spec.name: to_tensor(arrays[spec.name]) for spec in inputs}
    recording = Recording()
    with torch.no_grad(), timed(RUNNING), seeded(SEED), recording:
        results = _called(module, fed)
    named_outputs = named(outputs, results)
    written = tuple(
        name for name, tensor in fed.items() if not same(to_array(tensor), np.asarray(arrays[name]))
    )
    del fed, results
    fed = {name: to_tensor(array) for name, array in {**arrays, **(wide or {})}.items()}
    fed = {spec.name: fed[spec.name] for spec in inputs}
    truth, doubt, narrow = outputs_in_double(
        module, outputs, fed, recording.decisions, named_outputs
    )
    return EagerRun(
        outputs=named_outputs,
        written=written,
        truth=truth,
        doubt=doubt,
        narrow=tuple(sorted(narrow)),
        draws=tuple(dict.fromkeys(recording.decisions.draws)),
    )


def same(left: np.ndarray, right: np.ndarray) -> bool:
    """Equal in shape and in every value; NaN equals NaN."""
    floating = left.dtype.kind == "f"
    return left.shape == right.shape and np.array_equal(left, right, equal_nan=floating)
