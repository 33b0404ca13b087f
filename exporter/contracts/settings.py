"""Options of contracts, validated before anything is built."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, ValidationError

from exporter.config import Pipeline
from exporter.config.section import Section
from exporter.core.errors import ConfigError

S = TypeVar("S", bound="ContractSettings")


def _in_words(text: str) -> str:
    if not any(letter.isalpha() for letter in text):
        raise ValueError("say in words why this is not checked")
    return text


Reason = Annotated[str, AfterValidator(_in_words)]
"""Why something is not checked: it stands in the report, so it has to be words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A word in the options that has to exist in the graph.

    Attributes:
        keys: where it stands, below the contract.
        kind: what it names.
    """

    keys: tuple[str, ...]
    name: str
    kind: Literal["input", "output", "axis"]


class ContractSettings(Section):
    """Base of the options of every contract."""

    required: bool = True
    """False: ``not run`` does not fail the run."""
    not_applicable: Reason | None = None
    """Why this contract means nothing for this pipeline; it is then not checked."""

    def names(self) -> Iterator[Named]:
        """What the options name in the graph; one that does not exist is an error."""
        for key in ("input", "axis"):
            if (name := getattr(self, key, None)) is not None:
                yield Named(keys=(key,), name=name, kind=key)  # type: ignore[arg-type]


def check_named(
    settings: ContractSettings,
    known: Mapping[str, Sequence[str]],
    *,
    name: str,
    pipeline: Pipeline | None = None,
) -> None:
    """Refuse options that name what is not there: what nothing reads checks nothing.

    Args:
        known: "input", "output" and "axis" -> the names that exist.
        name: of the contract. pipeline: for the place in error messages.

    Raises:
        ConfigError: the first such name.
    """
    for word in settings.names():
        if word.name in known[word.kind]:
            continue
        keys = ("contracts", name, *word.keys)
        near = difflib.get_close_matches(word.name, known[word.kind], 1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise ConfigError(
            f"contract '{name}' names the {word.kind} '{word.name}', which does not exist",
            where=pipeline.where(*keys) if pipeline is not None else ".".join(keys),
            remedy=f"{hint}known: {', '.join(known[word.kind]) or 'none'}",
        )


def read_settings(kind: type[S], options: Any, *, name: str, pipeline: Pipeline | None = None) -> S:
    """Validate the options of one contract.

    Args:
        kind: the contract's ``Settings``.
        options: mapping, or ``None`` for the defaults.
        pipeline: for the place in error messages.

    Raises:
        ConfigError: an unknown option or a value of another kind.
    """
    try:
        return kind.model_validate({} if options is None else options)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            keys = ("contracts", name, *(str(part) for part in item["loc"]))
            where = pipeline.where(*keys) if pipeline is not None else ".".join(keys)
            problems.append((where, item["msg"]))
        where, first = problems[0]
        more = "".join(f"; {place}: {text}" for place, text in problems[1:])
        raise ConfigError(
            f"contract '{name}': {first}{more}",
            where=where,
            remedy=f"options of '{name}': {', '.join(kind.model_fields)}",
        ) from error
