"""The table of ``scripts/zoo.py``: results of all models as a page of Markdown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from statistics import median
from typing import Any

_OUTCOMES = (
    "pass", "right", "fail", "ambiguous", "not run", "refused", "time is up", "crash", "wrong file"
)  # fmt: skip


def outcome(row: Mapping[str, Any]) -> str:
    """One word for what we made of a model."""
    held = row.get("ours", {})
    if held.get("status") == "pass" and held["elsewhere"]["wrong"]:
        return "wrong file"
    return held.get("status", "not run")


def plain_outcome(row: Mapping[str, Any]) -> str:
    """The same for plain export: "right", "wrong file", "refused"."""
    held = row.get("plain", {})
    if held.get("status") == "file":
        return "wrong file" if held["elsewhere"]["wrong"] else "right"
    return held.get("status", "not run")


def page(rows: list[dict[str, Any]]) -> str:
    """The table as Markdown."""
    ours_ = Counter(outcome(row) for row in rows)
    plain_ = Counter(plain_outcome(row) for row in rows)
    ratios = [
        row["ours"]["seconds"] / row["plain"]["seconds"]
        for row in rows
        if row.get("plain", {}).get("seconds") and row["ours"].get("seconds")
    ]
    lines = [
        "# The zoo",
        "",
        "Real model classes, tiny, with random weights, in `pipelines/zoo`: one YAML for each, one",
        "file of factories for each package. `python scripts/zoo.py --write docs/zoo.md` makes",
        "this page. *Right* is judged by a check that knows nothing of this program: the file is",
        "run at other sizes and held against the module (limit 0.001 of the largest value).",
        "",
        "| | " + " | ".join(str(key) for key in ("export-verify", "plain, dynamo")) + " |",
        "|---|--:|--:|",
    ]
    lines += [
        f"| {key} | {ours_[key] or ''} | {plain_[key] or ''} |"
        for key in _OUTCOMES
        if ours_[key] or plain_[key]
    ]
    if ratios:
        lines += [
            "",
            f"Wall time over plain export, onnxsim and one comparison: median {median(ratios):.2f}",
        ]
    lines += [
        "",
        "| model | ours | values | what was found or changed | plain | time |",
        "|---|---|--:|---|---|--:|",
    ]
    for row in rows:
        held, other = row.get("ours", {}), row.get("plain", {})
        said = "; ".join(held.get("notes", ())) if held.get("status") == "pass" else ""
        said = said or ("" if held.get("status") == "pass" else held.get("why", ""))
        ratio = ""
        if held.get("seconds") and other.get("seconds"):
            ratio = f"{held['seconds'] / other['seconds']:.1f}"
        lines.append(
            f"| {row['name']} | {outcome(row)} | {held.get('compared') or ''} | {_cell(said)}"
            f" | {plain_outcome(row)} | {ratio} |"
        )
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    text = re.sub(r"\S*/(?:site-packages|pipelines/zoo)/", "", text)
    return text.replace("|", "/").replace("\n", " ")[:300]
