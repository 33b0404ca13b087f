"""What to do next, in the order in which it makes sense; read off the verdicts, never decided."""

from __future__ import annotations

import shlex

from exporter.report.names import printable
from exporter.report.schema import Report

MOST_STEPS = 5
GIVEN_FILE = "given file"
"""Stage of a culprit in a file that ``verify --onnx`` was given, not in one that the run made."""

SEEDED = (
    "Weights are SEEDED, not trained: the graph and its numbers are real,"
    " the tokens mean nothing. Give a checkpoint with --weights."
)


def next_steps(report: Report) -> list[str]:
    """At most five sentences, each with a command or a place to look at; [] when all is well."""
    steps = [
        *_stages(report),
        *_culprits(report),
        *_structure(report),
        *_contracts(report),
        *_golden(report),
        *_outputs(report),
    ]
    if not steps and report.verdict != "pass":
        steps = [
            f"Link '{link.name}': {link.reason or link.verdict}"
            for link in report.links
            if link.verdict in ("fail", "not run", "ambiguous")
        ]
    if not steps and report.verdict == "not run":
        steps = ["Nothing was judged: run the pipeline with at least one case"]
    return [printable(step) for step in steps[:MOST_STEPS]]


def _stages(report: Report) -> list[str]:
    """The first link that was not run says which stage stopped; the rest only follow from it."""
    stopped = [link for link in report.links if link.verdict == "not run"]
    if not stopped:
        return []
    later = ", ".join(link.name for link in stopped[1:])
    reason = stopped[0].reason or "no reason was given"
    tail = f". For the same cause not run: {later}" if later else ""
    return [f"Repair the stage before '{stopped[0].name}': {reason}{tail}"]


def _culprits(report: Report) -> list[str]:
    steps = []
    for culprit in report.culprits[:2]:
        command = ["export-verify", "debug", report.pipeline.file, "--layer", culprit.layer]
        if culprit.stage == GIVEN_FILE:
            files = [held.path for held in report.artifacts if held.path.endswith(".onnx")]
            command += ["--onnx", *files[:1]] if files else []
        steps.append(f"Take this layer apart: {shlex.join(command)}")
    if len(report.culprits) > 2:
        steps.append(f"{len(report.culprits) - 2} more layers fail by themselves, listed below")
    return steps


def _structure(report: Report) -> list[str]:
    if not report.structure:
        return []
    first = report.structure[0]
    more = len(report.structure) - 1
    tail = f" (and {more} more differences)" if more else ""
    return [
        f"Compare {first.kind} '{first.name}' of {first.node}: {first.expected} was exported,"
        f" {first.actual} is in the file{tail}"
    ]


def _contracts(report: Report) -> list[str]:
    return [
        f"Contract '{held.name}' ({held.side}): {held.advice or held.reason or 'see its panel'}"
        for held in report.contracts
        if held.verdict == "fail"
    ]


def _golden(report: Report) -> list[str]:
    return [
        f"Golden '{held.case}': {held.advice or held.reason or held.state}"
        for held in report.golden
        if held.verdict == "fail"
    ]


def _outputs(report: Report) -> list[str]:
    bad = [held for held in report.outputs if held.verdict.verdict in ("fail", "ambiguous")]
    if not bad or report.culprits:
        return []
    first = bad[0]
    return [
        f"Output '{first.name}' differs in link '{first.link}' though no layer fails by itself:"
        " run again with ONNX Runtime's optimisations off to tell a fused kernel from the graph"
    ]
