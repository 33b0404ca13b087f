"""Which stage a culprit is charged to, or whether it is a kernel's and no stage's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from exporter.judge.layer_results import Culprit, LayerLink
from exporter.judge.report_records import culprit_record
from exporter.parity.nodes_in_float64 import Cause
from exporter.report.comparison import CulpritRecord

KERNEL = "kernel"
"""Stage of a culprit whose graph is right: none of the export, but what runs the file."""


def module_of(culprit: Culprit) -> str:
    """Module path of the layer."""
    return culprit.tap.planned.tap.module


def of_kernel(culprit: Culprit) -> bool:
    """True where the graph is right and a kernel loses digits."""
    return culprit.opinion is not None and culprit.opinion.cause is Cause.KERNEL


def to_blame(layers: LayerLink, *, failed: bool) -> tuple[Culprit, ...]:
    """The culprits of a walk; where outputs fail and no layer does, what kernels lose."""
    return layers.culprits or (layers.findings if failed else ())


def asks_for_stage(culprits: Sequence[Culprit]) -> bool:
    """True where it has to be found out which stage of the export a culprit comes from."""
    return any(not of_kernel(culprit) for culprit in culprits)


def culprit_records(
    culprits: Sequence[Culprit],
    *,
    link: str,
    stage: str,
    earlier: Mapping[str, LayerLink] | None = None,
    on_device: bool = False,
) -> list[CulpritRecord]:
    """Culprits as records, each with the first stage that has its layer wrong.

    Args:
        link: in which they were found. stage: of the file that was walked.
        earlier: walks of the files before it, by their stage, the first one first.
        on_device: the stage is a device, which a kernel's loss is charged to as well.
    """
    blamed: dict[str, str] = {}
    for name, layers in (earlier or {}).items():
        for culprit in layers.culprits:
            if not of_kernel(culprit):
                blamed.setdefault(module_of(culprit), name)

    def charged(culprit: Culprit) -> str:
        if of_kernel(culprit) and not on_device:
            return KERNEL
        return blamed.get(module_of(culprit), stage)

    return [culprit_record(c, link=link, stage=charged(c)) for c in culprits]
