"""A file that somebody gave, against the pipeline's own run: its taps, the chain, its structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exporter.build.build import users_code
from exporter.build.metadata import EXPORT_DIGEST, VALUE_NAMES
from exporter.cases.at_lengths import sized_cases
from exporter.cases.load import load_cases
from exporter.core.artifact import Artifact
from exporter.core.stages import Stages, Station
from exporter.core.tensors import Case
from exporter.execution.trial import try_file
from exporter.flows.contracts_of_run import STREAM, stream_of_given_file
from exporter.flows.prepare import Prepared
from exporter.graph.certificate import is_own
from exporter.graph.index import GraphIndex
from exporter.graph.lowered.in_real_numbers import holds_less
from exporter.graph.wrap import Wrapped, narrowed
from exporter.judge.chain import Chain, Subject
from exporter.judge.chain_result import ChainResult
from exporter.judge.changes import purpose_note, structure_records
from exporter.judge.joined_taps import joined_taps
from exporter.judge.known_taps import known_taps
from exporter.judge.links import CAPTURED, Link
from exporter.judge.lowered import lowered_as_declared
from exporter.judge.reference_run import reference_run
from exporter.lowering.explain import explained
from exporter.parity.tolerance import policy_of
from exporter.report.comparison import StructureRecord
from exporter.report.schema import ContractRecord

TO_GIVEN = Link(expected=CAPTURED, actual="given")
NO_LAYERS = "layers: the file's values cannot be told apart by name"
_LOWERED_STREAM = (
    "contract 'stream': what windows of a file in a lower precision give, beside the whole: its"
    " limits are float32's"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenFile:
    """What was found of a given file.

    Attributes:
        cases: what it was judged on.
        notes: how its values are known first, what was changed on purpose behind it.
        structure: its differences to the export that it says it descends from.
        takes: sizes that it was judged at and is for, where they are fewer than was declared.
        fallback: why the program is a trace, or "".
        contracts: what windows of it give, where the pipeline declares a stream.
        not_checked: what nobody has looked at.
    """

    result: ChainResult
    cases: tuple[Case, ...]
    notes: tuple[str, ...] = ()
    structure: Sequence[StructureRecord] = ()
    takes: Sequence[str] = ()
    fallback: str = ""
    contracts: Sequence[ContractRecord] = ()
    not_checked: tuple[str, ...] = (NO_LAYERS,)


def judge_given(
    ready: Prepared,
    artifact: Artifact,
    given: GraphIndex,
    wrapped: Wrapped,
    cases: tuple[Case, ...],
    progress: Stages,
    *,
    changed_on_purpose: bool,
    layers_alone: bool,
) -> GivenFile:
    """Judge a file that takes what the pipeline takes.

    Args:
        given: the graph of ``artifact``. cases: loaded for the module as it was built.
        layers_alone: whoever asks knows what the layers of a file in a lower precision do at the
            outputs: they are not ranked by that, and decisions in doubt are not looked for at
            other lengths.

    Raises:
        StageError: there is no finished run of the pipeline, and its export stops.
        ArtifactError: the file cannot be run.
    """
    pipeline, policy = ready.pipeline, policy_of(ready.pipeline)
    if not is_own(artifact.path):
        # Also where this process is a child itself: the export before the file's first run takes
        # minutes, and only here is it known at what the file ends.
        with progress.stage("try the file"):
            try_file(artifact.path, ready.deployments, cases)
    # Values of a file of somebody else's are known by the names that torch gave them.
    names_of_torch = EXPORT_DIGEST not in artifact.metadata or VALUE_NAMES in artifact.metadata
    place = (ready.folder, ready.threads, progress)
    own = reference_run(pipeline, wrapped, *place, names_of_torch=names_of_torch)
    wrapped = narrowed(wrapped, own.program)
    cases = load_cases(pipeline, wrapped.inputs, ready.cases)
    taps = known_taps(artifact.metadata, given, own)
    if not (taps.tapped and taps.descends):
        with progress.stage("join its values"):
            taps = joined_taps(taps, given, own, cases)
    subject = Subject(
        module=wrapped.module,
        program=own.program,
        inputs=wrapped.inputs,
        outputs=wrapped.outputs,
        stations=(Station(name="given", path=artifact.path, stage="given file"),),
        expected_taps=taps.expected,
        known_taps=taps.known,
        names=taps.names,
        joins=taps.joins,
        tapped=taps.tapped,
        states=wrapped.states,
    )
    chain = Chain(subject, policy, ready.deployments, ready.budget, progress)
    sized = sized_cases(pipeline, wrapped.inputs, cases)
    with users_code(pipeline):
        result = chain.judge(cases, sized, pipeline.min_coverage, settled=not layers_alone)
    structure: list[StructureRecord] = []
    notes = [taps.note]
    if not layers_alone and taps.tapped and cases and holds_less(given):
        with progress.stage("what lowering costs"):
            notes += explained(
                own.program,
                artifact.path,
                given,
                own.graph,
                cases[0],
                ready.deployments[0].on_cpu(),
                ready.budget,
                known=taps.known,
                joins=taps.joins,
            )
    if taps.descends:
        # Whoever declares a lower precision knows that a tool has rewritten the file.
        on_purpose = changed_on_purpose or lowered_as_declared(own.program, given, policy)
        structure = structure_records(own.program, own.graph, given, on_purpose=on_purpose)
        notes += purpose_note(structure) if on_purpose else []
    contracts: Sequence[ContractRecord] = ()
    not_checked: tuple[str, ...] = () if taps.tapped else (NO_LAYERS,)
    if STREAM in pipeline.contracts and holds_less(given):
        not_checked += (_LOWERED_STREAM,)
    elif STREAM in pipeline.contracts:
        known = own if taps.tapped else None
        contracts = stream_of_given_file(ready, wrapped, cases, artifact.path, progress, known)
    return GivenFile(
        result=result.with_checks(taps.unshown).with_structure(
            [item for item in structure if not item.accepted]
        ),
        cases=cases,
        notes=tuple(notes),
        structure=structure,
        takes=own.program.takes(),
        fallback=own.program.fallback,
        contracts=contracts,
        not_checked=not_checked,
    )
