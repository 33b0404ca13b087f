"""The eager module on one case: as it is, and in float64 by its own code.

The float64 run is the truth of everything that is judged. It must never come from the program
that was captured: a capture that took another path would be held against itself. Decisions that
hang on rounding, and numbers that are drawn, are those of the float32 run.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from exporter.core.stopwatch import RUNNING, timed
from exporter.core.tensors import Arrays, TensorSpec
from exporter.graph.kept_state import KeptState
from exporter.interpret.decisions import Decisions, DecisionsDifferError, Recording, Replay
from exporter.interpret.eager_float64 import call_in_double
from exporter.interpret.evaluate import to_array, to_tensor

SEED = 0


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
    """The module as a user runs it, watched by nobody; random numbers from ``seed``."""
    fed = {spec.name: to_tensor(arrays[spec.name]) for spec in inputs}
    with torch.no_grad(), timed(RUNNING), seeded(seed):
        return _named(outputs, module(*fed.values()))


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
    """
    fed = {spec.name: to_tensor(arrays[spec.name]) for spec in inputs}
    recording = Recording()
    with torch.no_grad(), timed(RUNNING), seeded(SEED), recording:
        results = module(*fed.values())
    found = _named(outputs, results)
    written = tuple(
        name for name, tensor in fed.items() if not same(to_array(tensor), np.asarray(arrays[name]))
    )
    del fed, results
    fed = {name: to_tensor(array) for name, array in {**arrays, **(wide or {})}.items()}
    fed = {spec.name: fed[spec.name] for spec in inputs}
    truth, doubt, narrow = _in_double(module, outputs, fed, recording.decisions, found)
    return EagerRun(
        outputs=found,
        written=written,
        truth=truth,
        doubt=doubt,
        narrow=tuple(sorted(narrow)),
        draws=tuple(dict.fromkeys(recording.decisions.draws)),
    )


def _in_double(
    module: nn.Module,
    outputs: Sequence[TensorSpec],
    fed: Mapping[str, Tensor],
    decisions: Decisions,
    plain: Arrays,
) -> tuple[Arrays | None, str, set[str]]:
    """The float64 outputs, else why there are none; the module keeps nothing of the run."""
    narrow: set[str] = set()
    if not any(value.dtype.kind == "f" for value in plain.values()):
        return dict(plain), "", narrow
    doubt = ""
    for numbers in (False, True) if decisions.numbers else (False,):
        replay = Replay(decisions, numbers=numbers)
        kept = KeptState(module)
        try:
            with timed(RUNNING), seeded(SEED):
                results = call_in_double(module, fed, replay=replay, narrow=narrow)
            replay.finish()
            return _whole(_named(outputs, results), plain), "", narrow
        except DecisionsDifferError as error:
            doubt = f"its code takes another way in float64: {error}"
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - the user's code may insist on float32; said
            first = (str(error).strip().splitlines() or [""])[0][:200]
            said = ": ".join(part for part in (type(error).__name__, first) if part)
            return None, f"its code does not run in float64 ({said})", narrow
        finally:
            kept.restore()
    return None, doubt, narrow


def _whole(wide: Arrays, plain: Arrays) -> Arrays:
    """The float64 outputs, held against the others.

    Raises:
        DecisionsDifferError: an output has another shape, or a float output is no float64.
    """
    found = {}
    for name, value in plain.items():
        held = wide[name]
        if held.shape != value.shape:
            raise DecisionsDifferError(f"'{name}' is {held.shape}, and {value.shape} in float32")
        if value.dtype.kind == "f" and held.dtype != np.float64:
            raise DecisionsDifferError(f"'{name}' comes out as {held.dtype.name}")
        found[name] = held if value.dtype.kind == "f" else value
    return found


def _named(outputs: Sequence[TensorSpec], results: Any) -> Arrays:
    pairs = zip(outputs, results, strict=True)
    # Copies: an output may be a view of what the module keeps, or of an input.
    return {spec.name: np.array(to_array(value)) for spec, value in pairs}


def same(left: np.ndarray, right: np.ndarray) -> bool:
    """Equal in shape and in every value; NaN equals NaN."""
    floating = left.dtype.kind == "f"
    return left.shape == right.shape and np.array_equal(left, right, equal_nan=floating)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """All generators that a model may draw from start at ``seed``; they are put back."""
    python, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)
