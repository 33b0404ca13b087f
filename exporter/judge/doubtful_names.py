"""Judge the layers of a file whose names may lie: one is believed as far as numbers bear it out.

Every name is taken at its word first. Where all values agree, that is the proof. Where some do
not, ``execution.misnamed_taps`` asks what they hold, and the layers are judged again with what it
found:

    a name holds another tap's value      judged as that tap, with that tap's limits; where that
                                          tap comes before it, only if all values right behind the
                                          name agree by themselves: else the op between is gone
    a name holds what no tap holds        left out, if all values right behind it agree by
                                          themselves; else it is judged as what it is called

Of a file that says where it comes from, only a name beside which a value is gone can be left out:
nothing else was rewritten there. Of bare names, every one can.

So a fault is never explained away by a name: what is wrong is wrong at the next value behind it.
"""

from __future__ import annotations

from collections.abc import Callable

from exporter.core.tensors import Case
from exporter.execution.deployment import Deployment
from exporter.execution.misnamed_taps import Neighbours, settle
from exporter.graph.index import GraphIndex
from exporter.graph.program import Program
from exporter.graph.taps import Joins, Names
from exporter.judge.layer_results import LayerLink
from exporter.judge.subject import Subject


def settle_names(
    subject: Subject,
    graph: GraphIndex,
    case: Case,
    link: LayerLink,
    judge: Callable[..., LayerLink],
    *,
    deployment: Deployment,
    budget: int,
) -> LayerLink:
    """Judge the layers of a file again with what its doubtful names are shown to hold.

    Args:
        graph: the file. case: on which names are asked what they hold.
        link: the layers with every name taken at its word. judge: judges them with other joins.
        deployment, budget: as for ``judge_layers``.
    """
    settled = settle(
        subject.program,
        graph,
        tuple(tap.planned for tap in link.taps),
        link.in_question,
        case.inputs,
        expected_taps=subject.expected_taps,
        deployment=deployment,
        budget=budget,
    )
    joins = Joins(names=settled.names, moved=settled.replaced)
    if joins:
        at_their_word, link = link, judge(joins=joins)
        wrong = _failing_behind(link, subject.program, _step_back(joins, at_their_word))
        if wrong:
            joins = _without(joins, wrong, at_their_word)
            link = judge(joins=joins)
    maybe = link.in_question - joins.moved
    if subject.names is Names.KEPT:
        maybe &= settled.doubtful
    # What is taken back after the first time can only make more values compared.
    while maybe:
        judged_again = judge(joins=Joins(names=joins.names, moved=joins.moved | maybe))
        refuted = _refuted(judged_again, subject.program, maybe)
        if not refuted:
            return judged_again
        maybe -= refuted
    return link


def _refuted(link: LayerLink, program: Program, moved: frozenset[str]) -> frozenset[str]:
    """Names left out behind which something fails by itself, or nothing is compared."""
    around = Neighbours(program, tuple(tap.planned for tap in link.taps))
    alone = {name for name in moved if not around.behind(name)}
    return _failing_behind(link, program, moved) | alone


def _failing_behind(link: LayerLink, program: Program, names: frozenset[str]) -> frozenset[str]:
    """Those of some names behind which a value fails by itself."""
    by_name = {tap.planned.tap.name: tap for tap in link.taps}
    around = Neighbours(program, tuple(tap.planned for tap in link.taps))
    return frozenset(
        name
        for name in names
        if any(by_name[other].fails_by_itself for other in around.behind(name))
    )


def _step_back(joins: Joins, link: LayerLink) -> frozenset[str]:
    """Names that hold the value of a tap in front of them, in the order of the program."""
    order = {tap.planned.tap.name: number for number, tap in enumerate(link.taps)}
    tap_of = {tap.planned.onnx_name: tap.planned.tap.name for tap in link.taps}
    return frozenset(
        tap_of[behind_name]
        for tap, behind_name in joins.names.items()
        if order[tap] < order[tap_of[behind_name]]
    )


def _without(joins: Joins, wrong: frozenset[str], link: LayerLink) -> Joins:
    """Joins in which some names are taken at their word again."""
    kept = {tap.planned.tap.name: tap.planned.onnx_name for tap in link.taps}
    back = {kept[name] for name in wrong}
    names = {
        tap: joined_name for tap, joined_name in joins.names.items() if joined_name not in back
    }
    return Joins(names=names, moved=joins.moved - wrong)
