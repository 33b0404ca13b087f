"""What a replay says, for a person and for programs. Decides nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from exporter.report.golden_check import golden_json, golden_lines
from exporter.report.safe_text import printable

if TYPE_CHECKING:
    from exporter.monitor.replay import Replayed


def replay_lines(found: Replayed) -> list[str]:
    """Lines for a terminal."""
    seal = found.seal
    said = "intact" if seal.intact else "broken" if seal.changes else "the file has none"
    lines = [
        *golden_lines(found.outcome),
        f"  seal         {said} {seal.text[:12] if seal.intact else ''}".rstrip(),
        *(f"  changed: {change}" for change in seal.changes),
        f"  runs on      {found.provider}, onnxruntime {found.runtime}",
    ]
    return [printable(line) for line in lines]


def replay_json(found: Replayed) -> str:
    """All of it; the fields of 'golden check --format json' and the seal."""
    data = json.loads(golden_json(found.outcome))
    data |= {
        "exit_code": found.exit_code,
        "seal": {
            "digest": found.seal.text,
            "intact": found.seal.intact,
            "changes": list(found.seal.changes),
        },
        "provider": found.provider,
        "onnxruntime": found.runtime,
    }
    return json.dumps(data, indent=1, allow_nan=False)
