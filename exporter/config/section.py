"""What all sections of a pipeline YAML have in common."""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Strict, StringConstraints, model_validator

T = TypeVar("T")
Many = Annotated[tuple[T, ...], Strict(False)]
"""A YAML list; its items stay strict."""
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$", max_length=80)]
"""A name that is also a good file name."""


class Section(BaseModel):
    """Base of all sections: unknown keys and values of another type are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        """``key: null`` gives a key its default, except where ``None`` is itself a value."""
        if not isinstance(data, dict):
            return data
        return {
            key: value
            for key, value in data.items()
            if value is not None or key not in cls.model_fields or takes_none(cls, key)
        }


def takes_none(section: type[BaseModel], key: str) -> bool:
    """Tell whether ``None`` is a value of a field."""
    annotation = section.model_fields[key].annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return type(None) in typing.get_args(annotation)
    return annotation is Any
