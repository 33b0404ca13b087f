"""What is debugged: the folder of a finished run, and the file whose layers are in question.

Nothing is exported or captured again; the run left its program in a form that loads in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from exporter.build.artifacts import Artifacts
from exporter.build.metadata import GRAPH_DIGEST, PIPELINE, WEIGHTS_DIGEST
from exporter.cases.load import choose_cases, load_cases
from exporter.config import Pipeline
from exporter.core.errors import ArtifactError
from exporter.core.tensors import COMPARED, Case, PlannedTap
from exporter.execution.deployment import Deployment
from exporter.execution.trial import try_file
from exporter.graph.certificate import needs_trial
from exporter.graph.foreign_taps import agreeing_taps
from exporter.graph.index import GraphIndex
from exporter.graph.onnx_file import open_graph
from exporter.graph.program import Program
from exporter.graph.taps import plan_taps
from exporter.judge.reference_run import MADE, MADE_WITH_NAMES_OF_TORCH
from exporter.parity.tolerance import Policy, policy_of
from exporter.report.beside import changed_file
from exporter.report.schema import Report, read_report

_RUN_AGAIN = "run the pipeline again: export-verify run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A program and a file that should compute the same.

    Attributes:
        folder: output folder of the finished run. report: what that run found.
        program: the reference.
        expected: ``model.onnx`` of the run. actual: the file under test; may be the same object.
        path: where the file under test lies.
        planned: fate of every tap in ``actual``.
        cut: ONNX names of taps that ``actual`` computes: where pieces begin and end.
        shipped: the same for ``expected``.
        case: the inputs on which layers are run.
        notes: remarks for the user.
        known: of a file that does not descend from the run's: the taps that it is known to hold.
    """

    folder: Path
    report: Report
    program: Program
    expected: GraphIndex
    actual: GraphIndex
    path: Path
    planned: tuple[PlannedTap, ...]
    cut: frozenset[str]
    shipped: frozenset[str]
    case: Case
    policy: Policy
    deployment: Deployment
    notes: tuple[str, ...]
    known: frozenset[str] | None = None

    @property
    def descends(self) -> bool:
        """True when the structure of the two files can be compared node by node."""
        return self.known is None

    @property
    def own(self) -> bool:
        """True when the run's own file is under test."""
        return self.actual is self.expected

    def module_of(self, onnx_name: str) -> str | None:
        """Module path of the tap with that ONNX name."""
        return next((t.tap.module for t in self.planned if t.onnx_name == onnx_name), None)


def load_pair(
    pipeline: Pipeline,
    folder: Path,
    *,
    onnx_path: Path | None,
    case: str | None,
    deployment: Deployment,
) -> Pair:
    """Load a finished run and, if given, another file to hold against it.

    A file that does not descend from the run's is held against the export whose values have
    torch's own names, which ``verify`` leaves.

    Raises:
        ArtifactError: no report yet, a file of the run is missing, damaged or not the one that
            the report describes, or ``onnx_path`` cannot be read or belongs to something else.
        UserInputError: an unknown case.
    """
    given = None if onnx_path is None else open_graph(onnx_path)
    # It says of no pipeline that it was exported from it.
    foreign = given is not None and GRAPH_DIGEST not in metadata_of(given.model)
    place, report = _reference(pipeline, folder, onnx_path, foreign=foreign)
    artifacts = Artifacts(folder=place)
    path, expected = artifacts.shipped, artifacts.graph
    of_run = report.artifacts if place == folder else []
    recorded = next((a for a in of_run if a.name == path.name), None)
    if recorded is not None and changed_file(recorded, place / "report.json"):
        raise ArtifactError(
            "this is not the file that report.json describes: it was changed after the run",
            where=str(path),
            remedy=f"{_RUN_AGAIN}; to debug a changed file, give it with --onnx",
        )
    program = artifacts.program
    planned = plan_taps(program, expected)
    chosen, notes = _choose_case(pipeline, report, case)
    (loaded,) = load_cases(pipeline, artifacts.inputs, (chosen,))
    pair = Pair(
        folder=folder,
        report=report,
        program=program,
        expected=expected,
        actual=expected,
        path=path,
        planned=planned,
        cut=_cut(planned),
        shipped=_cut(planned),
        case=loaded,
        policy=policy_of(pipeline),
        deployment=deployment,
        notes=notes,
    )
    if given is None or onnx_path is None:
        return pair
    if needs_trial(onnx_path):
        try_file(onnx_path, [deployment], [loaded])
    if foreign:
        return beside(pair, given, onnx_path)
    return against(pair, given, onnx_path)


def _reference(
    pipeline: Pipeline, folder: Path, onnx_path: Path | None, *, foreign: bool
) -> tuple[Path, Report]:
    """Where program and file lie that are the reference, and the report that goes with them.

    Raises:
        ArtifactError: there is neither a finished run nor what ``verify`` leaves.
    """
    run, verified = folder / "report.json", folder / "verify" / "report.json"
    if onnx_path is None:
        return folder, _load_report(pipeline, run)
    made = folder / (MADE_WITH_NAMES_OF_TORCH if foreign else MADE)
    usable = verified.is_file() and (made / "model.onnx").is_file()
    if foreign:
        if usable:
            return made, _load_report(pipeline, verified)
        raise ArtifactError(
            "its values can be told apart only beside an export with torch's own names, which"
            " does not lie here",
            where=str(onnx_path),
            remedy="'export-verify verify' with the same --onnx and --output-dir makes it",
        )
    try:
        return folder, _load_report(pipeline, run)
    except ArtifactError:
        if not usable:
            raise
        return made, _load_report(pipeline, verified)


def against(pair: Pair, actual: GraphIndex, path: Path) -> Pair:
    """The same run with another file under test, which descends from the run's.

    Raises:
        ArtifactError: the file does not descend from this run's, or takes other inputs.
    """
    _check_origin(actual.model, path, pair.expected.model)
    _check_inputs(actual, pair.expected, path)
    planned = plan_taps(pair.program, actual)
    return replace(pair, actual=actual, path=path, planned=planned, cut=_cut(planned))


def beside(pair: Pair, actual: GraphIndex, path: Path) -> Pair:
    """The same program with a file that somebody else has exported.

    Raises:
        ArtifactError: nothing in the file tells which value belongs to which layer, or it takes
            other inputs.
    """
    agreed = agreeing_taps(pair.program, actual)
    if not agreed.useful:
        raise ArtifactError(
            "nothing in the file tells which of its values belong to which layer, so none can be"
            " taken apart; only its outputs can be compared",
            where=str(path),
            remedy="'verify --onnx' compares its outputs; for layers, export it with"
            " torch.onnx.export(dynamo=True) and keep the metadata of its nodes",
        )
    _check_inputs(actual, pair.expected, path)
    planned = plan_taps(pair.program, actual, agreed.taps)
    return replace(
        pair,
        actual=actual,
        path=path,
        planned=planned,
        cut=_cut(planned),
        known=agreed.taps,
    )


def _cut(planned: tuple[PlannedTap, ...]) -> frozenset[str]:
    return frozenset(t.onnx_name for t in planned if t.fate == COMPARED and not t.constant)


def _load_report(pipeline: Pipeline, path: Path) -> Report:
    if not path.is_file():
        raise ArtifactError(
            "there is no report of a finished run here",
            where=str(path),
            remedy="run the pipeline first: export-verify run (with the same --output-dir)",
        )
    report = read_report(path)
    if report.pipeline.graph_digest != pipeline.graph_digest:
        same = report.pipeline.name == pipeline.name
        what = "an older version of this pipeline" if same else f"'{report.pipeline.name}'"
        raise ArtifactError(
            f"the last run here was of {what}, or had other weights",
            where=str(path),
            remedy=f"{_RUN_AGAIN}, or give its --output-dir and --weights",
        )
    return report


def metadata_of(model: onnx.ModelProto) -> Mapping[str, str]:
    """``metadata_props`` of a file as a mapping."""
    return {item.key: item.value for item in model.metadata_props}


def _check_origin(model: onnx.ModelProto, path: Path, expected: onnx.ModelProto) -> None:
    """Layers can only be told apart in a file that descends from this run's export."""
    given, own = metadata_of(model), metadata_of(expected)
    name = given.get(PIPELINE, "unknown")
    for key, what, remedy in (
        (
            GRAPH_DIGEST,
            f"the file belongs to another pipeline or to another version of it ('{name}')",
            "give a file that descends from this run's model.onnx",
        ),
        (
            WEIGHTS_DIGEST,
            "the file was exported with other weights than this run",
            "run the pipeline with those --weights first, into another --output-dir",
        ),
    ):
        if given.get(key) != own.get(key):
            raise ArtifactError(what, where=str(path), remedy=remedy)


def _check_inputs(actual: GraphIndex, expected: GraphIndex, path: Path) -> None:
    unknown = [name for name in actual.inputs if name not in expected.inputs]
    if unknown:
        raise ArtifactError(
            f"the file has an input '{unknown[0]}' that the pipeline does not have",
            where=str(path),
            remedy=f"the pipeline's inputs: {', '.join(expected.inputs)}",
        )


def _choose_case(
    pipeline: Pipeline, report: Report, name: str | None
) -> tuple[str, tuple[str, ...]]:
    if name is not None:
        return choose_cases(pipeline, [name])[0], ()
    known = {case.name for case in pipeline.cases}
    wanted = [c.case for c in report.culprits if c.case] + [case.name for case in report.cases]
    chosen = next((name for name in wanted if name in known), None)
    if chosen is not None:
        skipped = wanted[: wanted.index(chosen)]
        notes = (f"case '{skipped[0]}' is not in the YAML: '{chosen}' is used",) if skipped else ()
        return chosen, notes
    return pipeline.default_case, ()
