"""The one policy on how far ONNX may be from float64. Derived from formats, not tuned by hand.

With ``e`` the error of float32 PyTorch against float64 and ``u`` the unit roundoff of the
declared precision, a tap passes when BOTH hold:

    max |actual - truth|  <=  factor * max(e_max * u/u_ref, 6 u * scale     * w(n))
    rms (actual - truth)  <=  factor * max(e_rms * u/u_ref, 4 u * rms_scale * w(n))

**The factor (4).** Two correct float32 implementations of one op add in different orders and
use different polynomials, so their errors are two draws of the same size. Where PyTorch's own
error is above the floor the ratio stays below 2 for every op measured, tensors of a few elements
apart (see w(n)).

**The floor (6 and 4 units)** is what a dot product of 512 terms costs: no op is assumed to cost
less. PyTorch is sometimes better than float32 has to be (a cumulative sum held in a wider type,
sums of partial sums, half-ulp ``tanh``), or exact. Worst of ten seeds, in ``u * scale`` (max) and
``u * rms_scale`` (rms), onnxruntime's CPU kernels, from ``scripts/single_op_costs.py``:

    op                       PyTorch        ONNX          ratio        limit / ONNX
                             max    rms     max    rms    max    rms
    linear, K = 512          6.8    4.1     9.9    4.9    1.6    1.2    2.6
    linear, K = 2048         5.9    4.3     6.8    5.0    1.4    1.2    3.4
    conv, 400 taps          16.3    6.1     6.3    3.5    0.5    0.6    7.0
    conv, depthwise 11       2.9    1.1     2.6    1.1    1.2    1.0    9.2
    LSTM(128), 500 steps     8.3    3.4    10.0    3.7    1.2    1.1    3.3
    softmax of 100           5.3    1.7     5.2    1.6    1.1    1.1    4.6
    layer norm               3.0    1.0     3.4    1.1    1.4    1.1    7.1
    gelu                     1.4    1.4     1.4    0.6    1.1    0.5     17
    erf                      0.5    0.4     1.0    0.4    1.8    1.2     24
    sigmoid                  1.5    0.6     2.1    0.7    1.5    1.0     12
    tanh                     0.5    0.4     3.7    1.0    7.5    2.7    6.4
    exp                      0.8    0.4     0.9    0.5    1.4    1.1     28
    log                      0.8    0.6     1.6    0.6    2.5    1.0     15
    sin, cos                 0.6    0.4     1.4    0.4    2.3    1.2     17
    mean of 512              2.3    1.8     3.4    2.9    2.1    1.6    5.8
    sum of 4000              3.8    2.5    12.2    9.3    4.2    4.3    2.1
    sum of 16000             4.3    3.3    22.2   17.3     10    7.9    1.1
    cumsum of 500            0.9    0.4    10.7    6.3     16     15    2.2
    cumsum of 2000           0.9    0.4    22.0   12.9     40     30    1.1

So a float sum over more than 16,000 terms, or a cumulative one over more than 2,000, is beyond
what this policy promises to pass: onnxruntime adds one after the other. It needs an override,
with that as its reason. The same script puts faults on the same ops (error over limit, ten draws):

    weight rounded to float16            linear 211 to 225, depthwise conv 216    seen 10 of 10
    one bias element set to 0            at least 295                             seen 10 of 10
    LayerNorm epsilon 1e-6 for 1e-5      input of std 0.1: 475, 0.3: 53, 1: 4.8   seen 10 of 10
                                         3: 0.5, 10: 0.1                          seen 0 of 10
    one weight element in float16        depthwise conv 2.1 to more               seen 10 of 10
                                         linear K = 512: 0.3 to more, median 1.3  seen 7 of 10
                                         linear K = 2048: median 0.7              seen 2 of 10

What stays below 1 is hidden in rounding; comparing initialisers and attributes finds it.

**Few elements, w(n) = min(32, 10^(4/n)).** ``scale`` stands for the size of what was added up.
The largest of n results is below a fraction d of that size with probability about d^n: a single
dot product that happens to cancel has a tiny scale and an ordinary error. w(n) puts the chance of
that alarm near 1e-4 (n = 1 and 2 are capped); from n = 64 on it is below 1.16.

**Natural scale.** onnxruntime's ``Sigmoid`` is built for absolute accuracy in its range: up to
2.3 u whatever the result. Around -6 that is 72 units of the results' own rms, around -20 all of it.
Such taps take their scale from the range, see :func:`natural_scale`.

**Precision.** The limit follows from what the file holds at the tap (``Measurement.held``), read
from its nodes. A value that is stored in float16 has float16's ``u`` in its floor. What storing
costs, of integers with a scale above all, is not assumed but drawn (``Measurement.cost``): float64
PyTorch again, with every value and weight that the file stores in the format moved at random by up
to half a step of it. Two roundings of one value are two draws of the same size, so that

    limit = max(factor * max(e, floor), factor/2 * cost)

A declared precision is what the file may hold. Anything coarser (half a bit is given: weights of
7 bits are int8) gets no limit of its own and fails, whatever its figures. Where nobody has looked
at the file (``held`` is None) the declared format's ``u`` counts, and PyTorch's error is converted
by the ratio of the two roundoffs.

**Tiny values.** An inner value may lose what is below ``tiny``, where kernels flush to zero. An
output may not: its scale counts, down to the smallest number that float32 has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from exporter.config import Pipeline
from exporter.core.errors import ConfigError
from exporter.parity.measurement import Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A number format: its unit roundoff, and below which magnitude it may lose everything.

    ``tiny`` is the smallest normal number where kernels may flush denormals to zero, and the
    smallest denormal for float16, whose denormals are ordinary numbers of a network.
    """

    roundoff: float
    tiny: float


FORMATS: dict[str, Format] = {
    "float64": Format(roundoff=2.0**-53, tiny=2.0**-1022),
    "float32": Format(roundoff=2.0**-24, tiny=2.0**-126),
    "float16": Format(roundoff=2.0**-11, tiny=2.0**-24),
    # What a device may make of float32's products: ten bits of mantissa, float32's exponent.
    "tf32": Format(roundoff=2.0**-11, tiny=2.0**-126),
    "bfloat16": Format(roundoff=2.0**-8, tiny=2.0**-126),
    # Half a step of a symmetric 8-bit grid is 1/254 of the largest weight of its channel.
    "int8": Format(roundoff=2.0**-8, tiny=2.0**-126),
    "int4": Format(roundoff=2.0**-4, tiny=2.0**-126),
}
"""What may be declared."""
WEIGHTS: dict[str, str] = {"int8_weights": "int8", "int4_weights": "int4"}
"""Words of the YAML for files of which the weights are rounded, and mostly more."""
STORED: dict[str, Format] = {
    **{f"int{bits}": Format(roundoff=2.0**-bits, tiny=2.0**-126) for bits in range(1, 17)},
    "float8": Format(roundoff=2.0**-4, tiny=2.0**-126),
    "float4": Format(roundoff=2.0**-2, tiny=2.0**-126),
    **FORMATS,
}
"""What a file may be found to hold."""
SMALLEST = 2.0**-149
"""The smallest number of float32."""
NATURAL_SCALES: dict[str, float] = {"sigmoid": 1.0, "hardsigmoid": 1.0}
MOST_WIDENED = 32.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitOverride:
    """Another factor for the taps that ``pattern`` matches, with the reason that the YAML gives.

    Raises:
        ConfigError: no reason, or a factor that is not a positive finite number.
    """

    pattern: str
    factor: float
    reason: str

    def __post_init__(self) -> None:
        _check_factor(self.factor, f"override '{self.pattern}'")
        if not self.reason.strip():
            raise ConfigError(
                f"override '{self.pattern}' has no reason",
                remedy="say why this tap may be further from float64 than the policy allows",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How limits are derived; the defaults are the documented policy.

    Attributes:
        factor: how many times PyTorch's own cost ONNX may cost. Scales the floor as well.
        floor_max_ulps: least cost assumed for the largest error, in units of ``u * scale``.
        floor_rms_ulps: the same for the rms error, in units of ``u * rms_scale``.
        precision: what the file is declared to hold, a key of :data:`FORMATS`.
        overrides: the first whose pattern matches the tap's name or layer counts.
        kernel_loss: what a value is whose kernel loses digits while its graph is right:
            "finding" (it fails nothing unless a decision or an output leaves its limit), "fail".

    Raises:
        ConfigError: an unknown precision, or a number that is not positive and finite.
    """

    factor: float = 4.0
    floor_max_ulps: float = 6.0
    floor_rms_ulps: float = 4.0
    precision: str = "float32"
    overrides: tuple[LimitOverride, ...] = ()
    kernel_loss: str = "finding"

    def __post_init__(self) -> None:
        if self.precision not in FORMATS:
            raise ConfigError(
                f"unknown precision '{self.precision}'", remedy=f"one of {', '.join(FORMATS)}"
            )
        for what in ("factor", "floor_max_ulps", "floor_rms_ulps"):
            _check_factor(getattr(self, what), what)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The largest error that passes, as maximum and as rms, and where it comes from."""

    max_abs: float
    rms: float
    why: str
    override: LimitOverride | None = None


def limit(measurement: Measurement, policy: Policy, *, layer: str = "") -> Limit:
    """Derive the limit of one float tap.

    Args:
        measurement: of kind ``float``; what it does not hold counts as zero cost.
        policy: factor, floors, declared precision, overrides.
        layer: module path of the tap, so that an override may name a layer.

    An ``exact`` tap has the limit 0.
    """
    if measurement.kind == "exact":
        return Limit(max_abs=0.0, rms=0.0, why="this op only moves data: bits must be equal")
    override = next(
        (
            o
            for o in policy.overrides
            if fnmatchcase(measurement.name, o.pattern) or (layer and fnmatchcase(layer, o.pattern))
        ),
        None,
    )
    factor = policy.factor if override is None else override.factor
    reference = FORMATS.get(measurement.dtype_expected or "", FORMATS["float32"])
    cost = _stored(measurement, policy, reference)
    amplified = cost.roundoff / reference.roundoff if _declared_counts(measurement, policy) else 1.0
    drawn = measurement.cost if not too_coarse(measurement, policy) else None
    widening = widened(measurement.elements)
    own = measurement.reference
    natural = measurement.natural_scale or 0.0
    costs: list[float] = []
    floors: list[float] = []
    for error, scale, ulps in (
        (own and own.max_abs, measurement.scale, policy.floor_max_ulps),
        (own and own.rms, measurement.rms_scale, policy.floor_rms_ulps),
    ):
        unit = max(cost.roundoff * max(scale or 0.0, natural), _tiny(measurement, scale, cost))
        floors.append(ulps * unit * widening)
        # A double that float32 has computed costs what float32 costs already.
        narrow = reference is FORMATS["float64"] and (error or 0.0) > 0.05 * unit
        costs.append((error or 0.0) * (1.0 if narrow else amplified))
    shares = [0.5 * (x or 0.0) for x in (drawn and drawn.max_abs, drawn and drawn.rms)]
    why = f"{factor:g} x " + (
        f"{measurement.sides[0]}'s own distance in float32"
        if costs[0] >= floors[0]
        else "the rounding floor"
    )
    if _declared_counts(measurement, policy) and cost is not reference:
        why += f", as {policy.precision}"
    elif measurement.held and shares[0] > max(costs[0], floors[0]):
        why = f"{factor / 2:g} x what {_and(measurement.held)} costs here"
    elif cost is not reference:
        why += f" of {_and(measurement.held or ())}"
    if override is not None:
        why += f" (override '{override.pattern}': {override.reason})"
    return Limit(
        max_abs=factor * max(costs[0], floors[0], shares[0]),
        rms=factor * max(costs[1], floors[1], shares[1]),
        why=why,
        override=override,
    )


def too_coarse(measurement: Measurement, policy: Policy) -> tuple[str, ...]:
    """Formats that the file holds at a tap and that are coarser than what is declared."""
    return coarser(measurement.held or (), policy)


def coarser(formats: Iterable[str], policy: Policy) -> tuple[str, ...]:
    """Those of some formats that are coarser than what is declared."""
    declared = FORMATS[policy.precision].roundoff
    most = 2.0 * max(declared, FORMATS["float32"].roundoff)
    return tuple(n for n in formats if STORED.get(n, STORED["float4"]).roundoff > most)


def declared_formats(policy: Policy) -> tuple[str, ...]:
    """Floating formats coarser than float32 that the declared precision allows."""
    most = FORMATS[policy.precision].roundoff
    return tuple(name for name in ("float16", "bfloat16") if FORMATS[name].roundoff <= most)


def _declared_counts(measurement: Measurement, policy: Policy) -> bool:
    """True where nobody has looked at the file, and for arithmetic, which no file holds."""
    return measurement.held is None or policy.precision == "tf32"


def _stored(measurement: Measurement, policy: Policy, reference: Format) -> Format:
    """The coarsest floating format in which values are stored at a tap."""
    if _declared_counts(measurement, policy):
        declared = FORMATS[policy.precision]
        return declared if declared.roundoff > reference.roundoff else reference
    coarse = too_coarse(measurement, policy)
    floats = [
        STORED[name]
        for name in measurement.held or ()
        if name.startswith(("float", "bfloat")) and name in STORED and name not in coarse
    ]
    return max([reference, *floats], key=lambda item: item.roundoff)


def _tiny(measurement: Measurement, scale: float | None, stored_format: Format) -> float:
    if measurement.role != "output" or stored_format.tiny > FORMATS["float32"].tiny:
        return stored_format.tiny
    return (
        SMALLEST
        if scale and scale < stored_format.tiny / stored_format.roundoff
        else stored_format.tiny
    )


def _and(names: tuple[str, ...]) -> str:
    return " and ".join(names)


def widened(elements: int) -> float:
    """Return w(n): how much the floor grows when ``scale`` rests on few elements."""
    return min(MOST_WIDENED, 10.0 ** (4.0 / max(1, elements)))


def natural_scale(op: str) -> float | None:
    """Return the range of an op that kernels compute to absolute accuracy, else ``None``.

    Args:
        op: operator name, ``aten.sigmoid.default`` or ``Sigmoid``.
    """
    parts = op.lower().split(".")
    return NATURAL_SCALES.get(parts[1] if len(parts) > 1 else parts[0])


def _check_factor(value: float, what: str) -> None:
    if not (math.isfinite(value) and value > 0.0):
        raise ConfigError(
            f"{what}: {value} is not a positive, finite number",
            remedy="a factor of infinity would let everything pass",
        )


def policy_of(pipeline: Pipeline) -> Policy:
    """The parity policy that a pipeline declares."""
    given = pipeline.parity
    overrides = tuple(
        LimitOverride(pattern=item.taps, factor=item.factor, reason=item.reason)
        for item in given.overrides
    )
    precision = WEIGHTS.get(given.precision, given.precision)
    policy = Policy(precision=precision, overrides=overrides, kernel_loss=given.kernel_loss)
    return policy if given.factor is None else replace(policy, factor=given.factor)
