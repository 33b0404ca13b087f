"""system.json as a typed record: what was found of every graph, and of all of them together."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from exporter.parity.status import Status, Who
from exporter.report.comparison import Record, VerdictRecord
from exporter.report.schema import EnvironmentRecord

SYSTEM_VERSION = "1.0"


def stated(status: Status, reason: str = "", who: Who | None = None) -> VerdictRecord:
    """A verdict that rests on no distance."""
    return VerdictRecord(
        verdict=status.value,
        who=None if who is None else who.value,
        ratio=None,
        limit=None,
        strain=None,
        reason=reason,
    )


class GraphRecord(Record):
    """One graph: its own report, and how often the driver called it."""

    name: str
    pipeline: str
    verdict: str
    exit_code: int
    headline: str
    folder: str = Field(description="of its own report, below the system's")
    calls: int = 0
    required: bool = True


class CallsRecord(Record):
    """One output of a graph over all calls of a case, each on PyTorch's own inputs."""

    case: str
    graph: str
    output: str
    link: str
    calls: int
    verdict: VerdictRecord = Field(description="of the worst call")
    worst_call: int | None = None
    layer: str = Field("", description="the first layer that fails on that call, if one was found")


class DifferenceRecord(Record):
    """The first choice that PyTorch and ONNX make differently."""

    number: int
    what: str = Field(description="token, frame, hypothesis")
    at: int
    graph: str
    expected: list[int]
    actual: list[int]
    margin: float | None = Field(description="between the candidates, in float64")
    noise: float | None = Field(description="what float32 costs there, times the policy's factor")
    tie: bool
    reason: str


class ErrorsRecord(Record):
    """Errors of one sequence against another."""

    unit: str
    substitutions: int
    deletions: int
    insertions: int
    length: int
    rate: float
    alignment: str = ""


class HeardRecord(Record):
    """A waveform against PyTorch's."""

    output: str
    level_db: float | None
    si_sdr_db: float | None
    log_spectral_distance_db: float | None
    max_error: float


class ResultRecord(Record):
    """What the system made of one case, on both sides."""

    case: str
    deployment: str
    verdict: VerdictRecord
    tokens: list[int] | None = None
    onnx_tokens: list[int] | None = None
    text: str | None = None
    onnx_text: str | None = None
    errors: list[ErrorsRecord] = Field(default_factory=list)
    differences: list[DifferenceRecord] = Field(default_factory=list)
    outputs: dict[str, VerdictRecord] = Field(default_factory=dict)
    heard: list[HeardRecord] = Field(default_factory=list)
    cosine: float | None = None
    fails_beside_tokens: bool = Field(
        default=False,
        description="a sound, an embedding or a declared silence fails: no error rate allows that",
    )


class BucketRecord(Record):
    """A part of a manifest: utterances of one duration, or of one tag."""

    name: str
    utterances: int
    verdicts: dict[str, int]
    token_errors: int
    tokens: int
    word_error_rate: float | None = Field(None, description="PyTorch against the manifest's text")
    onnx_word_error_rate: float | None = None


class PairsRecord(Record):
    """Verification of all pairs of a manifest's embeddings."""

    pairs: int
    same: int
    expected_eer: float | None
    actual_eer: float | None
    threshold: float | None
    flipped: int
    verdict: VerdictRecord


class ManifestRecord(Record):
    """A manifest as a whole; its rows lie in a JSONL beside the report."""

    file: str
    utterances: int
    done: int
    taken_up: int = Field(0, description="results of an earlier run that was stopped")
    verdict: VerdictRecord
    verdicts: dict[str, int]
    buckets: list[BucketRecord]
    errors: list[ErrorsRecord] = Field(default_factory=list)
    worst: list[str] = Field([], description="utterances that are no pass, the first of them")
    pairs: PairsRecord | None = None
    audio_seconds: float = 0.0


class SystemReport(Record):
    """The whole of system.json."""

    schema_version: str = SYSTEM_VERSION
    tool_version: str
    name: str
    file: str
    digest: str
    driver: dict[str, Any]
    verdict: str
    exit_code: int
    headline: str
    environment: EnvironmentRecord
    graphs: list[GraphRecord]
    calls: list[CallsRecord]
    results: list[ResultRecord]
    manifest: ManifestRecord | None = None
    max_token_error_rate: float
    max_ambiguous: int
    token_error_rate: float | None = None
    notes: list[str] = Field(default_factory=list)
    not_checked: list[str] = Field(default_factory=list)
    timings: dict[str, float]
