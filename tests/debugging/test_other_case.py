"""A case that the finished run did not have: nothing is known of it, so it is looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from exporter.core.stages import Stages
from exporter.debugging.debug_layers import take_apart
from exporter.debugging.pair import Pair
from exporter.report.progress import Progress
from tests.debugging.conftest import Tamper, indexed


def _taken_apart(pair: Pair, bundles: Path) -> tuple[str, ...]:
    progress: Stages = Progress(quiet=True)
    found = take_apart(
        pair, layer=None, all_culprits=False, bundles=bundles, budget=1 << 30, progress=progress
    )
    return tuple(diagnosis.layer.name for diagnosis in found.diagnoses)


def test_a_wrong_layer_is_found_on_a_case_that_the_run_did_not_have(
    pair: Pair, tamper: Tamper, tmp_path: Path
):
    wrong = indexed(tamper("relu_removed"), pair)
    known = replace(pair, expected=wrong, actual=wrong)
    assert known.own and not known.report.culprits
    # What the run had, it judged: its report names nobody.
    assert _taken_apart(known, tmp_path) == ()
    other = replace(known, report=known.report.model_copy(update={"cases": []}))
    assert len(_taken_apart(other, tmp_path)) == 1
    # A healthy file has no such layer on that case either.
    healthy = replace(pair, report=pair.report.model_copy(update={"cases": []}))
    assert _taken_apart(healthy, tmp_path) == ()
