"""Which output of a file goes back into which input: proposed from names and shapes.

    stateN -> state     hn -> h     new_cached_key_0 -> cached_key_0     present.0.key -> past.0.key

A proposal needs a name: a denoiser gives as many samples as it takes, and is no state.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exporter.joining.interface_inputs import Input

_WORDS = re.compile(
    r"(state|cache|hidden|memor|context|carry|recurr|lstm|gru|rnn|past|^[hc](\d*|[nx0]|_.*)$|^buf)",
    re.I,
)
_MARKS = re.compile(r"(^|[._/])(new|next|out|output|in|input|updated|present|past|prev)(?=[._/]|$)")
_ENDS = re.compile(r"([._]?(out|in|next|new|prev)|(?<=[a-z])N|(?<=^[hc])[nx0])$")


@dataclass(frozen=True, slots=True)
class StatePair:
    """An input that takes an output of the call before, and why that is believed."""

    input: str
    output: str
    why: str


def propose_states(
    inputs: Sequence[Input], outputs: Mapping[str, tuple[str, tuple[int | str, ...]]]
) -> list[StatePair]:
    """Pairs of an input and an output, each used once.

    Args:
        outputs: name -> dtype and declared shape.
    """
    pairs: list[StatePair] = []
    free = dict(outputs)
    for item in inputs:
        able = [
            name
            for name, (dtype, shape) in free.items()
            if dtype == item.dtype.name and item.shape and _may_be(item.shape, shape)
        ]
        same = [name for name in able if stem_of(name) == stem_of(item.name) != ""]
        named = bool(_WORDS.search(item.name))
        worded = [name for name in able if _WORDS.search(name)]
        if len(same) == 1:
            choice, why = same[0], "their names are one but for in, out, new or next"
        elif named and len(worded) == 1:
            choice, why = worded[0], "both are called as a state is, and no other output fits"
        else:
            continue
        # 'x' and 'x_out' of a plain model have one stem as well.
        if not (named or _WORDS.search(choice)):
            continue
        pairs.append(StatePair(item.name, choice, f"{why}; same type and sizes"))
        del free[choice]
    return pairs


def stem_of(name: str) -> str:
    """A name without what says whether it goes in or comes out."""
    bare = _MARKS.sub(r"\1", name.split(":")[0])
    bare = _ENDS.sub("", bare)
    return re.sub(r"[._/]+", "_", bare).strip("_").lower()


def _may_be(left: Sequence[int | str], right: Sequence[int | str]) -> bool:
    if not right:
        return True  # the file does not say
    return len(left) == len(right) and all(
        a == b or isinstance(a, str) or isinstance(b, str) for a, b in zip(left, right, strict=True)
    )
