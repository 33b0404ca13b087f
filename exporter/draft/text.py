"""A pipeline as the text of a YAML file, with the reason of each part beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from exporter.config.yaml_text import on_one_line


def pipeline_text(
    content: Mapping[str, Any],
    *,
    said: Mapping[str, str],
    head: Sequence[str] = (),
    tail: Sequence[str] = (),
) -> str:
    """The YAML of a pipeline.

    Args:
        content: as ``pipeline_content`` gives it.
        said: reasons, by the dotted keys of what they stand beside ("axes.frames").
        head, tail: lines of comment before and after it.
    """
    lines = [_comment(line) for line in head]
    for key, value in content.items():
        if key in ("inputs", "axes", "contracts"):
            lines.append(f"{key}:")
            for name, item in value.items():
                reason = said.get(f"{key}.{name}")
                comment = f"  # {' '.join(reason.split())}" if reason else ""
                shown = "" if item is None else f" {on_one_line(item)}"
                lines.append(f"  {on_one_line(name)}:{shown}{comment}")
        elif key == "cases":
            lines.append("cases:")
            for case in value:
                lines += _case(case)
        elif key == "model":
            lines.append("model:")
            lines += [f"  {name}: {on_one_line(item)}" for name, item in value.items()]
        else:
            lines.append(f"{key}: {on_one_line(value)}")
    lines += [_comment(line) for line in tail]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    """One line, whatever a name of a file or a message holds: a second one would be YAML."""
    return f"# {' '.join(text.split())}".rstrip()


def _case(case: Mapping[str, Any]) -> list[str]:
    lines = [f"  - name: {on_one_line(case['name'])}"]
    for key in ("random", "inputs"):
        if case.get(key):
            lines.append(f"    {key}:")
            lines += [
                f"      {on_one_line(name)}: {on_one_line(draw)}"
                for name, draw in case[key].items()
            ]
    return lines
