"""A file that is not the pipeline's own export: its values are joined with that export's.

The run's own file is known value by value. Where names and metadata are gone, or another
exporter's, a value that is one with a value of that file is a tap (see ``exporter.joining``).
Whatever its names say, nobody has compared the structure of such a file: what no compared number
shows is asked of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from exporter.build.artifacts import Artifacts
from exporter.core.errors import ExportVerifyError
from exporter.core.files import temporary_folder
from exporter.core.tensors import Case
from exporter.graph.index import GraphIndex
from exporter.graph.taps import Joins, Names, tap_ops
from exporter.joining import Join, Joined, join_graphs
from exporter.joining.digests import root
from exporter.joining.interface_inputs import perturbed
from exporter.joining.joined import AS_IT_IS, How, Proof
from exporter.joining.unshown import unshown
from exporter.judge.known_taps import KnownTaps, held_taps
from exporter.parity.reshaped import merges_or_splits
from exporter.report.schema import CHECK_UNSHOWN, CheckRecord

_SEED = 23


def joined_taps(
    taps: KnownTaps, given: GraphIndex, own: Artifacts, cases: Sequence[Case]
) -> KnownTaps:
    """What is known of the values of ``given`` when it is joined with the run's own file.

    Args:
        taps: what names and metadata say. cases: the smallest one is run.

    Returns:
        ``taps`` with what decides beside them; where names and metadata tell of outputs only, and
        more can be joined, with the joined values for taps.
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
    if taps.tapped:
        # Not what is joined is compared, but what has a name: a value that is not is no answer.
        return replace(taps, unshown=tuple(_checks(replace(joined, unseen=()), own)))
    taps = replace(taps, unshown=tuple(_checks(joined, own)))
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


def _checks(joined: Joined, own: Artifacts) -> Iterator[CheckRecord]:
    """What no compared number shows; the layer in front, where the pipeline's own file has it."""
    layers: dict[str, str] = {}
    for op in own.program.ops:
        # A layer's value may be a view of what its nodes compute, and is shown by others behind it.
        layers.setdefault(root(own.graph, own.program.onnx_name(op.name)), op.module)
    for item in unshown(joined):
        layer = layers.get(root(own.graph, item.expected))
        reason = f"layer '{layer}': {item.words}" if layer else item.words
        yield CheckRecord(code=CHECK_UNSHOWN, verdict=item.status.value, reason=reason)


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
