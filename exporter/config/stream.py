"""``stream:`` of a case: the windows in which a model that runs while sound comes in is called."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from exporter.config.section import Many, Section

_Steps = Annotated[int, Field(ge=1)]
_Context = Annotated[int, Field(ge=0)]


class Stream(Section):
    """Windows along one axis, in its own steps (samples, frames); states go from call to call.

    ``window`` is ``left + hop + right``: two of ``window`` and ``hop`` may be left to the others.
    """

    window: _Steps | None = Field(
        default=None, description="what a call gets; null: left + hop + right"
    )
    hop: _Steps | None = Field(
        default=None, description="what is new in a call; null: window - left - right"
    )
    left: _Context = Field(default=0, description="steps before the new ones, given once more")
    right: _Context = Field(default=0, description="steps behind the new ones: lookahead")
    flush: Literal["zeros", "short", "drop"] = Field(
        default="zeros",
        description="how the last calls are filled: with zeros, not at all (they are shorter), or"
        " they are left out, and their steps with them",
    )
    start: Literal["zeros", "short"] = Field(
        default="zeros", description="left context of the first calls: zeros, or less of it"
    )
    first: _Steps | None = Field(
        default=None, description="what is new in the first call, where that is another number"
    )
    sizes: Many[_Steps] = Field(
        default=(), description="what is new, call by call, over and over, instead of 'hop'"
    )
    tail: _Context = Field(
        default=0, description="zeros behind the end that are streamed too, for what comes late"
    )
    least: _Steps = Field(
        default=1, description="steps without which nothing comes out: fewer make no call"
    )
    input: str | None = Field(default=None, description="what is cut; null: the first that varies")
    axis: str | _Context | None = Field(
        default=None, description="along which axis; null: the last one that varies"
    )
    total: _Steps | None = Field(
        default=None, description="steps of the whole, where it is drawn for an axis of fixed size"
    )
    position: str | None = Field(
        default=None, description="integer input that the steps of earlier calls are added to"
    )
    position_per: _Steps = Field(default=1, description="steps that count as one of 'position'")
    lengths: str | None = Field(
        default=None, description="integer input that takes how many steps a call gets"
    )
    at_end: dict[str, int] = Field(
        default_factory=dict, description="input -> its value in the last call; 0 in all others"
    )

    @model_validator(mode="before")
    @classmethod
    def _hop_of_a_window(cls, data: Any) -> Any:
        """A window without a hop: the hop is what its contexts leave."""
        if not isinstance(data, dict) or data.get("hop") is not None or data.get("sizes"):
            return data
        window, left, right = (data.get(key) or 0 for key in ("window", "left", "right"))
        if not all(isinstance(steps, int) for steps in (window, left, right)) or not window:
            return data
        return {**data, "hop": window - left - right} if window > left + right else data

    @model_validator(mode="after")
    def _fits_together(self) -> Stream:
        context = self.left + self.right
        if self.hop is None and not self.sizes:
            if self.window is not None:
                raise ValueError(
                    f"window {self.window} has nothing new beside left {self.left} and right"
                    f" {self.right}"
                )
            raise ValueError("give 'hop' (what is new in a call), 'window' or 'sizes'")
        if self.hop is not None and self.sizes:
            raise ValueError("give one of 'hop' and 'sizes'")
        if self.window is not None and self.sizes:
            raise ValueError("'window' has one size; leave it out beside 'sizes'")
        if self.window is not None and self.hop is not None and self.window != self.hop + context:
            raise ValueError(
                f"window {self.window} is not left {self.left} + hop {self.hop} + right"
                f" {self.right}; leave out one of them"
            )
        return self
