"""Changes of plain values and of bytes, drawn from a seeded generator."""

from __future__ import annotations

import json
import math
from random import Random
from typing import Any

SIZES = (0, -1, 1, 2, 255, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, -(2**63) - 1, 10**30)
FLOATS = (0.0, -0.0, 0.5, -1.5, 1e-320, 1e30, 1e308, math.inf, -math.inf, math.nan)
TEXTS = (
    *("", " ", "\0", "a\0b", "x" * 5000, "/" * 300, "a/" * 3000, "~", "~nobody", "~nobody/x"),
    *("../../../../etc/passwd", "/dev/zero", "/proc/self/mem", "/dev/full", ".", "..", "fifo"),
    *("\ud800", "\u202e", "\x1b[31m", "nan", "inf", "1e30", "null", "true", "0", "-1", "é中"),
    *("%s%n", "{}", "$(id)", "*", "[", "(" * 200, "=cmd", "<script>", "aten.add.Tensor"),
    *("float32", "float64", "complex64", "bfloat16", "object", "V", "ref", "\\", "\n", "\r\n"),
)


def evil(draw: Random, depth: int = 0) -> Any:
    """A value that nobody expects."""
    kind = draw.randrange(9 if depth < 2 else 6)
    if kind == 0:
        return draw.choice((None, True, False))
    if kind == 1:
        return draw.choice(SIZES) * draw.choice((1, 1, -1))
    if kind == 2:
        return draw.choice(FLOATS)
    if kind in (3, 4):
        return draw.choice(TEXTS)
    if kind == 5:
        return draw.choice(([], {}, [[]], [None], {"": None}, [0] * 2000, {"a": {"b": []}}))
    if kind == 6:
        return [evil(draw, depth + 1) for _ in range(draw.randrange(4))]
    if kind == 7:
        return {draw.choice(TEXTS): evil(draw, depth + 1) for _ in range(draw.randrange(3))}
    deep: Any = 0
    for _ in range(draw.choice((60, 300))):
        deep = [deep]
    return deep


def places(value: Any, keys: tuple = ()) -> list[tuple]:
    """Every place of a tree of plain values, the root excluded."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    found = []
    for key, inner in items:
        found.append((*keys, key))
        found += places(inner, (*keys, key))
    return found


def _even(draw: Random, value: Any) -> tuple:
    """A place; a long list is as likely as a short one."""
    keys: tuple = ()
    while True:
        inside = (
            list(value)
            if isinstance(value, dict)
            else range(len(value))
            if isinstance(value, list)
            else ()
        )
        if not inside or (keys and draw.random() < 0.2):
            return keys
        key = draw.choice(list(inside))
        keys, value = (*keys, key), value[key]


def changed_tree(draw: Random, tree: Any, *, deep: bool = False) -> Any:
    """A tree of plain values with one to three changes.

    Args:
        deep: every place is as likely; even steps seldom get to the bottom of a large tree.
    """
    tree = json.loads(json.dumps(tree))
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        keys = draw.choice(places(tree)) if deep and tree else _even(draw, tree)
        if not keys or draw.random() < 0.01:
            tree = evil(draw)
            continue
        holder = tree
        for key in keys[:-1]:
            holder = holder[key]
        _change(draw, holder, keys[-1])
    return tree


def _change(draw: Random, holder: Any, key: Any) -> None:
    kind = draw.randrange(10)
    old = holder[key]
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[draw.choice((*TEXTS, f"{key}x", str(key).upper()))] = holder.pop(key)
    elif kind == 2 and isinstance(holder, dict):
        holder[draw.choice(TEXTS)] = evil(draw)
    elif kind == 3:
        holder[key] = [old] if draw.random() < 0.5 else {"a": old}
    elif kind == 4 and isinstance(old, list | str) and old:
        holder[key] = old * draw.choice((2, 50)) if draw.random() < 0.5 else old[:-1]
    elif kind == 5 and isinstance(old, int | float):
        holder[key] = draw.choice((-old, old + 1, old * 1e6, float(old), str(old), old * 10**6))
    elif kind == 6:
        holder[key] = str(old)
    else:
        holder[key] = evil(draw)


def as_json(value: Any) -> str:
    """JSON, also of what is no JSON: NaN, lone surrogates."""
    return json.dumps(value, default=str)


def changed_bytes(draw: Random, data: bytes) -> bytes:
    """Bytes with some flipped, cut off, put in, taken out or written twice."""
    if not data:
        return draw.randbytes(8)
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8))):
        at = draw.randrange(len(found)) if found else 0
        # The beginning of a file is where its form stands.
        at = min(at, draw.randrange(200)) if draw.random() < 0.5 else at
        kind = draw.randrange(7)
        size = draw.choice((1, 2, 4, 8, 64))
        if kind < 2 and found:
            found[at] ^= 1 << draw.randrange(8)
        elif kind == 2:
            found[at : at + size] = draw.randbytes(size)
        elif kind == 3:
            found[at : at + size] = draw.choice((b"\xff", b"\0", b"\x7f")) * size
        elif kind == 4:
            del found[at : len(found) if draw.random() < 0.3 else at + size]
        elif kind == 5:
            found[at:at] = found[at : at + size * 4]
        else:
            found[at:at] = draw.randbytes(size)
    return bytes(found)
