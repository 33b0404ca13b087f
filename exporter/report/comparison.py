"""The records of report.json that say what was compared, and what was found there.

They state facts and verdicts that were decided elsewhere. Figures are ``None`` when they were not
measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from exporter.parity.measurement import Measurement
from exporter.parity.status import status_of, worst
from exporter.parity.verdict_record import Verdict


class Record(BaseModel):
    """Base: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class _Saved(BaseModel):
    """Checks a measurement: a dataclass takes whatever it is given."""

    model_config = ConfigDict(strict=True, revalidate_instances="always")
    held: Measurement


def _is_measurement(saved: dict[str, Any]) -> dict[str, Any]:
    """The same, whose figures have the types that a measurement has.

    Raises:
        ValueError: one has not.
    """
    try:
        _Saved(held=Measurement.from_json({"name": "", **saved}))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"no measurement: {error}") from error
    return saved


Measured = Annotated[dict[str, Any], AfterValidator(_is_measurement)]
"""What ``Measurement.to_json`` saved."""


class VerdictRecord(Record):
    """A judged thing: status, who is wrong, how large against what."""

    verdict: str
    who: str | None = None
    ratio: float | None = Field(
        default=None, description="ONNX's distance to float64 over PyTorch's"
    )
    limit: float | None = Field(default=None, description="largest absolute error allowed")
    strain: float | None = Field(default=None, description="error over limit; above 1 fails")
    reason: str = ""
    weak: bool = Field(default=False, description="the limit is too coarse to fail anything here")
    override: str | None = Field(default=None, description="pattern of what set the limit")

    @classmethod
    def of(cls, verdict: Verdict) -> VerdictRecord:
        """A verdict as plain values; NaN is no figure."""
        limit = verdict.limit
        return cls(
            verdict=verdict.status.value,
            who=verdict.who.value,
            ratio=number(verdict.ratio),
            limit=number(limit.max_abs if limit else None),
            strain=number(verdict.strain),
            reason=verdict.reason,
            weak=verdict.weak,
            override=limit.override.pattern if limit and limit.override else None,
        )


def number(value: float | None) -> float | None:
    """A figure of a record: None where it is NaN."""
    return None if value is None or math.isnan(value) else value


class TapRecord(Record):
    """One tap: both measurements of its worst case, both verdicts."""

    name: str
    place: int | None = Field(None, description="in the order of the graph, from 0")
    op: str
    source: str
    fate: str
    into: str | None = None
    held_as: str | None = Field(None, description="its name in the file, where it is not its own")
    case: str | None = None
    local: Measured | None = Field(None, description="measurement of the layer alone")
    propagated: Measured | None = Field(None, description="measurement of the free run")
    local_verdict: VerdictRecord | None = None
    propagated_verdict: VerdictRecord | None = None
    verdict: str = "not run"


class LayerRecord(Record):
    """The taps of one module, in the order of the graph."""

    module: str
    module_class: str
    verdict: str
    worst_local_strain: float | None = Field(description="error over limit, layer alone")
    worst_propagated_strain: float | None = Field(description="error over limit, free run")
    taps: list[TapRecord]

    @classmethod
    def of(cls, module: str, module_class: str, taps: list[TapRecord]) -> LayerRecord:
        """A layer as its taps give it."""
        compared = [status_of(tap.verdict) for tap in taps if tap.local_verdict is not None]
        return cls(
            module=module,
            module_class=module_class,
            verdict=worst(compared).value,
            worst_local_strain=_most(tap.local_verdict for tap in taps),
            worst_propagated_strain=_most(tap.propagated_verdict for tap in taps),
            taps=taps,
        )


def _most(verdicts: Iterable[VerdictRecord | None]) -> float | None:
    strains = [v.strain for v in verdicts if v is not None and v.strain is not None]
    return max(strains, default=None)


class OutputRecord(Record):
    """One output of one link on one case."""

    link: str
    case: str
    name: str
    dtype: str
    shape: list[int]
    max_abs: float | None
    cosine: float | None
    mismatches: int | None
    measurement: Measured
    verdict: VerdictRecord
    layer: str = ""  # module path of the op behind it


OUTPUTS, LAYERS, OWN_STATE = "outputs", "layers", "own state"
"""What a link compares."""


class LinkRecord(Record):
    """One step of the chain: what was compared with what."""

    name: str
    expected: str
    actual: str
    kind: str = Field(default=OUTPUTS, description="outputs, layers, own state")
    level: str = Field(default="", description="graph optimisation level, where it is deployed")
    verdict: str
    reason: str = ""
    compared: int | None = Field(default=None, description="taps of which elements were compared")
    empty: int = Field(default=0, description="taps that hold no element in any case")
    fused: int | None = None
    missing: int | None = None
    coverage: float | None = None
    weak: int = Field(default=0, description="taps whose limit is too coarse to fail anything")
    layers: list[LayerRecord] = []


class CulpritRecord(Record):
    """A layer that fails, with what is known about it; errors are absolute.

    ``cause`` is graph, kernel or unknown; None where nobody asked. ``engine`` evaluated the same
    nodes of the file in float64; ``graph_error`` is their distance from float64 PyTorch,
    ``float32_error`` that of float32 PyTorch. ``nodes`` are operators whose kernels, of
    ``provider``, lose digits.
    """

    link: str
    stage: str
    layer: str
    op: str
    tap: str
    source: str
    case: str | None
    local_error: float | None
    propagated_error: float | None
    ratio: float | None
    limit: float | None
    who: str | None
    reason: str
    # False where the error has added up by here, and no layer fails on its own inputs.
    by_itself: bool = True
    cause: str | None = None
    engine: str = ""
    graph_error: float | None = None
    float32_error: float | None = None
    nodes: list[str] = []
    provider: str = ""


class StructureRecord(Record):
    """A difference that no number may show: a constant, an attribute, an initialiser."""

    kind: str
    node: str
    name: str
    expected: str
    actual: str
    tap: str | None = None
    layer: str | None = None
    explained: bool = Field(
        False, description="nodes beside it were rewritten as well, as an optimiser does"
    )
    accepted: bool = Field(False, description="the file was changed on purpose: numbers judge it")


class WayRecord(Record):
    """A failing deployment run in another way: one setting changed."""

    way: str
    label: str
    passes: bool | None = Field(description="on the cases that failed; null: it did not run")
    strain: float | None = Field(default=None, description="largest error over limit")
    changed: list[str] = Field(default=[], description="discrete outputs that differ, 'case: name'")
    stopped: str = ""


class DeploymentRecord(Record):
    """A deployment on a device: where its nodes ran, and what its failure comes from."""

    label: str
    provider: str
    tf32: bool
    nodes: dict[str, int] = Field(
        default_factory=dict, description="provider that was really used -> nodes"
    )
    seconds: dict[str, float] = Field(
        default_factory=dict, description="provider -> host's time of its nodes"
    )
    copies: dict[str, int] = Field(default_factory=dict, description="between devices, by kind")
    placement: str = Field("", description="why the three above are not known")
    strain: float | None = Field(None, description="largest error over limit of its outputs")
    changed: list[str] = Field([], description="discrete outputs that differ, 'case: name'")
    cause: str | None = Field(None, description="the one change after which it passes")
    ways: list[WayRecord] = Field([], description="what was tried when it failed")
