"""The sections of a pipeline YAML as frozen records. Units stand in the names."""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict, StringConstraints, model_validator

T = TypeVar("T")
Many = Annotated[tuple[T, ...], Strict(False)]
"""A YAML list; its items stay strict."""
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$", max_length=80)]
Precision = Literal["float32", "float16", "bfloat16", "int8_weights"]
Dtype = Literal[
    "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"
]

DRAW_OPTIONS: dict[str, frozenset[str]] = {
    "normal": frozenset({"scale", "mean"}),
    "uniform": frozenset({"low", "high"}),
    "sine": frozenset({"frequency_hz", "scale", "sample_rate_hz"}),
    "square": frozenset({"frequency_hz", "scale", "sample_rate_hz"}),
    "silence": frozenset(),
    "constant": frozenset({"value"}),
    "click": frozenset({"scale"}),
    "integers": frozenset({"low", "high"}),
    "booleans": frozenset({"probability"}),
}


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


class Model(Section):
    """What is exported: a known model, or any module that a user's own callable builds."""

    kind: str | None = Field(None, description="a model that 'export-verify list' shows")
    factory: str | None = Field(
        None,
        description="package.module:callable that returns an nn.Module; needs --trust",
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$",
    )
    weights: str = Field(
        "seeded", min_length=1, description="'seeded', a checkpoint's path, or hub:ORG/NAME@REVISION"
    )
    seed: int = Field(0, ge=0, le=2**63 - 1, description="for seeded weights")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="the model's own; checked by its file in exporter/models"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Model:
        if (self.kind is None) == (self.factory is None):
            raise ValueError("give either 'kind' (a known model) or 'factory' (your own), not both")
        return self

    @model_validator(mode="before")
    @classmethod
    def _null_settings(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("settings"), dict):
            given = {key: value for key, value in data["settings"].items() if value is not None}
            return {**data, "settings": given}
        return data


class Vad(Section):
    """Speech segmentation inside the graph; names and defaults are silero-vad's."""

    kind: Literal["silero"] = "silero"
    threshold: float = Field(0.5, gt=0, lt=1, description="a frame at or above it is speech")
    negative_threshold: float | None = Field(
        None, gt=0, lt=1, description="a frame below it may end speech; null: threshold - 0.15"
    )
    min_speech_ms: float = Field(250, ge=0, description="shorter segments are dropped")
    min_silence_ms: float = Field(100, ge=0, description="silence that ends a segment")
    speech_pad_ms: float = Field(30, ge=0, description="added at both ends of a segment")
    max_segment_ms: float | None = Field(
        30000, ge=1, description="longer segments are cut into pieces of this length; null: never"
    )
    round_to_ms: bool = Field(True, description="floor starts and ends to whole milliseconds")

    @model_validator(mode="after")
    def _thresholds_in_order(self) -> Vad:
        if self.negative_threshold is not None and self.negative_threshold > self.threshold:
            raise ValueError(
                f"negative_threshold {self.negative_threshold} is above threshold {self.threshold}"
            )
        return self


class Features(Section):
    """Log mel features inside the graph, frames stacked to a low frame rate."""

    kind: Literal["kaldi_fbank"] = "kaldi_fbank"
    num_mels: int = Field(80, ge=1, le=512)
    frame_length_ms: float = Field(25, gt=0, le=1000)
    frame_shift_ms: float = Field(10, gt=0, le=1000)
    window: Literal["hamming", "hanning", "povey", "blackman", "rectangular"] = "hamming"
    lfr_m: int = Field(7, ge=1, le=100, description="frames that are stacked into one")
    lfr_n: int = Field(6, ge=1, le=100, description="frames from one stack to the next")


class AxisSize(Section):
    """A symbolic axis of a user's own model: its limits, and its size while tracing."""

    minimum: int = Field(1, ge=0)
    maximum: int | None = Field(None, ge=1)
    example: int | None = Field(None, ge=2, description="0 and 1 would be baked into the graph")

    @model_validator(mode="after")
    def _in_order(self) -> AxisSize:
        highest = self.maximum if self.maximum is not None else self.example
        if highest is not None and highest < self.minimum:
            raise ValueError(f"minimum {self.minimum} is above {highest}")
        if self.example is not None and self.maximum is not None and self.example > self.maximum:
            raise ValueError(f"example {self.example} is above maximum {self.maximum}")
        return self


class Draw(Section):
    """How fixed-seed values are drawn; the kinds are those of ``exporter.cases.draw``."""

    kind: Literal[
        "normal", "uniform", "sine", "square", "silence", "constant", "click", "integers", "booleans"
    ]
    seed: int = Field(0, ge=0)
    num_samples: int | None = Field(None, ge=0, description="short for shape: [num_samples]")
    shape: Many[Annotated[int, Field(ge=0)]] | None = None
    sizes: dict[str, Annotated[int, Field(ge=0)]] | None = Field(
        None, description="size of each symbolic axis of the input's shape"
    )
    scale: float | None = None
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    value: float | None = None
    frequency_hz: float | None = Field(None, gt=0)
    sample_rate_hz: float | None = Field(None, gt=0)
    probability: float | None = Field(None, ge=0, le=1)

    @property
    def options(self) -> dict[str, float]:
        """The options of this kind that the YAML gives."""
        given = {key: getattr(self, key) for key in sorted(DRAW_OPTIONS[self.kind])}
        return {key: value for key, value in given.items() if value is not None}

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Draw:
        every = frozenset().union(*DRAW_OPTIONS.values())
        wrong = sorted(
            key for key in every - DRAW_OPTIONS[self.kind] if getattr(self, key) is not None
        )
        if wrong:
            allowed = ", ".join(sorted(DRAW_OPTIONS[self.kind])) or "none"
            raise ValueError(f"kind '{self.kind}' has no option '{wrong[0]}' (its options: {allowed})")
        if sum(item is not None for item in (self.num_samples, self.shape, self.sizes)) > 1:
            raise ValueError("give only one of 'num_samples', 'shape' and 'sizes'")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        return self


class InputSpec(Section):
    """One named input of a user's own model."""

    dtype: Dtype
    shape: Many[int | str] = Field(description="sizes, and names for axes that vary")
    draw: Draw = Field(default_factory=lambda: Draw(kind="normal"))
    choices: dict[str, int] = Field(default_factory=dict, description="readable names of values")
    unit: str = ""

    @model_validator(mode="after")
    def _shape_is_possible(self) -> InputSpec:
        for size in self.shape:
            if isinstance(size, int) and size < 0:
                raise ValueError(f"a size of {size} is impossible; name the axis if it varies")
            if isinstance(size, str) and not size.isidentifier():
                raise ValueError(f"'{size}' is no name of an axis; use letters, digits and _")
        return self


class Export(Section):
    """How the ONNX file is made."""

    opset: int = Field(18, ge=18, le=23)
    simplify: bool = True
    external_data: bool = Field(False, description="weights beside the file; forced above 2 GB")


class Case(Section):
    """One set of golden inputs: a recording, or values drawn from a seed."""

    name: Name
    audio: Path | None = Field(None, strict=False, description="16 kHz mono recording")
    random: dict[str, Draw] | None = Field(None, min_length=1, description="one draw per input")
    inputs: dict[str, str | int | float | bool | Many[int | float | bool]] = Field(
        default_factory=dict, description="the other inputs, by value or by name of a choice"
    )
    expect_empty: Many[str] = Field((), description="outputs that have no elements on this case")

    @model_validator(mode="after")
    def _one_source(self) -> Case:
        if (self.audio is None) == (self.random is None):
            raise ValueError("give either 'audio' (a recording) or 'random' (seeded values), not both")
        return self


class Override(Section):
    """A wider or narrower limit for some taps; listed in every report."""

    taps: str = Field(min_length=1, description="glob over names of taps or module paths")
    factor: float = Field(gt=1)
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Parity(Section):
    """What counts as equal; the policy and its reasons are in exporter/parity/tolerance.py."""

    factor: float | None = Field(
        None, gt=1, description="times float32 PyTorch's own error; null: the policy's"
    )
    precision: Precision = "float32"
    overrides: Many[Override] = ()
    max_ambiguous: int = Field(0, ge=0, description="ambiguous outputs that still count as a pass")
