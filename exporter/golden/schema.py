"""The JSON files of a golden as typed rows: what they hold is checked here, and nowhere behind.

Digests show that a golden was changed by accident. Whoever computes them anew can write anything,
so types, sizes and names are checked all the same: no limit may be NaN, which nothing exceeds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from exporter.core.errors import GoldenError
from exporter.core.reading import Door
from exporter.core.spec_row import MOST_AXES, MOST_SIZE, Dtype, Row, Size, SpecRow

DOOR = Door(error=GoldenError, says="not a golden of this program", remedy="record it again")

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Bits = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{16})?$")]
Shape = Annotated[list[Size], Field(max_length=MOST_AXES)]
Limit = Annotated[float, Field(ge=0)]


PortRow = tuple[str, str, list[int | str | None] | None]
"""Name, dtype, axes of an input or output of the judged file."""


class InterfaceRow(Row):
    """What the judged file took and gave."""

    inputs: list[PortRow]
    outputs: list[PortRow]
    opset: int


class GoldenOutputRow(Row):
    """One output of one case; ``values`` tells whether they stand in the case's file."""

    name: str
    dtype: Dtype
    shape: Shape
    values: bool
    limit_max: Limit
    limit_rms: Limit
    witness: Bits


class CaseRow(Row):
    """One case: where its inputs come from, and the file with its values."""

    name: str
    origin: str
    inputs: dict[str, Digest]
    expect_empty: list[str]
    outputs: list[GoldenOutputRow]
    file: str


class WeightsRow(Row):
    """Which weights were recorded."""

    source: str
    digest: str
    seeded: bool


class RunRow(Row):
    """How the file was run at recording; a check repeats it."""

    threads: Annotated[int, Field(ge=0, le=1 << 16)]
    provider: str
    level: Literal["disable", "basic", "extended", "all"]
    window_bytes: Annotated[int, Field(ge=1, le=MOST_SIZE)]


class JudgedRow(Row):
    """Who was judged at recording, with which verdict; more may stand there."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    verdict: str
    policy: dict[str, Any] = Field(default_factory=dict)


class Manifest(Row):
    """``manifest.json``."""

    pipeline: str
    pipeline_digest: str
    graph_digest: str
    weights: WeightsRow
    reason: str
    replaces: str
    tool_version: str
    environment: dict[str, str]
    judged: JudgedRow
    run: RunRow
    inputs: list[SpecRow]
    interface: InterfaceRow | None = None
    left_out: list[str]
    graph: str
    cases: list[CaseRow]
    files: dict[str, Digest]


TapRow = tuple[str, str, str, str, str, str, Dtype, str, Annotated[int, Field(ge=0, le=1)]]
"""Name, ONNX name ("" where it is the name), module, class, op, source, dtype, fate, output."""
NodeRow = tuple[str, str, str, str, int]
"""Name, op, digest of form, digest of constants, position of its tap or -1."""


class RecordedGraph(Row):
    """``graph-<digest>.json``."""

    taps: list[TapRow]
    nodes: list[NodeRow]
