"""One session of debugging: choose layers, take each apart, write a bundle for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from onnx import ModelProto

from exporter.core.errors import EXIT_PARITY_FAILED, EXIT_PASS
from exporter.core.stages import Stages
from exporter.debugging.bundle import Bundle, write_bundle
from exporter.debugging.diagnose import Diagnosis, diagnose
from exporter.debugging.located_differences import Located, locate_differences
from exporter.debugging.pair import Pair, against
from exporter.debugging.select import LayerTaps, find_layer
from exporter.debugging.suspects import Suspect, of_file, of_report
from exporter.graph.index import index_graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Debugged:
    """What a debugging run found.

    Attributes:
        diagnoses: one per layer, in program order. bundles: one per diagnosis.
        waiting: culprits that were found and not taken apart (without ``--all``).
    """

    pair: Pair
    located: tuple[Located, ...]
    diagnoses: tuple[Diagnosis, ...]
    bundles: tuple[Bundle, ...]
    waiting: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """1 while a culprit exists."""
        guilty = any(d.guilty for d in self.diagnoses) or bool(self.waiting)
        return EXIT_PARITY_FAILED if guilty else EXIT_PASS


def take_apart(
    pair: Pair,
    *,
    layer: str | None,
    all_culprits: bool,
    bundles: Path,
    budget: int,
    progress: Stages,
) -> Debugged:
    """Choose layers of a file, take each apart, and write a bundle for each.

    Args:
        layer: module path, tap, ONNX name or glob; None for the first culprit.
        all_culprits: every culprit instead of the first.
        bundles: folder for the bundles.
        budget: bytes that compared values may hold while culprits are looked for.

    Raises:
        UserInputError: see ``find_layer``.
    """
    located = locate_differences(pair)
    suspects = _choose(pair, located, layer, budget, progress)
    chosen = suspects if all_culprits or layer is not None else suspects[:1]
    names = [suspect.layer.name for suspect in suspects]
    diagnoses, written = [], []
    for number, suspect in enumerate(chosen):
        with progress.stage(f"take '{suspect.layer.name or 'the root module'}' apart") as stage:
            diagnosis = _diagnose(pair, located, suspect, names[:number])
            stage.result(f"{len(diagnosis.held.rows)} ops, {len(diagnosis.findings)} finding(s)")
        with progress.stage("bundle") as stage:
            bundle = write_bundle(pair, diagnosis, bundles)
            stage.result(f"{bundle.bytes / 1e6:.1f} MB")
        diagnoses.append(diagnosis)
        written.append(bundle)
    return Debugged(
        pair=pair,
        located=located,
        diagnoses=tuple(diagnoses),
        bundles=tuple(written),
        waiting=tuple(names[len(chosen) :]) if layer is None else (),
        remarks=pair.notes,
    )


def debug_file(run: Pair, model: ModelProto, path: Path, *, budget: int) -> tuple[Diagnosis, ...]:
    """Diagnose every culprit of a file that lies in memory; writes nothing.

    Args:
        run: a finished run. path: where external data of ``model`` would lie.
        budget: bytes that compared values may hold.

    Raises:
        ArtifactError: the file does not descend from that run's.
    """
    pair = against(run, index_graph(model, path.parent), path)
    located = locate_differences(pair)
    suspects = of_file(pair, located, budget=budget, progress=lambda text: None)
    names = [suspect.layer.name for suspect in suspects]
    return tuple(
        _diagnose(pair, located, suspect, names[:number]) for number, suspect in enumerate(suspects)
    )


def _diagnose(
    pair: Pair, located: tuple[Located, ...], suspect: Suspect, earlier: list[str]
) -> Diagnosis:
    return diagnose(
        pair,
        suspect.layer,
        located,
        upstream=_upstream(pair, located, earlier),
        propagated=suspect.propagated,
    )


def _choose(
    pair: Pair,
    located: tuple[Located, ...],
    layer: str | None,
    budget: int,
    progress: Stages,
) -> tuple[Suspect, ...]:
    if layer is not None:
        chosen: LayerTaps = find_layer(pair, layer)
        return (Suspect(layer=chosen),)
    if pair.own:
        reported = of_report(pair)
        # A case that the run did not have is known to nobody yet.
        if reported or pair.case.name in {case.name for case in pair.report.cases}:
            return reported
    with progress.stage("find culprits") as stage:
        suspects = of_file(pair, located, budget=budget, progress=progress.phase)
        stage.result(f"{len(suspects)} layer(s), {len(located)} structural difference(s)")
    return suspects


def _upstream(pair: Pair, located: tuple[Located, ...], earlier: list[str]) -> tuple[str, ...]:
    """Modules known to be wrong: of the structure, of this session, of the last run."""
    known = [at.module for at in located] + earlier
    if pair.own:
        known += [culprit.layer for culprit in pair.report.culprits]
    return tuple(dict.fromkeys(name for name in known if name))
