"""What a replay says, for a person and for programs. Decides nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from exporter.report.golden_check import golden_json, golden_lines
from exporter.report.safe_text import printable

if TYPE_CHECKING:
    from exporter.monitor.replay import Replayed


def replay_lines(replayed: Replayed) -> list[str]:
    """Lines for a terminal."""
    seal = replayed.seal
    said = "intact" if seal.intact else "broken" if seal.changes else "the file has none"
    lines = [
        *golden_lines(replayed.outcome),
        f"  seal         {said} {seal.text[:12] if seal.intact else ''}".rstrip(),
        *(f"  changed: {change}" for change in seal.changes),
        f"  runs on      {replayed.provider}, onnxruntime {replayed.runtime}",
    ]
    return [printable(line) for line in lines]


def replay_json(replayed: Replayed) -> str:
    """All of it; the fields of 'golden check --format json' and the seal."""
    data = json.loads(golden_json(replayed.outcome))
    data |= {
        "exit_code": replayed.exit_code,
        "seal": {
            "digest": replayed.seal.text,
            "intact": replayed.seal.intact,
            "changes": list(replayed.seal.changes),
        },
        "provider": replayed.provider,
        "onnxruntime": replayed.runtime,
    }
    return json.dumps(data, indent=1, allow_nan=False)
