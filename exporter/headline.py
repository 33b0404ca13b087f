"""The one sentence at the top of a report."""

from __future__ import annotations

from exporter.parity.status import Status
from exporter.report.schema import CulpritRecord, LinkRecord


def headline(links: list[LinkRecord], culprits: list[CulpritRecord]) -> str:
    """One sentence: what is wrong and where, or what was shown."""
    if culprits:
        first = culprits[0]
        more = f" (and {len(culprits) - 1} more)" if len(culprits) > 1 else ""
        at = f" at {first.source}" if first.source else ""
        return f"{first.stage}: layer '{first.layer}', {first.op}{at}: {first.reason}{more}"
    for link in links:
        if link.verdict == Status.FAIL.value:
            return f"{link.name}: {link.reason}"
    for link in links:
        if link.verdict not in (Status.PASS.value, Status.EMPTY_AS_DECLARED.value):
            return f"{link.name}: {link.verdict}: {link.reason}"
    compared = next((link.compared for link in links if link.compared is not None), 0)
    return f"all {len(links)} links agree; {compared} layers' values compared one by one"
