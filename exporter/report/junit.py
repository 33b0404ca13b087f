"""JUnit XML, the format that CI systems show: one test case per link, contract, golden, culprit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree import ElementTree as Xml

from exporter.parity.status import Status, holds, is_good
from exporter.report.advice import next_steps
from exporter.report.safe_text import figure, printable
from exporter.report.schema import ContractRecord, GoldenRecord, Report


def render_junit(report: Report) -> str:
    """Return JUnit XML with one suite, named for the pipeline.

    ``fail`` and ``ambiguous`` are failures, a required check that was ``not run`` is an error,
    ``not applicable`` and an optional ``not run`` are skipped. A report that holds no check at
    all gets one error, so that nothing green comes of nothing. An ambiguous link within the cap
    that the policy declares is good.
    """
    cases = list(_cases(report))
    if not any(case.get("classname", "").endswith((".link", ".contract")) for case in cases):
        cases.append(_case(report.pipeline.name, "run", "checks", "not run", "nothing was judged"))
    elif report.verdict != "pass" and all(case.find("*") is None for case in cases):
        cases.append(_case(report.pipeline.name, "run", "verdict", report.verdict, report.headline))
    return _document(report.pipeline.name, cases, report.timings.get("total"))


def render_golden_junit(pipeline: str, records: Sequence[GoldenRecord]) -> str:
    """Return JUnit XML of a check of a golden on its own: one test case per case."""
    cases = [_golden_case(pipeline, record) for record in records]
    if not cases:
        cases = [_case(pipeline, "golden", "cases", "not run", "nothing was judged")]
    return _document(pipeline, cases, None)


def render_contracts_junit(pipeline: str, records: Sequence[ContractRecord]) -> str:
    """Return JUnit XML of contracts that were checked on their own."""
    cases = [_contract_case(pipeline, record) for record in records]
    if not cases:
        cases = [_case(pipeline, "contract", "contracts", "not run", "nothing was checked")]
    return _document(pipeline, cases, None)


def render_matrix_junit(name: str, rows: Sequence[tuple[str, str, str]]) -> str:
    """Return JUnit XML of a matrix: one test case per cell, as label, verdict and reason."""
    cases = [_case(name, "cell", *row) for row in rows]
    if not cases:
        cases = [_case(name, "cell", "cells", "not run", "no cell was asked for")]
    return _document(name, cases, None)


def _contract_case(pipeline: str, contract: ContractRecord) -> Xml.Element:
    detail = ". ".join(s for s in (contract.where, contract.reason, contract.advice) if s)
    label = f"{contract.name} [{contract.side}]"
    return _case(pipeline, "contract", label, contract.verdict, detail, required=contract.required)


def _document(pipeline: str, cases: Sequence[Xml.Element], total: float | None) -> str:
    suite = Xml.Element("testsuite")
    suite.extend(cases)
    suite.set("name", printable(pipeline))
    suite.set("tests", str(len(cases)))
    for tag, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(attribute, str(sum(case.find(tag) is not None for case in cases)))
    if total is not None and total >= 0:
        suite.set("time", f"{total:.3f}")
    root = Xml.Element("testsuites")
    root.append(suite)
    Xml.indent(root)
    return Xml.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _cases(report: Report) -> Iterator[Xml.Element]:
    tolerated = report.verdict == "pass"
    name = report.pipeline.name
    for link in report.links:
        verdict = "pass" if tolerated and link.verdict == "ambiguous" else link.verdict
        needed = report.policy.required
        yield _case(name, "link", link.name, verdict, link.reason, required=needed)
    for contract in report.contracts:
        yield _contract_case(name, contract)
    for check in report.checks:
        yield _case(name, "check", check.code, check.verdict, check.reason, required=check.required)
    for golden in report.golden:
        yield _golden_case(name, golden)
    for culprit in report.culprits:
        detail = (
            f"{culprit.op} at {culprit.source}: local error {figure(culprit.local_error)},"
            f" limit {figure(culprit.limit)}. {culprit.reason}"
        )
        yield _case(name, "layer", f"{culprit.layer} [{culprit.link}]", "fail", detail)
    if report.verdict != "pass" and report.links:
        steps = "\n".join(next_steps(report))
        yield _case(name, "run", "headline", "fail", f"{report.headline}\n{steps}")


def _golden_case(pipeline: str, golden: GoldenRecord) -> Xml.Element:
    detail = ". ".join(s for s in (golden.state, golden.reason, golden.advice) if s)
    return _case(pipeline, "golden", golden.case, golden.verdict, detail)


def _case(
    pipeline: str, kind: str, name: str, verdict: str, detail: str, *, required: bool = True
) -> Xml.Element:
    case = Xml.Element("testcase", classname=f"{printable(pipeline)}.{kind}", name=printable(name))
    if is_good(verdict):
        return case
    if holds(verdict, required=required):
        tag = "skipped"
    elif verdict == Status.NOT_RUN:
        tag = "error"
    else:
        tag = "failure"
    lines = [printable(line) for line in detail.splitlines()] or [printable(verdict)]
    element = Xml.SubElement(case, tag, message=f"{printable(verdict)}: {lines[0]}"[:1000])
    element.text = "\n".join(lines)
    return case
