"""The making half of a run: pipeline -> module -> program -> ONNX -> simplified ONNX, as files."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx
import onnx_ir as ir

from exporter.build.artifacts import Artifacts
from exporter.build.cache_key import key_parts
from exporter.build.cached_export import (
    EXPORTED,
    PROGRAM,
    SHIPPED,
    TAPS,
    CacheUse,
    ExportResult,
    changed_since,
    clear_exported,
    keep,
    take,
)
from exporter.build.frozen_trace import frozen_axis
from exporter.build.metadata import EXPORT_DIGEST, VALUE_NAMES, metadata_of
from exporter.cache.store import Store
from exporter.config import Pipeline
from exporter.core.artifact import Artifact
from exporter.core.errors import ConfigError, ModelError, StageError
from exporter.core.stages import Stages, Station
from exporter.core.stopwatch import FILES, MODULE, timed
from exporter.execution.memory import trim
from exporter.graph.export import Exported, check_interface, export
from exporter.graph.index import index_graph
from exporter.graph.legacy import fall_back as legacy
from exporter.graph.legacy.fall_back import FallBack, and_legacy, fall_back, with_words
from exporter.graph.normed_weights import folded_notes, normed_weights
from exporter.graph.onnx_file_writer import store_exported, store_shipped
from exporter.graph.program import Program
from exporter.graph.program_file import save_program
from exporter.graph.simplify import Simplified
from exporter.graph.strategies import Captured, capture_openly
from exporter.graph.taps import plan_taps, write_taps
from exporter.graph.viewer_keys import modules_of, write_modules
from exporter.graph.weights_on_disk import simplify_stored, stored_weights
from exporter.graph.wrap import Wrapped, narrowed, wrap
from exporter.interpret.eager import ModuleStoppedError
from exporter.models.custom_translation import translations_of
from exporter.models.user_code import blamed, place_of, stopping


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """Everything that the judging half needs.

    Attributes:
        wrapped: the module. program: what the exporter translated.
        exported, shipped: the two files.
        simplified: what onnxsim did; None when the pipeline leaves it out.
        cache: what the cache had to do with it; None when there is none. store: the cache.
        made_of: digests of all that the files were made of, by part; see ``state_of``.
    """

    wrapped: Wrapped
    program: Program
    exported: Artifact
    shipped: Artifact
    simplified: Simplified | None
    cache: CacheUse | None = None
    store: Store | None = None
    made_of: Mapping[str, str] = field(default_factory=dict)

    @property
    def artifacts(self) -> Artifacts:
        """The files, as other commands find them later."""
        return Artifacts(folder=self.shipped.path.parent, made=self.program)

    @property
    def stations(self) -> tuple[Station, ...]:
        """The files in the order in which they were made."""
        exported = Station(name="exported", path=self.exported.path, stage="export")
        if self.simplified is None:
            return (exported,)
        shipped = Station(name="simplified", path=self.shipped.path, stage="simplify")
        return (exported, shipped)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report says of how the files were made."""
        said, done = list(self.wrapped.notes), self.simplified
        weights = list(normed_weights(self.wrapped.module))
        if weights:
            said += folded_notes(weights, self.artifacts.graph)
        if done is not None:
            grew = "; it made the graph larger" if done.grew else ""
            said.append(
                f"onnxsim: {done.nodes_before} to {done.nodes_after} nodes, {done.bytes_before:,}"
                f" to {done.bytes_after:,} bytes of weights{grew}"
            )
        return (*said, *(self.cache.notes if self.cache is not None else ()))


def build(
    pipeline: Pipeline,
    folder: Path,
    stages: Stages,
    *,
    prepare: Callable[[], None],
    store: Store | None = None,
    names_of_torch: bool = False,
) -> BuildResult:
    """Wrap, capture, export and simplify; writes ``exported.onnx``, ``model.onnx``, ``taps.json``
    and ``program/`` to ``folder``, or takes them from the cache.

    Args:
        prepare: called once the upstream packages are imported (they change thread counts).
        store: the cache; ``None`` makes everything anew and keeps nothing.
        names_of_torch: as for ``export``: to hold a file against that plain torch has exported.

    Raises:
        StageError: a stage fails.
        ConfigError, WeightsError: the pipeline or its checkpoint cannot be used.
    """
    with stages.stage("wrap") as stage, timed(MODULE):
        wrapped = wrap(pipeline)
        prepare()
        stage.result(f"weights: {wrapped.weights.source}")
    base = metadata_of(pipeline, wrapped, names_of_torch=names_of_torch)
    use = None
    with timed(MODULE):
        # Before anything is captured: that may load more of a package's code.
        made_of = state_of(pipeline, wrapped)
    with timed(FILES):
        if store is None:
            made = make(pipeline, wrapped, folder, stages, base)
        else:
            made, use = _cached(pipeline, wrapped, folder, stages, base, store)
        trim()
    return BuildResult(
        wrapped=narrowed(wrapped, made.program),
        program=made.program,
        exported=made.exported,
        shipped=made.shipped,
        simplified=made.simplified,
        cache=use,
        store=store,
        made_of=made_of,
    )


def _cached(
    pipeline: Pipeline,
    wrapped: Wrapped,
    folder: Path,
    stages: Stages,
    base: Mapping[str, str],
    store: Store,
) -> tuple[ExportResult, CacheUse]:
    """What the cache has, else what is made now, which it then has."""
    captured = None
    if pipeline.model.factory is not None:
        # What a user's code read is not known for sure; what became of it is.
        captured = _capture(pipeline, wrapped, stages)
    with stages.stage("cache") as stage:
        parts = key_parts(pipeline, wrapped, base, captured)
        made, use, checked = take(store, parts, folder, wrapped.module)
        if made is None:
            changed = changed_since(store, parts, pipeline.name)
            why = f"; changed since the last export: {changed}" if changed else ""
            stage.result(f"nothing under {use.short}{why}")
        else:
            stage.result(f"{use.short}, made {use.made}, {checked / 1e9:.2f} GB checked")
    for note in use.notes:
        stages.note(note)
    if made is not None:
        if captured is not None:
            use = replace(use, stages=tuple(name for name in use.stages if name != "capture"))
        for name in use.stages:
            with stages.stage(name) as stage:
                stage.result(f"cached {use.short}  {made.said[name]}".rstrip())
        return made, use
    made = make(pipeline, wrapped, folder, stages, base, captured)
    with stages.stage("cache") as stage:
        kept = keep(store, parts, folder, made, pipeline.name, use)
        stage.result(f"{'stored' if kept.stored else 'not stored'} {use.short}")
    for note in kept.notes[len(use.notes) :]:
        stages.note(note)
    return made, kept


def _capture(pipeline: Pipeline, wrapped: Wrapped, stages: Stages) -> Captured | FallBack:
    with _stopping(pipeline, "capture"), users_code(pipeline), stages.stage("capture") as stage:
        try:
            asked = pipeline.capture
            captured = capture_openly(wrapped, without=asked.without, wanted=asked.wanted)
        except StageError as error:
            captured = _fall_back(pipeline, wrapped, error)
        stage.result(_ops(captured))
    return captured


def _fall_back(pipeline: Pipeline, wrapped: Wrapped, error: StageError) -> FallBack:
    """The legacy exporter's file of a user's own model; else the refusal."""
    if pipeline.model.factory is None or pipeline.capture.fallback == "none":
        raise error
    fallback = fall_back(
        wrapped,
        error,
        pipeline.export.opset,
        place=place_of,
        without=pipeline.capture.without,
    )
    frozen = frozen_axis(wrapped, fallback.exported.program)
    if frozen:
        raise and_legacy(error, f"a trace helps no further: {frozen}") from error.__cause__
    return fallback


def _ops(captured: Captured | FallBack) -> str:
    if isinstance(captured, FallBack):
        return f"{len(captured.exported.program.ops)} ops; FALL-BACK: {legacy.NAME}"
    ops = f"{sum(n.op == 'call_function' for n in captured.program.graph.nodes)} ops"
    return f"{ops}; {captured.strategy}" if captured.strategy else ops


def make(
    pipeline: Pipeline,
    wrapped: Wrapped,
    folder: Path,
    stages: Stages,
    base: Mapping[str, str],
    captured: Captured | FallBack | None = None,
) -> ExportResult:
    """Capture (if that is not done yet), export, simplify and ship; see ``build``."""
    if captured is None:
        captured = _capture(pipeline, wrapped, stages)
    said = {"capture": _ops(captured)}
    with _stopping(pipeline, "export"), users_code(pipeline), stages.stage("export") as stage:
        result = _exported(pipeline, wrapped, captured, names_of_torch=VALUE_NAMES in base)
        program = replace(result.program, specs=narrowed(wrapped, result.program).inputs)
        outside = pipeline.export.external_data
        clear_exported(folder)
        exported, model = store_exported(result.model, folder / EXPORTED, base, outside=outside)
        write_taps(plan_taps(program, index_graph(model, folder)), folder / TAPS)
        save_program(program, folder / PROGRAM)
        said["export"] = f"{exported.nodes} nodes, opset {_opset(model)}"
        if result.left:
            said["export"] += f"; decomposed by torch: {result.left}"
        stage.result(said["export"])
    simplified = None
    modules = modules_of(model)  # the simplifier forgets them
    shipped_model, weights = model, stored_weights(model, folder)
    if pipeline.export.simplify:
        with stages.stage("simplify") as stage:
            simplified, weights = simplify_stored(model, folder)
            shipped_model = simplified.model
            check_interface(
                ir.from_proto(shipped_model), wrapped.inputs, wrapped.outputs, stage="simplify"
            )
            grew = ", larger than before" if simplified.grew else ""
            said["simplify"] = f"{simplified.nodes_before} -> {simplified.nodes_after} nodes{grew}"
            stage.result(said["simplify"])
    with stages.stage("ship"):
        shipping = {**base, EXPORT_DIGEST: exported.sha256}
        path = folder / SHIPPED
        write_modules(shipped_model, modules)
        shipped = store_shipped(shipped_model, weights, path, shipping, outside=outside)
        said["ship"] = ""
    if simplified is not None:
        # The judging half reads the file; holding the model as well costs its weights once more.
        simplified = replace(simplified, model=onnx.ModelProto())
    return ExportResult(
        program=program,
        exported=exported,
        shipped=shipped,
        simplified=simplified,
        said=said,
    )


def _opset(model: onnx.ModelProto) -> int:
    return next(opset.version for opset in model.opset_import if not opset.domain)


def _exported(
    pipeline: Pipeline, wrapped: Wrapped, captured: Captured | FallBack, *, names_of_torch: bool
) -> Exported:
    """The captured program in ONNX, with what was found when it was captured."""
    if isinstance(captured, FallBack):
        return with_words(captured)
    try:
        result = export(
            captured.program,
            inputs=wrapped.inputs,
            outputs=wrapped.outputs,
            opset=pipeline.export.opset,
            names_of_torch=names_of_torch,
            translations=translations_of(wrapped.module),
        )
    except StageError as error:
        return with_words(_fall_back(pipeline, wrapped, error))
    limits = {
        name: (axis.minimum, axis.maximum, axis.multiple_of) for name, axis in captured.axes.items()
    }
    program = replace(result.program, limits=limits, notes=captured.notes, guards=captured.guards)
    return replace(result, program=program)


def _stopping(pipeline: Pipeline, stage: str) -> contextlib.AbstractContextManager[None]:
    """What torch raises over a user's own model stops a stage; over ours it is a bug of ours."""
    return contextlib.nullcontext() if pipeline.model.factory is None else stopping(stage)


@contextlib.contextmanager
def users_code(pipeline: Pipeline) -> Iterator[None]:
    """Where a model runs on what the user gave: what stops it is said with file and line.

    Other errors of models that this package knows are not the user's business; they pass unchanged.

    Raises:
        ModelError: the pipeline has a factory, and the model raised or cannot be exported.
        ConfigError: a model that this package knows does not take the values of a case.
    """
    try:
        if pipeline.model.factory is None:
            yield
            return
        where = pipeline.where("model", "factory")
        with blamed(where, f"the model of '{pipeline.model.factory}' stopped", always=False):
            yield
    except ModuleStoppedError as error:
        raise _stopped_on_case(pipeline, error) from error


_BY_VALUES = (IndexError, RuntimeError, ValueError)
"""What torch raises over values that a module does not take; a bug of ours raises other things."""


def _stopped_on_case(pipeline: Pipeline, error: ModuleStoppedError) -> BaseException:
    """A module that raised on a case, said with the place of the case."""
    case, cause = error.case, error.__cause__ or error
    known = [item.name for item in pipeline.cases]
    where = pipeline.where("cases")
    if case is not None and case.name in known:
        where = pipeline.where("cases", known.index(case.name))
    elif case is not None and case.sized:
        where = pipeline.where("lengths")
    on = "" if case is None else f" on the case '{case.name}'"
    if pipeline.model.factory is not None:
        return ModelError(
            f"the model of '{pipeline.model.factory}' stopped{on}: {error}",
            where=place_of(cause) or where,
            remedy="give values that the model takes, or correct its code",
        )
    if not isinstance(cause, _BY_VALUES):
        return cause
    return ConfigError(
        f"the model '{pipeline.model.kind}' stopped{on}: {error}",
        where=where,
        remedy="give values and sizes that the model takes; if these are right, report it",
    )


def state_of(pipeline: Pipeline, wrapped: Wrapped) -> dict[str, str]:
    """Digests of all that an export of this pipeline is made of now, by the parts of its key."""
    parts = key_parts(pipeline, wrapped, metadata_of(pipeline, wrapped))
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in parts.items()}
