"""Text that came from outside (a YAML, an ONNX file, a checkpoint), made safe to show; figures.

A name in an ONNX file may hold terminal escapes, markup, or characters that reverse the reading
order. It is shown with those spelled out, so that a reader sees what is really there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

# An underscore within a word is no emphasis, and names are full of them.
_MARKUP = re.compile(r"([\\`*\[\]|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
_START = re.compile(r"^(\d*)([-+#=.)])")
_REFERENCES = re.compile(r"(@(?=\w)|(?<!&)#(?=\d)|\bGH-(?=\d)|:(?=//)|www(?=\.)|:(?=[\w+-]+:))")
_CODE = re.compile(r"[&<>|`*\[\]\\~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
NOT_MEASURED = "-"


def printable(text: object) -> str:
    """``text`` on one line, every character that is not printable spelled out (``\\x1b``)."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def shorten(text: object, length: int) -> str:
    """Printable text of at most ``length`` characters; the middle goes, ends tell names apart."""
    shown = printable(text)
    if len(shown) <= length:
        return shown
    left = (length - 3) // 2
    return f"{shown[:left]}...{shown[len(shown) - (length - 3 - left) :]}"


def path_end(text: object, length: int) -> str:
    """The last ``length`` characters of a module path: its end tells layers apart."""
    shown = printable(text)
    return shown if len(shown) <= length else f"...{shown[3 - length :]}"


def markdown(text: object) -> str:
    """Text that GitHub's Markdown shows as it is, also within a table and within HTML blocks.

    A hostile name notifies nobody, links nowhere, and starts no list, quote, formula or emoji.
    """
    shown = printable(text).strip()
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("$", "&#36;")):
        shown = shown.replace(character, entity)
    shown = _MARKUP.sub(r"\\\1", shown)
    shown = _START.sub(r"\1\\\2", shown)
    # Mentions, references and addresses are looked for after Markdown has been rendered, where
    # a backslash is gone; an empty comment still stands between the two halves.
    return _REFERENCES.sub(r"\1<!-- -->", shown)


def code(text: object) -> str:
    """Text as code in a Markdown table: HTML's ``code``, which needs no counting of backticks.

    GitHub looks for no mentions, references or addresses within it.
    """
    return f"<code>{_CODE.sub(lambda match: f'&#{ord(match[0])};', printable(text))}</code>"


def short_op(op: str) -> str:
    """``aten.linear.default`` as ``linear``, where a column is narrow."""
    return op.removeprefix("aten.").removesuffix(".default")


def figure(value: float | None, digits: int = 2) -> str:
    """A figure in scientific notation; ``-`` when it was not measured, never 0."""
    if value is None:
        return NOT_MEASURED
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Inf" if value > 0 else "-Inf"
    if value == 0:
        return "0"
    if 1e-2 <= abs(value) < 1e4:
        return f"{value:.{digits + 1}g}"
    return f"{value:.{digits}e}"


def times(value: float | None) -> str:
    """A ratio for people: ``340x``, ``0.62x``, ``12,000x``; beyond 1 never shown as ``1x``."""
    if value is None or not math.isfinite(value):
        return figure(value)
    if abs(value) >= 1e6:
        return f"{value:.1e}x"
    if abs(value) >= 100:
        return f"{value:,.0f}x"
    for digits in range(2, 17):
        text = f"{value:.{digits}g}"
        if float(text) != 1 or value == 1:
            break
    return f"{text}x"


def cosine(value: float | None) -> str:
    """A cosine; near 1 as its distance from 1, where all its information is."""
    if value is None or not math.isfinite(value):
        return figure(value)
    gap = 1.0 - value
    return f"1 - {gap:.1e}" if 0 < gap < 1e-4 else f"{value:.6f}"


def seconds(value: float) -> str:
    """A duration: ``0.4 s``, ``55 s``, ``3 min 05 s``, ``1 h 02 min``."""
    if not math.isfinite(value):
        return figure(value)
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: int) -> str:
    """A size in bytes, decimal: ``936 MB``."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if abs(value) < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def counts(verdicts: Mapping[str, int]) -> str:
    """``58 pass, 2 ambiguous``."""
    return ", ".join(f"{count} {name}" for name, count in sorted(verdicts.items()))
