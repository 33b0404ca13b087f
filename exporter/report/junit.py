"""JUnit XML, the format that CI systems show: one test case per link, contract, golden, culprit."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree as Xml

from exporter.report.advice import next_steps
from exporter.report.names import figure, printable
from exporter.report.schema import Report

_SKIPPED = frozenset({"not applicable"})
_GOOD = frozenset({"pass", "empty as declared"})


def render_junit(report: Report) -> str:
    """Return JUnit XML with one suite, named for the pipeline.

    ``fail`` and ``ambiguous`` are failures, a required check that was ``not run`` is an error,
    ``not applicable`` and an optional ``not run`` are skipped. A report that holds no check at
    all gets one error, so that nothing green comes of nothing. An ambiguous link within the cap
    that the policy declares is good.
    """
    suite = Xml.Element("testsuite")
    cases = list(_cases(report))
    if not any(case.get("classname", "").endswith((".link", ".contract")) for case in cases):
        cases.append(_case(report, "run", "checks", "not run", "nothing was judged"))
    elif report.verdict != "pass" and all(case.find("*") is None for case in cases):
        cases.append(_case(report, "run", "verdict", report.verdict, report.headline))
    suite.extend(cases)
    suite.set("name", printable(report.pipeline.name))
    suite.set("tests", str(len(cases)))
    for tag, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(attribute, str(sum(case.find(tag) is not None for case in cases)))
    total = report.timings.get("total")
    if total is not None and total >= 0:
        suite.set("time", f"{total:.3f}")
    root = Xml.Element("testsuites")
    root.append(suite)
    Xml.indent(root)
    return Xml.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _cases(report: Report) -> Iterator[Xml.Element]:
    tolerated = report.verdict == "pass"
    for link in report.links:
        verdict = "pass" if tolerated and link.verdict == "ambiguous" else link.verdict
        yield _case(report, "link", link.name, verdict, link.reason)
    for held in report.contracts:
        detail = ". ".join(s for s in (held.where, held.reason, held.advice) if s)
        name = f"{held.name} [{held.side}]"
        yield _case(report, "contract", name, held.verdict, detail, required=held.required)
    for golden in report.golden:
        detail = ". ".join(s for s in (golden.state, golden.reason, golden.advice) if s)
        yield _case(report, "golden", golden.case, golden.verdict, detail)
    for culprit in report.culprits:
        detail = (
            f"{culprit.op} at {culprit.source}: local error {figure(culprit.local_error)},"
            f" limit {figure(culprit.limit)}. {culprit.reason}"
        )
        yield _case(report, "layer", f"{culprit.layer} [{culprit.link}]", "fail", detail)
    if report.verdict != "pass" and report.links:
        steps = "\n".join(next_steps(report))
        yield _case(report, "run", "headline", "fail", f"{report.headline}\n{steps}")


def _case(
    report: Report, kind: str, name: str, verdict: str, detail: str, *, required: bool = True
) -> Xml.Element:
    case = Xml.Element(
        "testcase", classname=f"{printable(report.pipeline.name)}.{kind}", name=printable(name)
    )
    if verdict in _GOOD:
        return case
    if verdict in _SKIPPED or (verdict == "not run" and not required):
        tag = "skipped"
    elif verdict == "not run":
        tag = "error"
    else:
        tag = "failure"
    lines = [printable(line) for line in detail.splitlines()] or [printable(verdict)]
    held = Xml.SubElement(case, tag, message=f"{printable(verdict)}: {lines[0]}"[:1000])
    held.text = "\n".join(lines)
    return case
