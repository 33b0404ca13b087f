"""What judging a chain gave, and what is still open of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from exporter.core.tensors import Arrays
from exporter.execution.onnx_runs import FileRun
from exporter.graph.index import GraphIndex
from exporter.graph.program import Program
from exporter.judge.length_proofs import LengthProof
from exporter.judge.links import Link
from exporter.parity.status import Status, status_of, worst
from exporter.report.comparison import (
    CulpritRecord,
    DeploymentRecord,
    LinkRecord,
    OutputRecord,
    StructureRecord,
)
from exporter.report.schema import CHECK_STRUCTURE, CheckRecord


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

    @classmethod
    def failed(cls, link: Link, reason: str) -> ChainResult:
        """One link that fails, and nothing that could be compared."""
        nothing: dict[str, Any] = {"outputs": [], "culprits": [], "notes": []}
        nothing |= {"tokens": {}, "shipped": {}}
        links, status = [link.record(Status.FAIL, reason)], Status.FAIL
        return cls(links=links, statuses=[status], status=status, **nothing)

    def not_checked(self, program: Program, *, simplified: bool) -> Iterator[str]:
        """What was not looked at of the files that a run has made of a program.

        Args:
            simplified: the last one is.
        """
        if self.proof is not None:
            cases = ", ".join(self.proof.cases)
            yield f"{cases}: the links in front of model.onnx, not run again (see the notes)"
        if program.fallback:
            yield (
                "sizes at which a trace does not hold: torch.export would have found them; here"
                " some were tried (see the notes)"
            )
        inside = sum(len(block.ops) for op in program.ops for block in op.blocks())
        if inside:
            yield f"{inside} values inside of loops and branches: what these give is compared"
        if simplified and not self.culprits:
            yield (
                "layers of exported.onnx: its outputs only (its layers are walked when one of"
                " model.onnx fails)"
            )

    def with_structure(self, differences: Sequence[StructureRecord]) -> ChainResult:
        """A file that says it is our export and is not, fails, if a number shows it or not."""
        if not differences:
            return self
        count = f"{len(differences)} difference(s) of structure"
        reason = f"{count} to the export that it descends from"
        return self.with_checks(
            [CheckRecord(code=CHECK_STRUCTURE, verdict=Status.FAIL.value, reason=reason)]
        )

    def with_checks(self, checks: Sequence[CheckRecord]) -> ChainResult:
        """The same with more that decides beside the links."""
        status = worst([self.status, *(status_of(check.verdict) for check in checks)])
        return replace(self, checks=[*self.checks, *checks], status=status)


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
