"""report.json as a typed record: stable, versioned, with a JSON schema.

The report states facts and verdicts that were decided elsewhere; nothing here decides. Figures
are ``None`` when they were not measured.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from exporter.core.errors import ArtifactError
from exporter.core.files import write_text
from exporter.report.cause import CauseFields
from exporter.report.change import ChangeFields

SCHEMA_VERSION = "1.0"
REPORT = "report.json"
CHECK_STRUCTURE = "structure"
"""The graph differs from the export that it descends from."""
CHECK_REPLACED = "file replaced"
"""A file is not, or no longer, the one that was judged."""
CHECK_LAYERS = "layers"
"""No value inside of the file was compared, and the pipeline requires it."""
CHECK_EMPTY = "empty"  # nothing was compared: whatever could have been holds no element
CHECK_OTHER = "other"  # the run failed for a reason that none of its records carries


class Record(BaseModel):
    """Base: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class WeightsRecord(Record):
    """Where the weights came from; ``seeded`` ones are random."""

    source: str
    digest: str
    seeded: bool


class PipelineRecord(Record):
    """Which pipeline was run, and on which weights."""

    name: str
    digest: str
    graph_digest: str
    file: str
    weights: WeightsRecord
    made_of: dict[str, str] = Field(
        default_factory=dict, description="what the export was made of, code included: part, sha256"
    )


class EnvironmentRecord(Record):
    """What it was run on."""

    versions: dict[str, str]
    python: str
    platform: str
    cpu_flags: list[str]
    threads: int
    providers: list[str]


class ArtifactRecord(Record):
    """A file that the run made, or that it judged."""

    name: str
    path: str
    sha256: str
    nodes: int | None
    bytes: int
    external: dict[str, str] = Field(
        default_factory=dict, description="external data beside it: name, sha256"
    )
    made: bool = Field(default=True, description="the run made it: it lies beside the report")


class VerdictRecord(Record):
    """A judged thing: status, who is wrong, how large against what."""

    verdict: str
    who: str | None = None
    ratio: float | None = Field(None, description="ONNX's distance to float64 over PyTorch's")
    limit: float | None = Field(None, description="largest absolute error allowed")
    strain: float | None = Field(None, description="error over limit; above 1 fails")
    reason: str = ""
    weak: bool = Field(default=False, description="the limit is too coarse to fail anything here")
    override: str | None = Field(default=None, description="pattern of what set the limit")


class TapRecord(Record):
    """One tap: both measurements of its worst case, both verdicts."""

    name: str
    op: str
    source: str
    fate: str
    into: str | None = None
    held_as: str | None = Field(None, description="its name in the file, where it is not its own")
    case: str | None = None
    local: dict[str, Any] | None = Field(None, description="measurement of the layer alone")
    propagated: dict[str, Any] | None = Field(None, description="measurement of the free run")
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
    measurement: dict[str, Any]
    verdict: VerdictRecord
    layer: str = ""  # module path of the op behind it


class LinkRecord(Record):
    """One step of the chain: what was compared with what."""

    name: str
    expected: str
    actual: str
    verdict: str
    reason: str = ""
    compared: int | None = Field(default=None, description="taps of which elements were compared")
    empty: int = Field(default=0, description="taps that hold no element in any case")
    fused: int | None = None
    missing: int | None = None
    coverage: float | None = None
    weak: int = Field(default=0, description="taps whose limit is too coarse to fail anything")
    layers: list[LayerRecord] = []


class CulpritRecord(Record, CauseFields):
    """A layer that fails, with what is known about it; errors are absolute."""

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


class StructureRecord(Record, ChangeFields):
    """A difference that no number may show: a constant, an attribute, an initialiser."""

    kind: str
    node: str
    name: str
    expected: str
    actual: str
    tap: str | None = None
    layer: str | None = None


class CheckRecord(Record):
    """Something else that decides: no comparison, and nothing that another limit would move."""

    code: str = Field(description="one of the CHECK_ constants of this module")
    verdict: str
    reason: str = ""
    required: bool = True


class CaseRecord(Record):
    """One set of inputs."""

    name: str
    origin: str
    shapes: dict[str, list[int]]
    expect_empty: list[str]
    text: list[str] | None = Field(None, description="readable tokens per segment, if any")


class ContractRecord(Record):
    """One property on one side (pytorch, onnx)."""

    name: str
    side: str
    verdict: str
    observed: str | None = None
    limit: str | None = None
    where: str | None = None
    advice: str | None = None
    reason: str = ""
    required: bool = True
    details: dict[str, Any] = {}


class WaveformRecord(Record):
    """What a VAD pipeline did with one recording, small enough to draw.

    ``minimum`` and ``maximum`` are the envelope: each pair covers the same number of samples
    (the last one what is left). A probability covers ``hop_samples``. Segments are
    [start, end) in samples.
    """

    case: str
    sample_rate_hz: int
    num_samples: int
    minimum: list[float]
    maximum: list[float]
    speech_probs: list[float] = []
    hop_samples: int | None = None
    threshold: float | None = None
    segments: list[tuple[int, int]] = []


class WayRecord(Record):
    """A failing deployment run in another way: one setting changed."""

    way: str
    label: str
    passes: bool | None = Field(description="on the cases that failed; null: it did not run")
    strain: float | None = Field(None, description="largest error over limit")
    changed: list[str] = Field([], description="discrete outputs that differ, 'case: name'")
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


class GoldenRecord(Record):
    """One case against what was recorded for it."""

    case: str
    state: str = Field(description="same, within rounding, moved, environment moved, ...")
    verdict: str
    moved: list[str] = Field([], description="outputs that moved")
    ambiguous: int = 0  # outputs that moved behind an ambiguous decision
    first_layer: str | None = None
    observed: float | None = None
    limit: float | None = None
    reason: str = ""
    advice: str | None = None


class PolicyRecord(Record):
    """How limits were derived, and what the pipeline tolerates."""

    factor: float
    precision: str
    overrides: list[dict[str, Any]]
    max_ambiguous: int
    kernel_loss: str = "finding"
    min_coverage: float | None
    reason: str = Field(default="", description="why the factor is above what needs no reason")
    layers: str = Field(default="required", description="required, or wanted: outputs may do")
    required: bool = Field(default=True, description="False: a link that was not run does not fail")


class CacheRecord(Record):
    """What the cache had to do with the files of a run."""

    key: str = Field(description="sha256 of what the export is made of")
    state: str = Field(description="taken, stored, or not stored")
    made: str = Field("", description="when the files were made, ISO 8601")
    stages: list[str] = Field([], description="stages whose results came from it")


class StoppedRecord(Record):
    """A stage that could not do its work; nothing behind it was run."""

    stage: str
    detail: str = Field(description="what went wrong, in the words of whoever stopped")
    finished: list[str] = Field([], description="stages that had done their work before it")
    where: str = Field("", description="file:line of the code that it stopped at, if known")
    trace: str = Field("", description="file with the whole traceback")


class Report(Record):
    """The whole of report.json."""

    schema_version: str = SCHEMA_VERSION
    tool_version: str
    verdict: str
    exit_code: int = Field(description="0 pass, 1 parity failed")
    headline: str
    stopped: StoppedRecord | None = None
    pipeline: PipelineRecord
    options: list[str] = Field(
        [], description="what leads other commands to this run: --output-dir, --weights, --trust"
    )
    # False where the output folder holds no finished run, which 'debug' starts from.
    finished_run: bool = True
    environment: EnvironmentRecord
    policy: PolicyRecord
    artifacts: list[ArtifactRecord]
    links: list[LinkRecord]
    culprits: list[CulpritRecord]
    findings: list[CulpritRecord] = []
    structure: list[StructureRecord] = []
    outputs: list[OutputRecord]
    cases: list[CaseRecord]
    contracts: list[ContractRecord] = []
    deployments: list[DeploymentRecord] = []  # those on a device
    golden: list[GoldenRecord] = []
    checks: list[CheckRecord] = []
    waveforms: list[WaveformRecord] = []
    notes: list[str] = Field([], description="things worth knowing that decide nothing")
    not_checked: list[str]
    cache: CacheRecord | None = Field(default=None, description="none where the cache is off")
    timings: dict[str, float]
    breakdown: dict[str, float] = {}  # seconds of the whole by kind of work

    def link(self, name: str) -> LinkRecord | None:
        """A link by name."""
        return next((link for link in self.links if link.name == name), None)


def report_schema() -> dict[str, Any]:
    """JSON schema of report.json."""
    return Report.model_json_schema()


def write_report(report: Report, path: Path) -> None:
    """Write atomically; NaN and Inf are strings, so any JSON reader can read it."""
    # Not json.dumps of a dump: only pydantic's own writer turns NaN and Inf into words.
    text = report.model_dump_json()
    write_text(path, text)


def read_report(path: Path) -> Report:
    """Read a saved report.

    Raises:
        ArtifactError: missing, not JSON, of another schema version, or not a report.
    """
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ArtifactError(
            "there is no report here", where=str(path), remedy="run the pipeline first"
        ) from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"not a readable JSON file ({error})", where=str(path)) from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"report has schema version {version}, this version reads {SCHEMA_VERSION}",
            where=str(path),
            remedy="run the pipeline again",
        )
    try:
        return Report.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"not a report: {key}: {first['msg']}", where=str(path)) from error
