"""What a record says of a change that somebody made to a file since it was exported."""

from __future__ import annotations

from pydantic import BaseModel, Field


class ChangeFields(BaseModel):
    """A difference of structure: does a rewriting explain it, and does it fail?"""

    explained: bool = Field(
        False, description="nodes beside it were rewritten as well, as an optimiser does"
    )
    accepted: bool = Field(False, description="the file was changed on purpose: numbers judge it")
