"""Names in braces, as a shell has them: one line of a pipeline for all layers of a cache.

    past.{0..3}.{keys,values}    past.0.keys, past.0.values, past.1.keys ... past.3.values

They stand where inputs and outputs are named: ``inputs``, ``outputs``, ``states`` (on both sides),
``lengths``, and ``random``, ``inputs`` and ``expect_empty`` of a case. What is drawn for each has a
seed of its own, counted from the one that is given: equal values would hide exchanged inputs. All
that follows sees names without braces, at the line of the name that had them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

from exporter.config.problems import Problem
from exporter.config.yaml_tree import Keys, Place, dotted

MOST_NAMES = 4096
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,6})\.\.(\d{1,6})")
_REMEDY = "write for example past.{0..3}.{keys,values}"


def names_in(pattern: str) -> list[str]:
    """All names that a name with braces stands for; the name itself where it has none.

    Raises:
        ValueError: braces that are neither a range nor a list, or too many names.
    """
    texts = _BRACES.split(pattern)
    if len(texts) == 1:
        if "{" in pattern or "}" in pattern:
            raise ValueError(f"'{pattern}' has a brace without its other half")
        return [pattern]
    choices = [[part] if at % 2 == 0 else _choices(part) for at, part in enumerate(texts)]
    count = 1
    for each in choices:
        count *= len(each)
    if count > MOST_NAMES:
        raise ValueError(f"'{pattern}' stands for {count} names; at most {MOST_NAMES} are possible")
    return ["".join(parts) for parts in itertools.product(*choices)]


def _choices(inside: str) -> list[str]:
    ends = _RANGE.fullmatch(inside.strip())
    if ends is not None and int(ends[1]) <= int(ends[2]):
        return [str(number) for number in range(int(ends[1]), int(ends[2]) + 1)]
    words = [word.strip() for word in inside.split(",")]
    if ends is not None or len(words) < 2 or not all(words):
        raise ValueError(f"'{{{inside}}}' is neither a range nor a list of names")
    return words


class Braces:
    """A pipeline's content and places, with every name written out.

    Attributes:
        content: of the pipeline. places: of its keys. problems: braces that say nothing.
    """

    def __init__(self, content: Mapping[str, Any], places: Mapping[Keys, Place]):
        self.content: dict[str, Any] = dict(content)
        self.places = dict(places)
        self.problems: list[Problem] = []
        for section in ("inputs", "states", "lengths", "outputs"):
            self._write_out(self.content, section, (section,))
        cases = content.get("cases")
        if isinstance(cases, list):
            self.content["cases"] = [self._case(n, case) for n, case in enumerate(cases)]

    def _case(self, number: int, case: Any) -> Any:
        if not isinstance(case, dict):
            return case
        written = dict(case)
        for section in ("random", "inputs", "expect_empty"):
            self._write_out(written, section, ("cases", number, section))
        return written

    def _write_out(self, holder: dict[str, Any], section: str, keys: Keys) -> None:
        value = holder.get(section)
        if isinstance(value, list):
            holder[section] = self._list(value, keys)
        elif isinstance(value, dict):
            holder[section] = self._mapping(value, keys)

    def _list(self, items: list[Any], keys: Keys) -> list[Any]:
        names: list[Any] = []
        moved: list[tuple[Keys, Keys]] = []
        for at, name in enumerate(items):
            written = self._names(name, (*keys, at)) if isinstance(name, str) else [name]
            moved += [((*keys, at), (*keys, len(names) + n)) for n in range(len(written))]
            names += written
        if len(names) != len(items):
            self._move(moved)
        return names

    def _mapping(self, mapping: dict[Any, Any], keys: Keys) -> dict[Any, Any]:
        written: dict[Any, Any] = {}
        moved: list[tuple[Keys, Keys]] = []
        for key, value in mapping.items():
            names = self._names(key, (*keys, key)) if isinstance(key, str) else [key]
            for number, name in enumerate(names):
                if name in written:
                    self._complain((*keys, key), f"'{name}' is named twice", "name it once")
                written[name] = value if names == [key] else _of_its_own(value, number)
                moved += [] if name == key else [((*keys, key), (*keys, name))]
            if keys == ("states",) and isinstance(value, str):
                written |= self._taken(key, names, value)
        self._move(moved)
        return written

    def _taken(self, key: str, names: list[str], value: str) -> dict[str, str]:
        """The input that takes each of several outputs."""
        inputs = self._names(value, ("states", key))
        if len(inputs) != len(names):
            text = f"{len(names)} outputs are handed on to {len(inputs)} inputs"
            self._complain(("states", key), text, "write the same braces on both sides")
            return {}
        return dict(zip(names, inputs, strict=True))

    def _names(self, text: str, keys: Keys) -> list[str]:
        try:
            return names_in(text)
        except ValueError as error:
            self._complain(keys, str(error), _REMEDY)
            return [text]

    def _move(self, moved: list[tuple[Keys, Keys]]) -> None:
        """Let keys that were written out stand at the line of what they were written out of."""
        old = {before for before, _ in moved}
        kept = {k: p for k, p in self.places.items() if not any(k[: len(o)] == o for o in old)}
        for before, after in moved:
            for keys, place in self.places.items():
                if keys[: len(before)] == before:
                    kept[(*after, *keys[len(before) :])] = place
        self.places = kept

    def _complain(self, keys: Keys, text: str, remedy: str) -> None:
        known = (keys[:end] for end in range(len(keys), -1, -1) if keys[:end] in self.places)
        place = self.places[next(known)]
        where = f"{place.file}:{place.line}: {dotted(keys)}"
        self.problems.append(Problem(where=where, problem=text, remedy=remedy))


def _of_its_own(value: Any, number: int) -> Any:
    """What is said of one of several names: as of all, with a seed of its own.

    A ``draw`` of an input that names no seed has one already.
    """
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("draw"), dict) and "seed" in value["draw"]:
        return {**value, "draw": _counted(value["draw"], number)}
    return _counted(value, number) if "kind" in value else value


def _counted(drawn: dict[str, Any], number: int) -> dict[str, Any]:
    seed = drawn.get("seed", 0)
    whole = isinstance(seed, int) and not isinstance(seed, bool)
    return {**drawn, "seed": seed + number} if whole else drawn
