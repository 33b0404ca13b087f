"""What one case gives at once, and in PyTorch's windows: the two ends that are compared."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from exporter.contracts.calls import run_calls
from exporter.contracts.compare.noise import Noise, measure_noise, scale_of
from exporter.contracts.locate.finite import not_finite
from exporter.contracts.stream.lookahead import Reach, measure_reach
from exporter.contracts.stream.offline import Offline, offline_target, time_input
from exporter.contracts.target import ForwardError, Target, as_array
from exporter.core.tensors import Arrays, Case
from exporter.core.windows import Streamed


@dataclass(frozen=True, slots=True, kw_only=True)
class Double:
    """The same in float64: outputs of the whole, and of every call."""

    outputs: Arrays
    parts: Sequence[Arrays]


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """Both ends of one case.

    Attributes:
        names: outputs that are streamed.
        axes: axis of an output that varies with what is cut and with nothing else, where it is one.
        steps: of the whole as the target sees it, with the zeros that it is given.
        target: sees everything at once.
        narrow: its outputs in float32. parts: of every call of the stream.
        double: both in float64; None where the module does not run there.
        noise: what rounding explains, of the whole and of the stream.
        reach: how far each module looks ahead.
    """

    case: Case
    streamed: Streamed
    names: Sequence[str]
    axes: Mapping[str, int]
    steps: int
    target: Target
    narrow: Arrays
    parts: Sequence[Arrays]
    double: Double | None
    noise: Noise
    reach: Reach


def calls_of(case: Case) -> tuple[Arrays, ...]:
    """Inputs of every call of a case."""
    return (case.inputs, *case.later)


def whole_of(
    target: Target,
    offline: Offline | None,
    left_out: Collection[str],
    late: Mapping[str, int],
    case: Case,
) -> Whole | str:
    """Run both ends of a case in PyTorch; or why nothing can be compared.

    Args:
        offline: what sees the whole; None: the graph itself.
        left_out: outputs that are not streamed.
        late: output -> frames by which the stream is behind.

    Raises:
        ConfigError: the model has no such method, or it takes something else.
    """
    streamed = case.stream
    if streamed is None:
        raise AssertionError("a case without a stream")
    skipped = {*left_out, *target.states}
    names = [spec.name for spec in target.outputs if spec.name not in skipped]
    if not names:
        return "no output but states is streamed, so nothing would be compared"
    whole = offline_target(target, streamed, offline, names)
    inputs = whole.cases[0].entire
    try:
        narrow = whole.torch(inputs)
    except ForwardError as error:
        hint = "" if offline else " (name the method that sees it under 'offline')"
        return f"the whole of {streamed.steps} steps does not run{hint}: {error}"
    bad = not_finite({name: narrow[name] for name in names if name in narrow})
    if bad is not None:
        return f"of the whole {bad}: nothing is seen in it"
    try:
        parts, _ = run_calls(target.torch, calls_of(case), target.states)
    except ForwardError as error:
        return f"a window does not run: {error}"
    double = _in_double(target, whole, case)
    name = time_input(whole, streamed, offline)
    reach = measure_reach(whole, streamed, name, late)
    noise = measure_noise(whole, inputs).at_least(_noise_of_calls(parts, double))
    return Whole(
        case=case,
        streamed=streamed,
        names=names,
        axes=_declared_axes(target, streamed, names),
        steps=inputs[name].shape[streamed.axis],
        target=whole,
        narrow=narrow,
        parts=parts,
        double=double,
        noise=noise,
        reach=reach,
    )


def _declared_axes(target: Target, streamed: Streamed, names: Sequence[str]) -> dict[str, int]:
    """The axes that the specs tell, where what the calls give does not: all of it has one shape."""
    cut = target.spec(streamed.input).shape[streamed.axis]
    others = {size for spec in target.inputs if spec.name != streamed.input for size in spec.shape}
    fixed = {target.batch, *others} - {cut}
    found = {}
    for name in names:
        shape = target.spec(name).shape
        own = [at for at, size in enumerate(shape) if isinstance(size, str) and size not in fixed]
        if len(own) == 1:
            found[name] = own[0]
    return found


def _in_double(target: Target, whole: Target, case: Case) -> Double | None:
    """Both in float64; None where the module does not run there."""

    def run(of: Target) -> Callable[[Arrays], dict[str, np.ndarray]]:
        return lambda inputs: {k: as_array(v) for k, v in of.double(inputs).items()}

    try:
        outputs = run(whole)(whole.cases[0].entire)
        parts, _ = run_calls(run(target), calls_of(case), target.states)
    except Exception:  # noqa: BLE001 - upstream code may insist on float32, which then decides
        return None
    return Double(outputs=outputs, parts=parts)


def _noise_of_calls(parts: Sequence[Arrays], double: Double | None) -> Noise:
    """What float32 costs in the stream: errors of states add up from call to call."""
    shares: dict[str, float] = {}
    for narrow, exact in zip(parts, double.parts if double else (), strict=False):
        for name, value in narrow.items():
            other = exact[name]
            if value.dtype.kind != "f" or value.shape != other.shape or not value.size:
                continue
            scale = scale_of(other)
            gap = float(np.abs(value - other).max())
            if scale and np.isfinite(gap):
                shares[name] = max(shares.get(name, 0.0), gap / scale)
    return Noise(shares=shares)
