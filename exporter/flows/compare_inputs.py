"""Two files that are compared, opened, and the inputs that both are run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from exporter.core.errors import UserInputError
from exporter.core.stages import Stages
from exporter.core.tensors import Arrays, Case
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import FileRun
from exporter.execution.trial import try_file
from exporter.graph.certificate import needs_trial
from exporter.graph.exposed import expose_stored
from exporter.graph.index import GraphIndex
from exporter.graph.inside_functions import show_inside
from exporter.graph.onnx_file import open_graph
from exporter.joining.interface_inputs import (
    calibrated,
    drawn_sets,
    inputs_of,
    perturbed,
    rounded_for,
)
from exporter.joining.measured import inputs_for
from exporter.joining.same_interface import check_outputs, inputs_of_other, read_case

_SEEDS = (11, 23)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePair:
    """The truth and the file that is judged.

    Attributes:
        a, b: their graphs. inside: values of ``a`` that its file has within single nodes.
        inputs_of_b: name of the judged file -> the truth's.
    """

    truth: Path
    other: Path
    a: GraphIndex
    b: GraphIndex
    inputs_of_b: Mapping[str, str]
    inside: frozenset[str] = frozenset()

    def for_b(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Inputs of the truth as the judged file takes them."""
        return inputs_for(self.b, inputs, self.inputs_of_b)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSets:
    """Inputs by the truth's names; on all of them values are joined, on the first are judged.

    Attributes:
        outputs: of the judged file as deployed, on those that are judged.
    """

    joined_on: Sequence[dict[str, np.ndarray]]
    judged: Sequence[dict[str, np.ndarray]]
    outputs: Sequence[Arrays]
    notes: tuple[str, ...] = ()


def open_pair(truth: Path, other: Path, progress: Stages) -> FilePair:
    """Open both files and tell their inputs apart.

    Raises:
        ArtifactError: a file cannot be read.
        UserInputError: the files have other inputs or outputs.
    """
    with progress.stage("read the files") as stage:
        a = open_graph(truth)
        # Values that a file gives to nobody in floats are looked at in floats.
        b = a if truth == other else expose_stored(open_graph(other))
        stage.result(f"{len(a.nodes)} and {len(b.nodes)} nodes")
    names = inputs_of_other(a, b, (truth, other))
    check_outputs(a, b, other)
    shown = show_inside(a, b)
    return FilePair(
        truth=truth, other=other, a=shown.graph, b=b, inputs_of_b=names, inside=shown.inside
    )


def inputs_of_pair(
    pair: FilePair,
    case: Path | None,
    sizes: Mapping[str, int],
    deployment: Deployment,
    progress: Stages,
) -> InputSets:
    """The user's case, or inputs that are drawn until both files run on them.

    Raises:
        ArtifactError: onnxruntime refuses a file. UserInputError: no inputs can be found.
    """

    outputs: list[Arrays] = []

    def run(sets: Sequence[Mapping[str, np.ndarray]]) -> None:
        outputs[:] = _run_both(pair, sets, deployment, progress)

    fit = partial(rounded_for, graph=pair.b, names=pair.inputs_of_b)
    if case is not None:
        given = fit(read_case(case, pair.a.inputs))
        run([given])
        said = "joined on the given case and on the same case with other floats"
        sets = [given, fit(perturbed(given, _SEEDS[1]))]
        return InputSets(joined_on=sets, judged=sets[:1], outputs=outputs, notes=(said,))
    specs = calibrated(inputs_of(pair.a, pair.truth), pair.b, pair.inputs_of_b)
    drawn = drawn_sets(specs, run, _SEEDS, sizes, fit)
    return InputSets(joined_on=drawn, judged=drawn[: len(_SEEDS)], outputs=outputs)


def _run_both(
    pair: FilePair,
    sets: Sequence[Mapping[str, np.ndarray]],
    deployment: Deployment,
    progress: Stages,
) -> list[Arrays]:
    """Run both files; one that this program did not make, in a child before it is run here.

    Returns:
        outputs of the judged file.
    """
    runs: list[Arrays] = []
    own = {name: name for name in pair.a.inputs}
    sides: list[tuple[Path, GraphIndex, Mapping[str, str]]] = [(pair.truth, pair.a, own)]
    if pair.truth != pair.other:
        sides.append((pair.other, pair.b, pair.inputs_of_b))
    for path, graph, names in sides:
        cases = [
            Case(name=f"case {at + 1}", inputs=inputs_for(graph, x, names), origin="compare")
            for at, x in enumerate(sets)
        ]
        if needs_trial(path):
            with progress.stage("try the file"):
                try_file(path, [deployment], cases)
        run = FileRun(path, deployment)
        runs = [run.run(case.inputs) for case in cases]
        # Of the judged file alone it is a fault of its own.
        none = any(value.size == 0 for outputs in runs for value in outputs.values())
        if none and path == pair.truth:
            raise UserInputError("an output is empty")
    return runs
