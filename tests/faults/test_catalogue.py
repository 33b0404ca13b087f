"""Every fault is found, in the right stage and layer, and nobody else is blamed."""

from __future__ import annotations

import pytest

from exporter.core.errors import StageError
from tests.faults.catalogue import GRAPH_FAULTS, MODULE_FAULTS
from tests.faults.fault import Fault, ModuleFault
from tests.faults.outcome import Outcome, judge_file
from tests.support.tiny_export import Export, export_tiny, read_export
from tests.support.tiny_run import TinyRun


@pytest.fixture(scope="module")
def clean(tiny_run: TinyRun) -> Export:
    return read_export(tiny_run.folder)


def names(fault: Fault | ModuleFault) -> str:
    return fault.name


def check(outcome: Outcome) -> None:
    assert outcome.detected
    assert outcome.wrongly_named == ()
    assert outcome.right_stage, outcome.named
    assert outcome.right_layer, outcome.named


def test_faults_have_names_and_sentences_of_their_own():
    faults = [*GRAPH_FAULTS, *MODULE_FAULTS]
    assert len(GRAPH_FAULTS) >= 25
    assert len({f.name for f in faults}) == len({f.what for f in faults}) == len(faults)
    assert all(fault.what and fault.layers for fault in faults)


@pytest.mark.slow
def test_a_clean_file_has_no_difference_and_no_culprit(clean: Export):
    outcome = judge_file(clean, clean.model)
    assert outcome.differences == () and outcome.named == ()
    assert not outcome.numerically
    assert outcome.link is not None and len(outcome.link.taps) > 300


@pytest.mark.slow
@pytest.mark.parametrize("fault", GRAPH_FAULTS, ids=names)
def test_a_fault_in_the_file_is_found_where_it_is(clean: Export, fault: Fault):
    outcome = judge_file(clean, fault.apply(clean.model, clean.program), fault)
    check(outcome)
    found = [d for d in outcome.differences if d.kind in fault.finding]
    texts = [" ".join((d.name, d.node, d.expected, d.actual)) for d in found]
    assert any(fault.detail in text for text in texts), outcome.differences


@pytest.mark.slow
@pytest.mark.parametrize("fault", [f for f in MODULE_FAULTS if not f.refused], ids=names)
def test_a_fault_in_the_module_is_found_where_it_is(clean: Export, fault: ModuleFault):
    check(judge_file(clean, export_tiny(fault.change).model, fault))


@pytest.mark.slow
@pytest.mark.parametrize("fault", [f for f in MODULE_FAULTS if f.refused], ids=names)
def test_a_module_that_cannot_be_right_is_not_exported(fault: ModuleFault):
    with pytest.raises(StageError) as caught:
        export_tiny(fault.change)
    check(Outcome(fault=fault, refusal=str(caught.value)))


@pytest.mark.slow
def test_two_faults_at_once_are_both_named(clean: Export):
    by_name = {fault.name: fault for fault in GRAPH_FAULTS}
    pair = by_name["cmvn_divides_by_variance"], by_name["softmax_over_queries"]
    model = clean.model
    for fault in pair:
        model = fault.apply(model, clean.program)
    outcome = judge_file(clean, model)
    assert set(outcome.named) == {layer for fault in pair for layer in fault.layers}
