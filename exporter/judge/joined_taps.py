"""Taps of a file that says nothing of itself: its values are joined with the pipeline's own file.

Names and metadata are gone, or another exporter's. The run's own file is known value by value, so a
value that is one with a value of that file is a tap (see ``exporter.joining``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from exporter.build.artifacts import Artifacts
from exporter.core.errors import ExportVerifyError
from exporter.core.files import temporary_folder
from exporter.core.tensors import Case
from exporter.graph.index import GraphIndex
from exporter.graph.taps import Joins, Names, tap_ops
from exporter.joining import Join, Joined, join_graphs
from exporter.joining.interface_inputs import perturbed
from exporter.joining.joined import AS_IT_IS, How, Proof
from exporter.judge.known_taps import KnownTaps, held_taps
from exporter.parity.reshaped import merges_or_splits

_SEED = 23


def joined_taps(
    taps: KnownTaps, given: GraphIndex, own: Artifacts, cases: Sequence[Case]
) -> KnownTaps:
    """What is known of the values of ``given`` when it is joined with the run's own file.

    Args:
        taps: what names and metadata say: outputs only. cases: the smallest one is run.

    Returns:
        ``taps`` itself where nothing but outputs can be joined.
    """
    if not cases or set(given.inputs) != set(own.graph.inputs):
        return taps
    inputs = min(
        (case.inputs for case in cases), key=lambda item: sum(v.size for v in item.values())
    )
    try:
        with temporary_folder() as folder:
            joined = join_graphs(
                own.graph,
                given,
                [inputs, perturbed(inputs, _SEED)],
                folder,
            )
    except ExportVerifyError as error:
        said = f"{taps.note}; its values could not be joined by what they compute: {error}"
        return replace(taps, note=said)
    tap_of = {own.program.onnx_name(op.name): op.name for op in tap_ops(own.program)}
    names: dict[str, str] = {}
    for join in joined.joins:
        tap = tap_of.get(join.expected)
        # What a quantiser leaves below zero, and nobody reads, is fed to nobody.
        useful = _can_be_fed(join) and join.actual not in joined.cut_off
        if tap is not None and useful and tap not in names:
            names[tap] = join.actual
    if not names:
        return taps
    return replace(
        taps,
        tapped=True,
        known=frozenset(),
        expected=held_taps(own, computed=True),
        names=Names.PROVED,
        joins=Joins(names=names),
        note=_note(joined, len(names), len(tap_of)),
    )


def _can_be_fed(join: Join) -> bool:
    """Whether the file's pieces can be given PyTorch's value: in its order of elements."""
    if join.how is How.INTERFACE or join.proof is Proof.NONE or join.layout != AS_IT_IS:
        return False
    left, right = join.shapes
    return left == right or merges_or_splits(left, right)


def _note(joined: Joined, taps: int, all_taps: int) -> str:
    how = ", ".join(f"{count} by {name}" for name, count in joined.counts.items())
    lost = len(joined.ambiguous) + len(joined.alone)
    return (
        f"nothing in the file says where its values come from: {joined.candidates - lost} of its"
        f" {joined.candidates} floating values are joined with this pipeline's own file by what"
        f" they compute on two sets of inputs ({how}); {taps} of {all_taps} of the program's values"
        f" are compared; {len(joined.ambiguous)} agree with several and are not"
    )
