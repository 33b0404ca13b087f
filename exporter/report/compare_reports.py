"""What is another thing in one report than in an earlier one of the same pipeline.

Verdicts are compared by severity, figures by their strain (error over limit). Nothing is judged
again: what a report says is taken as it says it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from exporter.parity.status import holds, severity
from exporter.report.safe_text import figure
from exporter.report.schema import Report

_MOVED = 2.0
"""A strain that is this many times what it was is worth a line."""
_QUIET = 0.05
"""Strains below are far from any limit: what moves there says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportChange:
    """One thing that differs.

    Attributes:
        kind: facts, verdict, link, output, layer, contract. name: of the thing.
        before, after: in words; "" where a report does not have it.
        worse: it held before, and does not now.
    """

    kind: str
    name: str
    before: str
    after: str
    worse: bool = False


def two_pipelines(old: Report, new: Report) -> str:
    """In words, that the reports are of two different pipelines; "" when they are of one.

    A pipeline is its name; one that was given another name is the same as long as its content is.
    """
    names = old.pipeline.name, new.pipeline.name
    if names[0] == names[1] or old.pipeline.graph_digest == new.pipeline.graph_digest:
        return ""
    return f"these are reports of two pipelines, '{names[0]}' and '{names[1]}'"


def changes(old: Report, new: Report) -> tuple[ReportChange, ...]:
    """All differences from ``old`` to ``new``, those of facts first."""
    return (*_facts(old, new), *_verdicts(old, new), *_strains(old, new))


def _facts(old: Report, new: Report) -> Iterator[ReportChange]:
    pairs = {
        "pipeline": (old.pipeline.name, new.pipeline.name),
        "pipeline's content": (old.pipeline.digest[:12], new.pipeline.digest[:12]),
        "weights": (old.pipeline.weights.digest[:12], new.pipeline.weights.digest[:12]),
        "factor": (f"{old.policy.factor:g}", f"{new.policy.factor:g}"),
        "precision": (old.policy.precision, new.policy.precision),
        "export-verify": (old.tool_version, new.tool_version),
        "python": (old.environment.python, new.environment.python),
        "platform": (old.environment.platform, new.environment.platform),
        "threads": (str(old.environment.threads), str(new.environment.threads)),
    }
    before, after = old.environment.versions, new.environment.versions
    pairs |= {name: (before.get(name, ""), after.get(name, "")) for name in {**before, **after}}
    artifacts = {item.name: item for item in old.artifacts}
    for item in new.artifacts:
        if item.name in artifacts:
            pairs[item.name] = (artifacts[item.name].sha256[:12], item.sha256[:12])
    for name, (was, now) in pairs.items():
        if was != now:
            yield ReportChange(kind="facts", name=name, before=was, after=now)


def _verdicts(old: Report, new: Report) -> Iterator[ReportChange]:
    yield from _moved("verdict", {"": (old.verdict, True)}, {"": (new.verdict, True)})
    needed = new.policy.required
    yield from _moved(
        "link",
        {record.name: (record.verdict, needed) for record in old.links},
        {record.name: (record.verdict, needed) for record in new.links},
    )
    yield from _moved("output", _outputs(old), _outputs(new))
    yield from _moved("layer", _layers(old), _layers(new))
    yield from _moved(
        "contract",
        {
            f"{record.name} ({record.side})": (record.verdict, record.required)
            for record in old.contracts
        },
        {
            f"{record.name} ({record.side})": (record.verdict, record.required)
            for record in new.contracts
        },
    )


Verdicts = Mapping[str, tuple[str, bool]]
"""Name -> verdict, and whether it is required."""


def _moved(kind: str, before: Verdicts, after: Verdicts) -> Iterator[ReportChange]:
    for name in dict.fromkeys([*before, *after]):
        was, now = before.get(name), after.get(name)
        if (was and was[0]) == (now and now[0]):
            continue
        if now is None:
            # What nobody looks at any more does not hold, as what was not run does not.
            worse = was is not None and holds(was[0], required=was[1])
        else:
            bad = not holds(now[0], required=now[1])
            worse = bad and (was is None or severity(now[0]) > severity(was[0]))
        yield ReportChange(
            kind=kind,
            name=name,
            before=was[0] if was else "",
            after=now[0] if now else "",
            worse=worse,
        )


def _outputs(report: Report) -> dict[str, tuple[str, bool]]:
    return {
        f"{output.name} of {output.link}, case {output.case}": (output.verdict.verdict, True)
        for output in report.outputs
    }


def _layers(report: Report) -> dict[str, tuple[str, bool]]:
    """Layers that were compared; of several links the worst."""
    layers: dict[str, tuple[str, bool]] = {}
    for link in report.links:
        for layer in link.layers:
            verdict_needed = (layer.verdict, report.policy.required)
            known = layers.get(layer.module)
            if known is None or severity(verdict_needed[0]) > severity(known[0]):
                layers[layer.module] = verdict_needed
    return layers


def _strains(old: Report, new: Report) -> Iterator[ReportChange]:
    """Layers whose own error came much nearer to its limit, or went away from it."""
    before, after = _worst(old), _worst(new)
    moved = [
        (name, before[name], after[name])
        for name in before
        if name in after and _is_moved(before[name], after[name])
    ]
    moved.sort(key=lambda item: item[2], reverse=True)
    for name, was, now in moved:
        yield ReportChange(
            kind="error over limit",
            name=name or "(root)",
            before=figure(was),
            after=figure(now),
        )


def _is_moved(was: float, now: float) -> bool:
    if max(was, now) < _QUIET or math.isnan(was) or math.isnan(now):
        return False
    low, high = sorted((was, now))
    return low == 0 or high / low >= _MOVED


def _worst(report: Report) -> dict[str, float]:
    worst: dict[str, float] = {}
    for link in report.links:
        for layer in link.layers:
            if layer.worst_local_strain is not None:
                known = worst.get(layer.module, 0.0)
                worst[layer.module] = max(known, layer.worst_local_strain)
    return worst


def lines_of(differing: Iterable[ReportChange], most: int = 12) -> list[str]:
    """What a terminal shows: by kind, the first ``most`` of each."""
    kinds: dict[str, list[ReportChange]] = {}
    for change in differing:
        kinds.setdefault(change.kind, []).append(change)
    lines: list[str] = []
    for kind, of_kind in kinds.items():
        of_kind = sorted(of_kind, key=lambda change: not change.worse)
        lines.append(kind)
        for change in of_kind[:most]:
            mark = "!" if change.worse else " "
            both = f"{change.before or '(none)'} -> {change.after or '(none)'}"
            lines.append(f" {mark} {change.name}: {both}" if change.name else f" {mark} {both}")
        if len(of_kind) > most:
            lines.append(f"   and {len(of_kind) - most} more")
    return lines
