"""Compare two ONNX files, or a file with itself on several deployments. Needs no PyTorch.

read both, try them in a process of their own
draw two sets of inputs, or take the user's
join     which values the files have in common (see ``exporter.joining``)
measure  every joined value: alone and in a free run; outputs as deployed
judge    by the limits of everywhere: the truth is one file in float64, and what float32 costs
         there is that file in float32
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from exporter.core.files import temporary_folder
from exporter.core.stages import Stages
from exporter.core.tensors import Arrays
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import FileRun
from exporter.execution.ort_session import LEVELS
from exporter.execution.releases import ReleaseRun, run_release
from exporter.flows.compare_inputs import FilePair, InputSets, inputs_of_pair, open_pair
from exporter.flows.compare_report import two_files_report
from exporter.flows.compare_rows import ComparedRows
from exporter.joining import join_graphs
from exporter.joining.alike import alike
from exporter.joining.evaluate import Values
from exporter.joining.measured import measure_joined
from exporter.parity.tolerance import Policy
from exporter.report.progress import Progress
from exporter.report.two_files import TwoFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """How two files are compared.

    Attributes:
        case: an .npz of inputs by name; drawn from seeds by default.
        sizes: of symbolic axes, where inputs are drawn.
        precision: what the other file may hold.
        level, threads: of onnxruntime, for outputs.
        levels, all_threads: judge the outputs on every level of optimisation, on one thread and
            on all, as well.
        releases: other releases of onnxruntime whose outputs are judged as well.
    """

    case: Path | None = None
    sizes: Mapping[str, int] | None = None
    precision: str = "float32"
    level: str = "all"
    threads: int = 0
    levels: bool = False
    all_threads: bool = False
    releases: tuple[str, ...] = ()


def compare(
    truth: Path,
    other: Path,
    options: CompareOptions | None = None,
    *,
    progress: Stages | None = None,
) -> TwoFiles:
    """Judge ``other`` against ``truth``, value by value.

    Raises:
        ArtifactError: a file cannot be read, or onnxruntime refuses it.
        UserInputError: the files have other inputs or outputs, or no inputs can be found.
    """
    options = options or CompareOptions()
    progress = progress or Progress(quiet=True)
    pair = open_pair(Path(truth), Path(other), progress)
    deployment = Deployment(level=options.level, threads=options.threads)
    inputs = inputs_of_pair(pair, options.case, options.sizes or {}, deployment, progress)
    with temporary_folder() as folder:
        return _compared(pair, inputs, deployment, options, progress, folder)


def _compared(
    pair: FilePair,
    inputs: InputSets,
    deployment: Deployment,
    options: CompareOptions,
    progress: Stages,
    folder: Path,
) -> TwoFiles:
    released = _released(pair, inputs, options, progress)
    exact = Values(folder)
    names = pair.inputs_of_b
    with progress.stage("join the values") as stage:
        joined = join_graphs(
            pair.a,
            pair.b,
            inputs.joined_on,
            folder,
            inputs_of_actual=names,
            exact=exact,
            inside=pair.inside,
        )
        stage.result(f"{len(joined.joins)} joined")
    refused = {label: run.why for label, run in released.items() if run.why}
    rows = ComparedRows(pair, Policy(precision=options.precision), refused)
    same = alike(pair.a, pair.b, joined, names)
    for number, case in enumerate(inputs.judged):
        name, values = f"case {number + 1}", partial(exact.one, at=number)
        with progress.stage(f"measure {name}") as stage:
            sides = measure_joined(
                pair.a,
                pair.b,
                joined,
                case,
                values,
                folder,
                inputs_of_actual=names,
                deployment=replace(deployment, level="disable"),
                same=same,
            )
            rows.add_values(sides, name)
            # Of the deployment that inputs were looked for with, the outputs are still there.
            runs: dict[str, Arrays] = {deployment.label(): inputs.outputs[number]}
            for other in _deployments(deployment, options)[1:]:
                runs[other.label()] = FileRun(pair.other, other).run(pair.for_b(case))
            for label, run in released.items():
                runs[label] = run.outputs[number] if run.outputs else {}
            rows.add_outputs(runs, values, sides, name)
            stage.result("")
    return two_files_report(pair, inputs, joined, rows)


def _released(
    pair: FilePair, inputs: InputSets, options: CompareOptions, progress: Stages
) -> dict[str, ReleaseRun]:
    """The judged file under other releases of onnxruntime, by label."""
    releases: dict[str, ReleaseRun] = {}
    cases = [pair.for_b(case) for case in inputs.judged]
    for release in options.releases:
        label = f"onnxruntime {release}"
        with progress.stage(label) as stage:
            releases[label] = run_release(
                release, pair.other, cases, level=options.level, threads=options.threads
            )
            stage.result(releases[label].why)
    return releases


def _deployments(plain: Deployment, options: CompareOptions) -> list[Deployment]:
    deployments = [plain]
    if options.levels:
        deployments += [replace(plain, level=level) for level in LEVELS]
    if options.all_threads:
        deployments += [replace(plain, threads=threads) for threads in (1, 2, 0)]
    return list(dict.fromkeys(deployments))
