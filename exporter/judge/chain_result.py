"""What judging a chain gave, and what is still open of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from exporter.core.tensors import Arrays
from exporter.execution.onnx_runs import FileRun
from exporter.graph.index import GraphIndex
from exporter.judge.length_proofs import LengthProof
from exporter.parity.status import Status
from exporter.report.comparison import CulpritRecord, DeploymentRecord, LinkRecord, OutputRecord
from exporter.report.schema import CheckRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainResult:
    """Records and statuses of all links, in the order of the chain.

    ``shipped`` holds the outputs of the first deployment, by case; ``proof`` what was leaned on;
    ``checks`` what decides beside the links; ``findings`` layers in which a kernel loses digits and
    nothing fails.
    """

    links: list[LinkRecord]
    outputs: list[OutputRecord]
    culprits: list[CulpritRecord]
    statuses: list[Status]
    status: Status
    tokens: dict[str, list[list[int]]]
    shipped: dict[str, Arrays]
    notes: list[str]
    proof: LengthProof | None = None
    findings: list[CulpritRecord] = field(default_factory=list)
    deployments: list[DeploymentRecord] = field(default_factory=list)
    checks: list[CheckRecord] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFile:
    """The last file as the chain has it open: to build a session and to parse a gigabyte are
    seconds each.

    Attributes:
        graph: the file, indexed; None when no layers were walked.
        session: as the first deployment has it; None when onnxruntime did not come to it.
    """

    graph: GraphIndex | None = None
    session: FileRun | None = None
