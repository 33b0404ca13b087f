"""Results of a run -> the records of report.json. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from exporter.build.cached_export import CacheUse
from exporter.core.artifact import Artifact
from exporter.core.tensors import COMPARED, MOVED, Case
from exporter.graph.taps import count_fates
from exporter.judge.layer_results import Culprit, JudgedTap, Judgement, LayerLink
from exporter.judge.links import Link
from exporter.judge.outputs import OutputResult
from exporter.parity.rollup import Coverage, link_verdict
from exporter.parity.status import Status
from exporter.parity.verdict import Verdict
from exporter.report.comparison import (
    CulpritRecord,
    LayerRecord,
    LinkRecord,
    OutputRecord,
    TapRecord,
    VerdictRecord,
    number,
)
from exporter.report.schema import ArtifactRecord, CacheRecord, CaseRecord

_MOST_OTHERS = 3


def output_record(result: OutputResult) -> OutputRecord:
    """One output of one link on one case."""
    m = result.measurement
    return OutputRecord(
        link=result.link,
        case=result.case,
        name=result.name,
        dtype=m.dtype_actual or m.dtype_expected or "",
        shape=list(m.shape_actual or ()),
        max_abs=m.actual.max_abs if m.actual else None,
        cosine=number(m.cosine),
        mismatches=m.mismatches,
        measurement=m.to_json(),
        verdict=VerdictRecord.of(result.verdict),
        layer=result.layer,
    )


def layer_link(
    layers: LayerLink, link: Link, min_coverage: float | None
) -> tuple[LinkRecord, Status]:
    """The link of all layers, as one record and its status: counted, gated by coverage, judged.

    Args:
        link: what was compared with what.
        min_coverage: share of taps that must be compared; None for all of them.
    """
    fates = count_fates([tap.planned for tap in layers.taps])
    verdicts = [verdict for tap in layers.taps for verdict in _verdicts(tap)]
    empty = sum(_is_empty(tap) for tap in layers.taps)
    coverage = Coverage(
        expected=len(layers.taps),
        compared=fates["compared"] - empty,
        empty=empty,
        fused=fates["fused"],
        missing=fates["missing"],
        minimum=1.0 if min_coverage is None else min_coverage,
    )
    rolled = link_verdict(link.name, verdicts, coverage)
    record = link.record(
        rolled.status,
        rolled.reason,
        compared=coverage.compared,
        empty=empty,
        fused=fates["fused"],
        missing=fates["missing"],
        coverage=coverage.share,
        weak=sum(any(v.weak for v in _verdicts(tap)) for tap in layers.taps),
        layers=_layers(layers.taps),
    )
    return record, rolled.status


def _verdicts(tap: JudgedTap) -> list[Verdict]:
    return [judged.verdict for judged in tap.both]


def _is_empty(tap: JudgedTap) -> bool:
    """True for a tap that the file holds and that has no element in any case."""
    elements = tap.local.measurement.elements if tap.local is not None else 0
    return tap.planned.fate == COMPARED and not elements


def _layers(taps: Iterable[JudgedTap]) -> list[LayerRecord]:
    """Taps grouped by module path, in topological order of the module's first tap."""
    groups: dict[str, list[tuple[int, JudgedTap]]] = {}
    for place, tap in enumerate(taps):
        groups.setdefault(tap.planned.tap.module, []).append((place, tap))
    return [
        LayerRecord.of(
            module,
            taps_of_module[0][1].planned.tap.module_class,
            [_tap(tap, place) for place, tap in taps_of_module],
        )
        for module, taps_of_module in groups.items()
    ]


def _tap(result: JudgedTap, place: int) -> TapRecord:
    planned, local, free = result.planned, result.local, result.propagated
    return TapRecord(
        name=planned.tap.name,
        place=place,
        op=planned.tap.op,
        source=planned.tap.source,
        fate=planned.fate,
        into=planned.into,
        held_as=planned.onnx_name if planned.renamed else None,
        case=local.case if local else None,
        local=local.measurement.to_json() if local else None,
        propagated=free.measurement.to_json() if free else None,
        local_verdict=VerdictRecord.of(local.verdict) if local else None,
        propagated_verdict=VerdictRecord.of(free.verdict) if free else None,
        verdict=result.status.value,
    )


def walk_notes(link: LayerLink) -> list[str]:
    """Where the time of a walk went, and which values were compared after reshaping."""
    shares = ", ".join(f"{kind} {spent:.1f}" for kind, spent in link.clock.seconds.items())
    notes = [f"seconds in the layer walk: {shares}"]
    measured = [
        (tap.planned.tap.name, tap.local.measurement)
        for tap in link.taps
        if tap.local is not None and tap.local.measurement.shape_stored is not None
    ]
    if measured:
        name, measurement = measured[0]
        notes.append(
            f"{len(measured)} value(s) that the file holds in another shape were compared after "
            f"reshaping, elements in the order that they have: '{name}' is "
            f"{measurement.shape_stored} there, {measurement.shape_expected} in PyTorch"
        )
    renamed = [tap.planned for tap in link.taps if tap.planned.renamed]
    if renamed:
        first = renamed[0]
        notes.append(
            f"{len(renamed)} value(s) stand under another one's name, as numbers show, and were "
            f"compared as what they are: '{first.tap.name}' is called '{first.onnx_name}' there"
        )
    moved = [tap.planned.tap.name for tap in link.taps if tap.planned.fate == MOVED]
    if moved:
        notes.append(
            f"{len(moved)} name(s) hold another value than in this pipeline's export, while all "
            f"values behind them agree: {', '.join(moved[:5])}{' ...' if len(moved) > 5 else ''}"
        )
    return notes


def culprit_record(culprit: Culprit, *, link: str, stage: str) -> CulpritRecord:
    """A culprit; its layer is that of a tap the file has lost, where one explains it."""
    result = culprit.tap
    tap = culprit.lost[0].tap if culprit.lost else result.planned.tap
    local, free = result.local, result.propagated
    decisive = local if culprit.local or free is None else free
    if decisive is None:
        raise ValueError(f"culprit '{result.planned.tap.name}' has no measurement")
    reason = decisive.verdict.reason
    if culprit.lost:
        names = ", ".join(f"'{lost.tap.name}' ({lost.tap.op})" for lost in culprit.lost)
        reason = f"the file has lost {names}; {reason}"
    said = culprit.opinion
    if culprit.others:
        also = ", ".join(_briefly(other) for other in culprit.others[:_MOST_OTHERS])
        more = len(culprit.others) - _MOST_OTHERS
        reason = f"{reason}; in the same layer also {also}{f' and {more} more' * (more > 0)}"
    if not culprit.local:
        reason = f"no layer fails by itself, the error has added up by here; {reason}"
    return CulpritRecord(
        link=link,
        stage=stage,
        layer=tap.module,
        op=tap.op,
        tap=result.planned.tap.name,
        source=tap.source,
        case=decisive.case,
        local_error=_error(local),
        propagated_error=_error(free),
        ratio=number(decisive.verdict.ratio),
        limit=number(decisive.verdict.limit.max_abs if decisive.verdict.limit else None),
        who=decisive.verdict.who.value,
        reason=reason,
        by_itself=culprit.local,
        cause=said.cause.value if said else None,
        engine=said.engine if said else "",
        graph_error=said.graph_error if said else None,
        float32_error=said.float32_error if said else None,
        nodes=list(said.nodes) if said else [],
        provider=said.provider if said else "",
    )


def _briefly(result: JudgedTap) -> str:
    """``aten.cumsum.default at model.py:7 (1.2 x its limit)``."""
    tap, local = result.planned.tap, result.local
    strain = local.verdict.strain if local is not None else None
    share = "" if strain is None else f" ({strain:.3g} x its limit)"
    return f"{tap.op}{f' at {tap.source}' if tap.source else ''}{share}"


def _error(judged: Judgement | None) -> float | None:
    if judged is None:
        return None
    distance = judged.measurement.actual or judged.measurement.direct
    return distance.max_abs if distance else None


def artifact_record(artifact: Artifact, *, made: bool = True) -> ArtifactRecord:
    """A file that the run made, or was given."""
    return ArtifactRecord(
        name=artifact.path.name,
        path=str(artifact.path),
        sha256=artifact.sha256,
        nodes=artifact.nodes,
        bytes=artifact.bytes,
        external=dict(artifact.external),
        made=made,
    )


def plain_artifact(path: Path, sha256: str) -> ArtifactRecord:
    """A file that is not an ONNX graph."""
    return ArtifactRecord(
        name=path.name, path=str(path), sha256=sha256, nodes=None, bytes=path.stat().st_size
    )


def case_record(case: Case, text: list[str] | None) -> CaseRecord:
    """A case: where its arrays come from and how large they are."""
    return CaseRecord(
        name=case.name,
        origin=case.origin,
        shapes={name: list(array.shape) for name, array in case.inputs.items()},
        expect_empty=sorted(case.expect_empty),
        text=text,
    )


def cache_record(use: CacheUse | None) -> CacheRecord | None:
    """What a report says of the cache."""
    if use is None:
        return None
    state = "taken" if use.taken else "stored" if use.stored else "not stored"
    return CacheRecord(
        key=use.key, state=state, made=use.made, stages=list(use.stages) if use.taken else []
    )
