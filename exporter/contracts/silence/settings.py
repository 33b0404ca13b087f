"""Options of the silence contract."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from exporter.config.section import Many
from exporter.contracts.settings import ContractSettings, Named

SignalName = Literal["silence", "constant", "square", "click", "faint", "nan", "inf", "empty"]


class Settings(ContractSettings):
    """Options.

    Attributes:
        signals: which to try; all by default.
        expect: signal -> output -> "empty" (no elements) or "zero" (all 0).
        non_finite: "agree": whatever comes out, both sides give it, and other rows stay clean;
            "report": the same, but what the sides give is reported and not compared;
            "finite": NaN and Inf in give finite values out; "skip": not looked at.
        steady: what a signal gives of which nothing but rounding is left (a constant without its
            mean) is the same in float32, in float64 and in ONNX ("agree"), or it is only said
            ("report"): for features that take the logarithm of what is left, as Kaldi's do.
        full_scale: what 1.0 is for the square wave, the constant and the click.
        input, axis: which input the signals go into; guessed when not given.
    """

    signals: Annotated[Many[SignalName], Field(min_length=1)] = get_args(SignalName)
    expect: dict[SignalName, dict[str, Literal["empty", "zero"]]] = Field(default_factory=dict)
    non_finite: Literal["agree", "report", "finite", "skip"] = "agree"
    steady: Literal["agree", "report"] = "agree"
    full_scale: float = 1.0
    input: str | None = None
    axis: str | None = None

    @model_validator(mode="after")
    def _expected_signals_are_tried(self) -> Settings:
        for name in self.expect:
            if name not in self.signals:
                raise ValueError(f"'expect' names the signal '{name}', which is not tried")
        return self

    def names(self) -> Iterator[Named]:
        for signal, wanted in self.expect.items():
            for output in wanted:
                yield Named(keys=("expect", signal, output), name=output, kind="output")
        yield from super().names()
