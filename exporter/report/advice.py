"""What to do next, in the order in which it makes sense; read off the verdicts, never decided."""

from __future__ import annotations

import shlex

from exporter.parity.nodes_in_float64 import Cause
from exporter.parity.status import Status, is_differing, is_failing, needs_a_word
from exporter.report.comparison import CulpritRecord
from exporter.report.safe_text import printable
from exporter.report.schema import Report

KERNEL = Cause.KERNEL.value

MOST_STEPS = 5
GIVEN_FILE = "given file"
"""Stage of a culprit in a file that ``verify --onnx`` was given, not in one that the run made."""

SEEDED = (
    "Weights are SEEDED, not trained: the graph and its numbers are real,"
    " the tokens mean nothing. Give a checkpoint with --weights."
)


_STAGE_HINTS = {
    "wrap": "The pipeline's parts do not fit together: correct {file} where the message says",
    "capture": "torch.export cannot follow this code: let the line that is named take no decision"
    " on values, write to no input, and keep sizes as tensors",
    "export": "The translation to ONNX stopped: replace the op that is named, or try another"
    " 'export.opset' in {file}",
    "simplify": "Write 'export: {{simplify: false}}' into {file} to ship the file as it was"
    " exported, or install another onnxsim",
    "ship": "The file could not be written: look at the space and the rights of the folder",
    "run onnxruntime": "onnxruntime refuses the file: where it has no kernel for an op (bfloat16 on"
    " the CPU), keep that op in float32, or name another provider under 'deploy' in {file}; or"
    " try another 'export.opset', and without 'export.simplify'",
}


def next_steps(report: Report) -> list[str]:
    """At most five sentences, each with a command or a place to look at; [] when all is well."""
    steps = [
        *_stopped(report),
        *_links_not_run(report),
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
            if needs_a_word(link.verdict)
        ]
    if not steps and report.verdict == Status.NOT_RUN:
        steps = ["Nothing was judged: run the pipeline with at least one case"]
    return [printable(step) for step in steps[:MOST_STEPS]]


def command(report: Report, name: str, *options: str) -> str:
    """A command line that works as it is pasted: with the options that lead to this run."""
    words = ["export-verify", *name.split(), report.pipeline.file, *options, *report.options]
    return shlex.join(words)


def _stopped(report: Report) -> list[str]:
    """A run whose stage stopped: what can be done about that stage, and where all of it stands."""
    stopped = report.stopped
    if stopped is None:
        return []
    hint = _STAGE_HINTS.get(stopped.stage, "Correct what the message names")
    return [
        hint.format(file=report.pipeline.file),
        *([f"Read the whole message and its traceback: {stopped.trace}"] if stopped.trace else []),
        f"Then run it again: {command(report, 'run')}",
    ]


def _links_not_run(report: Report) -> list[str]:
    """The first link that was not run says which stage stopped; the rest only follow from it."""
    stopped = [link for link in report.links if link.verdict == Status.NOT_RUN]
    if not stopped or report.stopped is not None:
        return []
    later = ", ".join(link.name for link in stopped[1:])
    reason = stopped[0].reason or "no reason was given"
    tail = f". For the same cause not run: {later}" if later else ""
    return [f"Repair the stage before '{stopped[0].name}': {reason}{tail}"]


def _culprits(report: Report) -> list[str]:
    steps = []
    kernel = next((c for c in report.culprits if c.cause == KERNEL), None)
    if kernel is not None:
        steps.append(_other_kernel(report, kernel))
    for culprit in report.culprits[:2]:
        options = ["--layer", culprit.layer]
        if culprit.stage == GIVEN_FILE:
            files = [record.path for record in report.artifacts if record.path.endswith(".onnx")]
            options += ["--onnx", *files[:1]] if files else []
        steps.append(f"Take this layer apart: {command(report, 'debug', *options)}")
    from_run = [record for record in report.culprits[:2] if record.stage != GIVEN_FILE]
    if from_run and not report.finished_run:
        steps.insert(0, f"Run the pipeline, which debug starts from: {command(report, 'run')}")
    if len(report.culprits) > 2:
        steps.append(f"{len(report.culprits) - 2} more layers fail by themselves, listed below")
    return steps


def _other_kernel(report: Report, culprit: CulpritRecord) -> str:
    """A kernel that loses digits is no fault of the file: it is run or written another way."""
    which = " and ".join(culprit.nodes) or culprit.op
    return (
        f"The graph is right, a kernel on {culprit.provider} loses digits in {which}: try another"
        f" optimisation level ('deploy' in {report.pipeline.file}), another provider, a newer"
        " onnxruntime, or another formulation in the model; if what is lost does no harm, give the"
        " outputs an override with that as its reason"
    )


def _structure(report: Report) -> list[str]:
    failing = [item for item in report.structure if not item.accepted]
    if not failing:
        return []
    first, more = failing[0], len(failing) - 1
    tail = f" (and {more} more differences)" if more else ""
    steps = [
        f"Compare {first.kind} '{first.name}' of {first.node}: {first.expected} was exported,"
        f" {first.actual} is in the file{tail}"
    ]
    if all(item.explained for item in failing):
        given = report.artifacts[0].path if report.artifacts else "FILE"
        again = command(report, "verify", "--onnx", given, "--changed-on-purpose")
        steps.append(f"If an optimiser has rewritten the file on purpose: {again}")
    return steps


def _contracts(report: Report) -> list[str]:
    failed = [contract for contract in report.contracts if contract.verdict == "fail"]
    steps = [
        f"Contract '{contract.name}' ({contract.side}): "
        f"{contract.advice or contract.reason or 'see its panel'}"
        for contract in failed
    ]
    if failed:
        again = command(report, "check", "--contract", failed[0].name, "--verbose")
        # Behind the first one, so that more contracts do not push it off the list.
        steps.insert(1, f"Check it alone, with all its figures: {again}")
    return steps


def _golden(report: Report) -> list[str]:
    advised: dict[str, list[str]] = {}
    for golden in report.golden:
        if is_failing(golden.verdict):
            said = golden.advice or golden.reason or golden.state
            advised.setdefault(said, []).append(f"'{golden.case}'")
    return [f"Golden {', '.join(names)}: {said}" for said, names in advised.items()]


def _outputs(report: Report) -> list[str]:
    bad = [output for output in report.outputs if is_differing(output.verdict.verdict)]
    if not bad or report.culprits:
        return []
    first = next((output for output in bad if output.verdict.verdict == "fail"), bad[0])
    place = f"Output '{first.name}' differs in link '{first.link}'"
    if first.verdict.verdict == "ambiguous":
        return [
            f"{place} where either answer is right ({first.verdict.reason}): look at that decision,"
            " or allow as many with 'parity: {max_ambiguous: N}'"
        ]
    if not any(link.compared for link in report.links):
        return [
            f"{place}, and no layer was compared, so no place inside can be named: judge a file"
            " whose values can be told apart, such as the one that 'run' makes of this pipeline"
        ]
    # Only at the file as it is deployed, where the last link ends, kernels are fused.
    if first.link != report.links[-1].name:
        return [f"{place}, which no layer of the file can explain: compare the two ends themselves"]
    return [
        f"{place} though no layer fails by itself:"
        " run again with ONNX Runtime's optimisations off to tell a fused kernel from the graph"
    ]
