"""report.json as a typed record: stable, versioned, with a JSON schema.

The report states facts and verdicts that were decided elsewhere; nothing here decides. Figures
are ``None`` when they were not measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from exporter.core.errors import ArtifactError, MissingPackageError
from exporter.core.files import write_text
from exporter.core.reading import Door, first_problem
from exporter.parity.measurement import Measurement
from exporter.report.comparison import (
    CulpritRecord,
    DeploymentRecord,
    LinkRecord,
    OutputRecord,
    Record,
    StructureRecord,
    VerdictRecord,
)

SCHEMA_VERSION = "1.0"
REPORT = "report.json"
CHECK_STRUCTURE = "structure"
"""The graph differs from the export that it descends from."""
CHECK_REPLACED = "file replaced"
"""A file is not, or no longer, the one that was judged."""
CHECK_LAYERS = "layers"
"""No value inside of the file was compared, and the pipeline requires it."""
CHECK_EMPTY = "empty"  # nothing was compared: whatever could have been holds no element
CHECK_WAYS = "ways"  # a branch or a loop of which no case has run a part
CHECK_UNSHOWN = "unshown"  # the file parts from the model where no compared number shows it
CHECK_OTHER = "other"  # the run failed for a reason that none of its records carries


_DOOR = Door(error=ArtifactError, says="not a readable JSON file", remedy="run the pipeline again")


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
    contract: str = Field(default="", description="the declared contract that it is (part) of")
    side: str
    verdict: str
    observed: str | None = None
    limit: str | None = None
    where: str | None = None
    source: str = Field(default="", description="file:line of what breaks it, if known")
    module: str = Field(default="", description="path of the module that breaks it, if known")
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


_COLUMNS = (
    *("kind", "link", "case", "name", "module", "op", "source", "verdict", "reason"),
    *("error", "limit", "strain", "ratio"),
    *("propagated_error", "propagated_limit", "propagated_strain"),
)


def _output_row(held: OutputRecord) -> dict[str, Any]:
    found = {
        "kind": "output",
        "link": held.link,
        "case": held.case,
        "name": held.name,
        "module": held.layer,
        "verdict": held.verdict.verdict,
        "reason": held.verdict.reason,
        **_judged("propagated_", held.measurement, held.verdict),
    }
    return {name: found.get(name) for name in _COLUMNS}


def _tap_rows(links: Sequence[LinkRecord]) -> Iterator[dict[str, Any]]:
    for link in links:
        for layer in link.layers:
            for tap in layer.taps:
                local = tap.local_verdict
                found = {
                    "kind": "value",
                    "link": link.name,
                    "case": tap.case,
                    "name": tap.name,
                    "module": layer.module,
                    "op": tap.op,
                    "source": tap.source,
                    "verdict": tap.verdict,
                    "reason": local.reason if local else tap.fate,
                    **_judged("", tap.local, local),
                    **_judged("propagated_", tap.propagated, tap.propagated_verdict),
                    "ratio": local.ratio if local else None,
                }
                yield {name: found.get(name) for name in _COLUMNS}


def _judged(
    prefix: str, saved: Mapping[str, Any] | None, verdict: VerdictRecord | None
) -> dict[str, float | None]:
    distance = None
    if saved is not None:
        distance = Measurement.from_json({"name": "", **saved}).actual
    return {
        f"{prefix}error": distance.max_abs if distance else None,
        f"{prefix}limit": verdict.limit if verdict else None,
        f"{prefix}strain": verdict.strain if verdict else None,
    }


class LatencyRecord(Record):
    """What the shipped file takes on one deployment, in a process of its own."""

    deployment: str
    case: str
    rounds: int = Field(description="interleaved with those of the other deployments")
    seconds: float = Field(description="of a run, the median")
    least: float
    load_seconds: float
    memory_bytes: int | None = Field(description="resident, added by session and first run")
    audio_seconds: float | None = Field(None, description="of all rows of the case together")


class Report(Record):
    """The whole of report.json."""

    schema_version: str = SCHEMA_VERSION
    tool_version: str
    verdict: str
    exit_code: int = Field(description="0 pass, 1 parity failed")
    headline: str
    stopped: StoppedRecord | None = None
    fallback: str = Field(
        default="", description="of a file of the legacy exporter: why torch.export has made none"
    )
    pipeline: PipelineRecord
    options: list[str] = []  # lead other commands to this run: --output-dir, --weights, --trust
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
    # Left out where there is none, as latency is.
    takes: list[str] = Field(
        [],
        description="sizes of axes that the file is for, where they are fewer than was declared",
        exclude_if=lambda held: not held,
    )
    not_checked: list[str]
    cache: CacheRecord | None = Field(default=None, description="none where the cache is off")
    # Left out where there is none: the digest of a report without it stays what it was.
    latency: list[LatencyRecord] = Field([], exclude_if=lambda held: not held)
    timings: dict[str, float]
    breakdown: dict[str, float] = {}  # seconds of the whole by kind of work

    def link(self, name: str) -> LinkRecord | None:
        """A link by name."""
        return next((link for link in self.links if link.name == name), None)

    def rows(self) -> list[dict[str, Any]]:
        """One row per compared thing, worst case: outputs of every link, then values inside.

        ``error`` is the largest absolute difference to float64 PyTorch, ``limit`` what is allowed,
        ``strain`` error over limit; those of a value inside are the layer's alone, on PyTorch's
        own inputs, and ``propagated_`` those of a whole run. None: not measured.
        """
        return [*map(_output_row, self.outputs), *_tap_rows(self.links)]

    def to_dataframe(self) -> Any:
        """``rows`` as a ``pandas.DataFrame``.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            if error.name != "pandas":
                raise
            raise MissingPackageError(
                "pandas is not installed, and a data frame needs it",
                remedy="pip install pandas, or take Report.rows(): the same as a list of dicts",
            ) from error
        return pandas.DataFrame(self.rows(), columns=list(_COLUMNS))


def write_report(report: Report, path: Path) -> None:
    """Write atomically; NaN and Inf are strings, so any JSON reader can read it."""
    # Not json.dumps of a dump: only pydantic's own writer turns NaN and Inf into words.
    write_text(path, report.model_dump_json())


def read_report(path: Path) -> Report:
    """Read a saved report.

    Raises:
        ArtifactError: missing, not JSON, of another schema version, or not a report.
    """
    if not path.exists():
        raise ArtifactError(
            "there is no report here", where=str(path), remedy="run the pipeline first"
        )
    data = _DOOR.json(path)
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"report has schema version {str(version)[:40]}, this version reads {SCHEMA_VERSION}",
            where=str(path),
            remedy="run the pipeline again",
        )
    try:
        return Report.model_validate(data)
    except ValidationError as error:
        raise _DOOR.wrong(path, f"not a report: {first_problem(error)}") from error
