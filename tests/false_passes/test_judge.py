"""``judge`` with wider limits: what failed for another reason than a distance stays failed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.flows.judge import rejudge
from exporter.parity.status import is_good
from exporter.report.beside import replaced
from exporter.report.comparison import StructureRecord
from exporter.report.headline import headline_of
from exporter.report.overall_verdict import decided
from exporter.report.schema import (
    CHECK_OTHER,
    CHECK_STRUCTURE,
    CheckRecord,
    ContractRecord,
    GoldenRecord,
    Report,
    StoppedRecord,
)
from tests.false_passes.way import Told, way
from tests.test_rejudge import figures, saved

WIDE = 60.0
"""A factor with which every distance of these reports passes."""


def told(report: Report) -> Told:
    return Told(exit_code=report.exit_code, text=f"{report.verdict}: {report.headline}")


def whole(report: Report) -> Report:
    """The report with the verdict and the headline that a run gives it."""

    return decided(report.model_copy(update={"headline": headline_of(report)}))


def passing(**changes: Any) -> Report:
    """A report that passes but for ``changes``, as a run writes it."""
    return whole(saved(layer=1.0).model_copy(update=changes))


def difference() -> StructureRecord:
    return StructureRecord(
        kind="attribute", node="norm", name="epsilon", expected="1e-05", actual="1e-06"
    )


def structure_check() -> CheckRecord:
    return CheckRecord(code=CHECK_STRUCTURE, verdict="fail", reason="1 difference of structure")


@way("a report that failed by structure alone is judged again", says="epsilon")
def test_structure_alone():
    return told(
        rejudge(
            passing(
                structure=[difference()],
                checks=[structure_check()],
            )
        )
    )


@way("structure that differs is judged with a wider factor", says="epsilon")
def test_structure_with_a_wider_factor():
    before = whole(
        saved(4.0, layer=6.0).model_copy(
            update={"structure": [difference()], "checks": [structure_check()]}
        )
    )
    after = rejudge(before, factor=WIDE)
    assert all(is_good(link.verdict) for link in after.links)
    return told(after)


@way("a report of an older version that failed by structure has no record of it", says="epsilon")
def test_structure_of_an_older_report():
    before = saved(4.0, layer=6.0).model_copy(update={"structure": [difference()]})
    return told(rejudge(before, factor=WIDE))


@way("a file was replaced while it was judged, and its report is judged again", says="not the file")
def test_file_that_was_replaced_while_it_was_judged():
    before = replaced(passing(), "model.onnx is not the file that was judged: it was changed")
    return told(rejudge(before, factor=WIDE))


@way("a contract with required: false failed", says="padding")
def test_failed_contract_that_is_not_required():
    contract = ContractRecord(
        name="padding", side="onnx", verdict="fail", reason="rows differ", required=False
    )
    return told(rejudge(passing(contracts=[contract]), factor=WIDE))


@way("a contract that is required was not run", says="not run")
def test_contract_that_was_not_run():
    contract = ContractRecord(name="padding", side="onnx", verdict="not run", reason="no batch")
    return told(rejudge(passing(contracts=[contract]), factor=WIDE))


@way("a stage had stopped, and judge looks at the links alone", says="fail")
def test_stopped_stage():
    record = StoppedRecord(stage="simplify", detail="onnxsim lost an output")
    before = passing(stopped=record)
    return told(rejudge(before, factor=WIDE))


@way("a link failed for a guard, its outputs agree", says="a guard")
def test_link_that_failed_for_a_guard():
    before = saved(layer=1.0)
    link = before.links[1].model_copy(update={"verdict": "fail", "reason": "a guard was broken"})
    before = whole(before.model_copy(update={"links": [before.links[0], link]}))
    return told(rejudge(before, factor=WIDE))


@way("the layer walk failed for what none of its taps shows", says="guard")
def test_layer_link_that_failed_for_another_reason():
    before = saved(layer=1.0)
    link = before.links[0].model_copy(update={"verdict": "fail", "reason": "a guard of the walk"})
    before = whole(before.model_copy(update={"links": [link, before.links[1]]}))
    return told(rejudge(before, factor=WIDE))


@way("a file that lost a tap is judged with a wider factor", says="taps")
def test_lost_taps():
    before = saved(4.0, layer=6.0)
    link = before.links[0].model_copy(update={"compared": 1, "missing": 1, "coverage": 0.5})
    before = whole(before.model_copy(update={"links": [link, before.links[1]]}))
    return told(rejudge(before, factor=WIDE))


@way("report.json is edited to say pass", says="fail")
def test_verdict_written_by_hand():
    before = saved(4.0, layer=6.0).model_copy(update={"verdict": "pass", "exit_code": 0})
    return told(rejudge(before))


@way("report.json is edited to exit with 0", says="fail")
def test_exit_code_written_by_hand():
    return told(rejudge(passing(checks=[structure_check()]).model_copy(update={"exit_code": 0})))


@way("a golden had moved", says="fail")
def test_golden_that_moved():
    golden = GoldenRecord(case="english", state="moved", verdict="fail", moved=["logits"])
    return told(rejudge(passing(golden=[golden]), factor=WIDE))


@way("a hundred outputs of one link are ambiguous, the cap is one", says="ambiguous")
def test_ambiguous_outputs_above_the_cap():
    before = saved(layer=1.0)
    (output,) = before.outputs
    unsure = output.verdict.model_copy(update={"verdict": "ambiguous", "strain": None})
    outputs = [
        output.model_copy(update={"case": f"case {number}", "verdict": unsure})
        for number in range(100)
    ]
    link = before.links[1].model_copy(update={"verdict": "ambiguous", "reason": "margins"})
    before = whole(
        before.model_copy(
            update={
                "outputs": outputs,
                "links": [before.links[0], link],
                "policy": before.policy.model_copy(update={"max_ambiguous": 1}),
            }
        )
    )
    return told(rejudge(before, factor=WIDE))


@way("a verdict is a word that this version does not know", says="fail")
def test_unknown_verdict():
    contract = ContractRecord(name="padding", side="onnx", verdict="splendid")
    return told(rejudge(passing(contracts=[contract]), factor=WIDE))


@way("an output holds NaN", says="simplified -> deployed")
def test_nan():
    return told(
        rejudge(whole(saved(layer=1.0, output=figures("logits", 1.0, damage=np.nan))), factor=WIDE)
    )


@way("a value failed against a limit that the saved policy does not give", says="fail")
def test_value_that_failed_against_another_limit():
    before = saved(4.0, layer=1.0)
    verdict = before.outputs[0].verdict.model_copy(
        update={"verdict": "fail", "strain": 3.0, "reason": "beyond the limit of its node"}
    )
    link = before.links[1].model_copy(update={"verdict": "fail", "reason": verdict.reason})
    output = before.outputs[0].model_copy(update={"verdict": verdict})
    before = before.model_copy(update={"links": [before.links[0], link], "outputs": [output]})
    return told(rejudge(whole(before), factor=WIDE))


@way("the verdict rests on what no part of the report holds", says="fail")
def test_failure_that_nothing_explains():
    before = saved(layer=1.0).model_copy(update={"verdict": "fail", "exit_code": 1})
    return told(rejudge(before, factor=WIDE))


OTHER = {
    "structure": lambda: {"structure": [difference()], "checks": [structure_check()]},
    "older structure": lambda: {"structure": [difference()]},
    "check": lambda: {"checks": [CheckRecord(code=CHECK_OTHER, verdict="fail", reason="other")]},
    "not run": lambda: {"checks": [CheckRecord(code=CHECK_OTHER, verdict="not run")]},
    "contract": lambda: {
        "contracts": [ContractRecord(name="shapes", side="onnx", verdict="fail", required=False)]
    },
    "golden": lambda: {"golden": [GoldenRecord(case="a", state="moved", verdict="fail")]},
    "stopped": lambda: {"stopped": StoppedRecord(stage="export", detail="refused")},
}
"""Parts that fail a report, which no limit moves."""


@settings(max_examples=60, deadline=None)
@given(
    own=st.sampled_from([2.0, 4.0, 8.0]),
    factor=st.sampled_from([1.5, 4.0, 16.0, WIDE]),
    layer=st.sampled_from([1.0, 6.0, 20.0]),
    free=st.sampled_from([1.0, 6.0]),
    parts=st.sets(st.sampled_from(sorted(OTHER))),
    broken=st.booleans(),
)
def test_nothing_that_limits_cannot_move_becomes_a_pass(own, factor, layer, free, parts, broken):
    before = saved(own, layer=layer, free=free)
    for name in sorted(parts):
        before = before.model_copy(update=OTHER[name]())
    if broken:
        link = before.links[1].model_copy(update={"verdict": "fail", "reason": "a guard"})
        before = before.model_copy(update={"links": [before.links[0], link]})
    before = whole(before)
    same = rejudge(before)
    assert (same.verdict, same.exit_code, same.headline) == (
        before.verdict,
        before.exit_code,
        before.headline,
    )
    after = rejudge(before, factor=factor)
    assert (after.exit_code == 0) is (after.verdict == "pass")
    if parts or broken:
        assert after.exit_code == 1
    else:
        assert (after.exit_code == 0) is (max(layer, free) <= factor)


@pytest.mark.parametrize("factor", [None, WIDE])
def test_the_healthy_twin_passes(factor):
    assert rejudge(passing(), factor=factor).exit_code == 0
    assert rejudge(saved(4.0, layer=6.0), factor=WIDE).exit_code == 0
