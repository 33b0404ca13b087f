"""What a contract says: one verdict per side, with the place, the figure and the way out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from exporter.parity.status import Status
from exporter.report.schema import ContractRecord

TORCH = "torch"
ONNX = "onnx"
SIDES = (TORCH, ONNX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where in the model something happens.

    Attributes:
        module: module path; "" for the root or where it is unknown.
        op: operator or module class.
        node: name of the node in the ONNX file, where it has no better one.
        source: ``file:line``; "" when unknown.
        value: name of the value in the ONNX file or in the captured program, if it has one.
    """

    module: str = ""
    op: str = ""
    node: str = ""
    source: str = ""
    value: str = ""

    def __str__(self) -> str:
        text = self.module or "(root)"
        if self.op:
            text += f" [{self.op} '{self.node}']" if self.node else f" [{self.op}]"
        if self.source:
            text += f" at {self.source}"
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractResult:
    """Verdict of one contract on one side.

    Attributes:
        name: name of the contract, or of a part of it that is answered apart.
        contract: the contract as it is declared; filled in by ``run_contracts``.
        side: "torch" or "onnx".
        status: never ``pass`` for something that was not looked at.
        observed: the figure that decided, with its unit; ``None`` when nothing was measured.
        limit: what it was held against.
        where: the first module and op that break the contract.
        advice: one sentence on what to do.
        reason: why this verdict.
        details: further figures, JSON types only.
    """

    name: str
    side: str
    status: Status
    observed: str | None = None
    limit: str | None = None
    where: Location | None = None
    advice: str | None = None
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    contract: str = ""

    def record(self, *, required: bool = True) -> ContractRecord:
        """Return this result as a row of ``report.json``."""
        return ContractRecord(
            name=self.name,
            contract=self.contract or self.name,
            side=self.side,
            verdict=str(self.status),
            observed=self.observed,
            limit=self.limit,
            where=None if self.where is None else str(self.where),
            source="" if self.where is None else self.where.source,
            module="" if self.where is None else self.where.module,
            advice=self.advice,
            reason=self.reason,
            required=required,
            details=dict(self.details),
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What a contract, or a part of it, says of one side; its verdict is given in the end.

    Attributes:
        details: what is found on the way, as ``ContractResult.details``; may be added to.
    """

    name: str
    side: str
    details: dict[str, Any] = field(default_factory=dict)

    def passed(self, observed: str, limit: str, reason: str) -> ContractResult:
        """It is kept."""
        return self._said(Status.PASS, reason, observed=observed, limit=limit)

    def failed(
        self,
        observed: str,
        limit: str,
        reason: str,
        *,
        where: Location | None,
        advice: str,
        status: Status = Status.FAIL,
    ) -> ContractResult:
        """It is broken, and where."""
        figures = {"observed": observed, "limit": limit, "where": where, "advice": advice}
        return self._said(status, reason, **figures)

    def not_run(self, reason: str) -> ContractResult:
        """It could not be looked at, and why."""
        return self._said(Status.NOT_RUN, reason)

    def not_applicable(self, reason: str) -> ContractResult:
        """It means nothing for this target, and why."""
        return self._said(Status.NOT_APPLICABLE, reason)

    def _said(self, status: Status, reason: str, **figures: Any) -> ContractResult:
        facts = {"name": self.name, "side": self.side, "details": self.details}
        return ContractResult(status=status, reason=reason, **facts, **figures)


def not_run(name: str, side: str, reason: str) -> ContractResult:
    """A contract that could not be looked at, and why."""
    return Answer(name, side).not_run(reason)


def not_applicable(name: str, side: str, reason: str) -> ContractResult:
    """A contract that means nothing for this target, and why."""
    return Answer(name, side).not_applicable(reason)
