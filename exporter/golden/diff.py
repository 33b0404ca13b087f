"""What changed between two goldens: facts first, then outputs and layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from exporter.golden.judge_case import JudgedSketch, judge_output, judge_tap
from exporter.golden.values import Golden, GoldenCase


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerChange:
    """A tap whose recorded values differ; ``strain`` above 1 is more than the old limit."""

    tap: str
    module: str
    observed: float | None
    limit: float | None
    strain: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseDiff:
    """One case of both: outputs and layers beyond the old limits, in order."""

    case: str
    outputs: tuple[str, ...] = ()
    layers: tuple[LayerChange, ...] = ()
    within: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenDiff:
    """``facts`` are (what, old, new)."""

    facts: tuple[tuple[str, str, str], ...]
    cases: tuple[CaseDiff, ...]
    taps_added: tuple[str, ...]
    taps_removed: tuple[str, ...]

    @property
    def moved(self) -> bool:
        """True when an output or a layer is beyond the limits of the old golden."""
        structural = bool(self.taps_added or self.taps_removed)
        return structural or any(c.outputs or c.layers or c.note for c in self.cases)


def diff_goldens(old: Golden, new: Golden) -> GoldenDiff:
    """Compare two goldens; the limits are those of ``old``."""
    names = list(dict.fromkeys(case.name for case in (*old.cases, *new.cases)))
    before = [tap.tap.name for tap in old.taps]
    after = [tap.tap.name for tap in new.taps]
    return GoldenDiff(
        facts=tuple(_facts(old, new)),
        cases=tuple(_case(old, new, name) for name in names),
        taps_added=tuple(name for name in after if name not in set(before)),
        taps_removed=tuple(name for name in before if name not in set(after)),
    )


def _facts(old: Golden, new: Golden) -> list[tuple[str, str, str]]:
    sides = [
        {
            "pipeline": golden.pipeline,
            "pipeline digest": golden.pipeline_digest[:12],
            "graph digest": golden.graph_digest[:12],
            "weights": f"{golden.weights['source']} {str(golden.weights['digest'])[:12]}",
            "reason": golden.reason,
            "vouched for by": "PyTorch" if golden.vouched else "nobody: a file gave it",
            "tool": golden.tool_version,
            **_flat("environment", golden.environment),
            **_flat("run", golden.run),
            **_flat("policy", golden.judged.get("policy", {})),
        }
        for golden in (old, new)
    ]
    keys = dict.fromkeys([*sides[0], *sides[1]])
    rows = [(key, *(side.get(key, "absent") for side in sides)) for key in keys]
    return [(key, left, right) for key, left, right in rows if left != right]


def _flat(prefix: str, values: Mapping[str, Any]) -> dict[str, str]:
    return {f"{prefix} {name}": str(value) for name, value in values.items()}


def _case(old: Golden, new: Golden, name: str) -> CaseDiff:
    left, right = old.case(name), new.case(name)
    if left is None or right is None:
        return CaseDiff(case=name, note="added" if left is None else "removed")
    if left.inputs != right.inputs:
        return CaseDiff(case=name, note="other inputs")
    outputs = [output.name for output in left.outputs if not _same_output(output.name, left, right)]
    expected_of = {
        tap.tap.name: expected for tap, expected in zip(new.taps, right.taps, strict=True)
    }
    layers, within = [], 0
    for tap, expected in zip(old.taps, left.taps, strict=True):
        other = expected_of.get(tap.tap.name)
        if other is None or other.sketch.bits == expected.sketch.bits:
            continue
        judged: JudgedSketch = judge_tap(expected, other.sketch)
        if judged.strain <= 1:
            within += 1
            continue
        layers.append(
            LayerChange(
                tap=tap.tap.name,
                module=tap.tap.module,
                observed=judged.observed,
                limit=judged.limit,
                strain=judged.strain,
                reason=judged.reason,
            )
        )
    return CaseDiff(case=name, outputs=tuple(outputs), layers=tuple(layers), within=within)


def _same_output(name: str, left: GoldenCase, right: GoldenCase) -> bool:
    old, new = (next((o for o in c.outputs if o.name == name), None) for c in (left, right))
    if old is None or new is None or old.shape != new.shape or old.dtype != new.dtype:
        return False
    if old.values is None or new.values is None:
        return old.values is None and new.values is None
    return judge_output(old, {name: new.values}) is None
