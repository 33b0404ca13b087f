"""What is debugged: the folder of a finished run, and the file whose layers are in question.

Nothing is exported or captured again; the run left its program in a form that loads in seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from exporter.artifact import sha256_of
from exporter.build import PREFIX
from exporter.cases.load import choose_cases, load_cases
from exporter.config import Pipeline
from exporter.errors import ArtifactError, UserInputError
from exporter.execution.onnxruntime import Deployment
from exporter.graph.index import GraphIndex, index_graph
from exporter.graph.onnx_file import read_model
from exporter.graph.program import Program
from exporter.graph.program_file import load_program
from exporter.graph.taps import COMPARED, PlannedTap, plan_taps
from exporter.make_report import policy_of
from exporter.parity.tolerance import Policy
from exporter.report.schema import Report, read_report
from exporter.tensors import Case, TensorSpec

_RUN_AGAIN = "run the pipeline again: export-verify run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
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

    @property
    def own(self) -> bool:
        """True when the run's own file is under test."""
        return self.actual is self.expected

    def module_of(self, onnx_name: str) -> str | None:
        """Module path of the tap with that ONNX name."""
        return next((t.tap.module for t in self.planned if t.onnx_name == onnx_name), None)


def load_subject(
    pipeline: Pipeline,
    folder: Path,
    *,
    onnx_path: Path | None,
    case: str | None,
    deployment: Deployment,
) -> Subject:
    """Load a finished run and, if given, another file to hold against it.

    Raises:
        ArtifactError: no report yet, a file of the run is missing, damaged or not the one that
            the report describes, or ``onnx_path`` cannot be read or belongs to something else.
        UserInputError: an unknown case.
    """
    report = _load_report(pipeline, folder)
    path = folder / "model.onnx"
    expected = index_graph(read_model(path), folder)
    recorded = next((a.sha256 for a in report.artifacts if a.name == path.name), None)
    if recorded is not None and sha256_of(path) != recorded:
        raise ArtifactError(
            "this is not the file that report.json describes: it was changed after the run",
            where=str(path),
            remedy=f"{_RUN_AGAIN}; to debug a changed file, give it with --onnx",
        )
    program = load_program(folder / "program")
    planned = plan_taps(program, expected)
    chosen, notes = _choose_case(pipeline, report, case)
    (loaded,) = load_cases(pipeline, input_specs(expected), (chosen,))
    subject = Subject(
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
    return subject if onnx_path is None else against(subject, read_model(onnx_path), onnx_path)


def against(subject: Subject, model: onnx.ModelProto, path: Path) -> Subject:
    """The same run with another file under test.

    Raises:
        ArtifactError: the file does not descend from this run's, or takes other inputs.
    """
    _check_origin(model, path, subject.expected.model)
    actual = index_graph(model, path.parent)
    _check_inputs(actual, subject.expected, path)
    planned = plan_taps(subject.program, actual)
    return replace(subject, actual=actual, path=path, planned=planned, cut=_cut(planned))


def _cut(planned: tuple[PlannedTap, ...]) -> frozenset[str]:
    return frozenset(t.onnx_name for t in planned if t.fate == COMPARED and not t.constant)


def _load_report(pipeline: Pipeline, folder: Path) -> Report:
    path = folder / "report.json"
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
    key = f"{PREFIX}graph_digest"
    if key not in given:
        raise ArtifactError(
            "the file does not say which pipeline it was exported from"
            f" (its metadata has no '{key}'), so its layers cannot be told apart",
            where=str(path),
            remedy="give a file that descends from this run's model.onnx, its metadata kept;"
            " 'verify' compares the outputs of any file",
        )
    if given[key] != own.get(key):
        name = given.get(f"{PREFIX}pipeline", "unknown")
        raise ArtifactError(
            f"the file belongs to another pipeline or to another version of it ('{name}')",
            where=str(path),
            remedy="give a file that descends from this run's model.onnx",
        )
    key = f"{PREFIX}weights_digest"
    if given.get(key) != own.get(key):
        raise ArtifactError(
            "the file was exported with other weights than this run",
            where=str(path),
            remedy="run the pipeline with those --weights first, into another --output-dir",
        )


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
    found = next((name for name in wanted if name in known), None)
    if found is not None:
        skipped = wanted[: wanted.index(found)]
        notes = (f"case '{skipped[0]}' is not in the YAML: '{found}' is used",) if skipped else ()
        return found, notes
    return pipeline.default_case, ()


def input_specs(graph: GraphIndex) -> tuple[TensorSpec, ...]:
    """Inputs of an exported file; their readable values come from its metadata.

    Raises:
        UserInputError: the metadata is not what ``export-verify`` wrote.
    """
    try:
        choices = json.loads(metadata_of(graph.model).get(f"{PREFIX}input_choices", "{}"))
    except ValueError as error:
        raise UserInputError(
            f"the file's metadata '{PREFIX}input_choices' is damaged", remedy=_RUN_AGAIN
        ) from error
    specs = []
    for value in graph.model.graph.input:
        if value.name in graph.initializers:
            continue
        kind = value.type.tensor_type
        shape = tuple(
            d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in kind.shape.dim
        )
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        chosen = {**choices.get(value.name, {})}
        specs.append(TensorSpec(name=value.name, dtype=dtype, shape=shape, choices=chosen))
    return tuple(specs)
