"""What goes into a graph: shapes of a user's own model, seeded draws, golden cases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, model_validator

from exporter.config.section import Many, Name, Section
from exporter.config.stream import Stream

Dtype = Literal[
    "float32",
    "float64",
    "float16",
    "bfloat16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
    "complex64",
    "complex128",
]
_PAIRS = {"complex64": "float32", "complex128": "float64"}
"""onnxruntime takes no complex numbers: they are given as pairs of reals."""

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


class AxisSize(Section):
    """A symbolic axis of a user's own model: its limits, and its size while tracing."""

    minimum: int = Field(default=1, ge=0)
    maximum: int | None = Field(default=None, ge=1)
    multiple_of: int = Field(
        default=1,
        ge=1,
        description="every size is a multiple of this",
        exclude_if=lambda step: step == 1,  # digests of pipelines without it stay what they were
    )
    example: int | None = Field(
        default=None, ge=2, description="0 and 1 would be baked into the graph"
    )

    @model_validator(mode="after")
    def _in_order(self) -> AxisSize:
        highest = self.maximum if self.maximum is not None else self.example
        if highest is not None and highest < self.minimum:
            raise ValueError(f"minimum {self.minimum} is above {highest}")
        if self.example is not None and self.example % self.multiple_of:
            raise ValueError(f"example {self.example} is no multiple of {self.multiple_of}")
        if self.maximum is not None and self.maximum < self.multiple_of:
            raise ValueError(f"no multiple of {self.multiple_of} is at most {self.maximum}")
        if self.example is not None and self.maximum is not None and self.example > self.maximum:
            raise ValueError(f"example {self.example} is above maximum {self.maximum}")
        return self


class Draw(Section):
    """How fixed-seed values are drawn; the kinds are those of ``exporter.cases.draw``."""

    kind: Literal[
        "normal",
        "uniform",
        "sine",
        "square",
        "silence",
        "constant",
        "click",
        "integers",
        "booleans",
    ]
    seed: int = Field(default=0, ge=0)
    num_samples: int | None = Field(
        default=None, ge=0, description="short for shape: [num_samples]"
    )
    shape: Many[Annotated[int, Field(ge=0)]] | None = None
    sizes: dict[str, Annotated[int, Field(ge=0)]] | None = Field(
        default=None, description="size of each symbolic axis of the input's shape"
    )
    scale: float | None = None
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    value: float | None = None
    frequency_hz: float | None = Field(default=None, gt=0)
    sample_rate_hz: float | None = Field(default=None, gt=0)
    probability: float | None = Field(default=None, ge=0, le=1)

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
            raise ValueError(
                f"kind '{self.kind}' has no option '{wrong[0]}' (its options: {allowed})"
            )
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
    pairs: bool = Field(
        default=False,
        description="the last axis, of 2, is a real and an imaginary part; what 'dtype: complex64'"
        " is short for: the model gets complex numbers",
        exclude_if=lambda pairs: not pairs,
    )

    @model_validator(mode="before")
    @classmethod
    def _complex_is_pairs(cls, data: Any) -> Any:
        """``dtype: complex64`` with a shape is that shape and an axis of two reals."""
        dtype = data.get("dtype") if isinstance(data, dict) else None
        if not isinstance(dtype, str) or dtype not in _PAIRS:
            return data
        shape = data.get("shape")
        shape = [*shape, 2] if isinstance(shape, list | tuple) else shape
        return {**data, "dtype": _PAIRS[dtype], "shape": shape, "pairs": True}

    @model_validator(mode="after")
    def _pairs_are_two_reals(self) -> InputSpec:
        if self.pairs and (not self.shape or self.shape[-1] != 2 or "float" not in self.dtype):
            raise ValueError("'pairs' are real numbers with a last axis of 2")
        return self

    @model_validator(mode="after")
    def _shape_is_possible(self) -> InputSpec:
        for size in self.shape:
            if isinstance(size, int) and size < 0:
                raise ValueError(f"a size of {size} is impossible; name the axis if it varies")
            if isinstance(size, str) and not size.isidentifier():
                raise ValueError(f"'{size}' is no name of an axis; use letters, digits and _")
        return self


class Steps(Section):
    """A case in several calls: its inputs are cut, and its state is handed from call to call."""

    count: int | None = Field(
        default=None,
        ge=1,
        description="calls after the first, which takes what is left; null: as many as fit",
    )
    size: int = Field(default=1, ge=1, description="what one call takes of the axis")
    input: str | None = Field(default=None, description="what is cut; null: the first that varies")
    axis: str | Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="along which axis; null: the last one that varies"
    )
    position: str | None = Field(
        default=None, description="integer input that what earlier calls took is added to"
    )


class Audio(Section):
    """A recording, and the input that takes it."""

    file: Path = Field(strict=False, description="a mono recording at the pipeline's sample rate")
    input: str = Field(description="the input of floats that takes its samples")
    resample: Literal["sinc"] | None = Field(
        default=None,
        description="how a recording at another rate comes to the pipeline's, outside of the graph:"
        " a windowed sinc, as torchaudio's; null: it is refused",
        exclude_if=lambda way: way is None,  # digests without it stay what they were
    )


class FileInput(Section):
    """A file that holds an input: an array, or a recording."""

    file: Path = Field(
        strict=False,
        description=".npy, .npz, .safetensors, a Kaldi .ark, or a mono .wav or .flac",
    )
    key: str | None = Field(
        default=None, description="which array, in a file that holds several", max_length=1000
    )


class Case(Section):
    """One set of golden inputs: a recording, values drawn from a seed, or files of arrays."""

    name: Name
    audio: Annotated[Path, Strict(False)] | Audio | None = Field(
        default=None,
        description="mono recording: a path, or {file: PATH, input: NAME of what takes it}",
    )
    random: dict[str, Draw] | None = Field(
        default=None, min_length=1, description="one draw per input"
    )
    inputs: dict[str, str | int | float | bool | Many[int | float | bool | str] | FileInput] = (
        Field(
            default_factory=dict,
            description="the other inputs, by value or by name of a choice; a list: one per row;"
            " {file: PATH, key: NAME}: from a file",
        )
    )
    expect_empty: Many[str] = Field(
        default=(), description="outputs that have no elements on this case"
    )
    steps: Annotated[int, Field(ge=1)] | Steps | None = Field(
        default=None, description="run it in several calls; a number: that many steps of 1"
    )
    stream: Stream | None = Field(
        default=None,
        description="run it in windows that may overlap, as a stream does",
        exclude_if=lambda stream: stream is None,  # digests without it stay what they were
    )

    @model_validator(mode="after")
    def _one_source(self) -> Case:
        neither = self.audio is None and self.random is None
        if (neither and not self.files) or (self.audio is not None and self.random is not None):
            raise ValueError(
                "give either 'audio' (a recording) or 'random' (seeded values), not both"
            )
        if self.steps is not None and self.stream is not None:
            raise ValueError("give 'steps' or 'stream', not both: each says how the case is cut")
        return self

    @property
    def files(self) -> dict[str, FileInput]:
        """The inputs that come from files, by name."""
        return {name: given for name, given in self.inputs.items() if isinstance(given, FileInput)}

    @property
    def recording(self) -> Path | None:
        """The recording of this case, if it has one."""
        return self.audio.file if isinstance(self.audio, Audio) else self.audio

    @property
    def resample(self) -> str | None:
        """How the recording is brought to the pipeline's sample rate; None: it has it."""
        return self.audio.resample if isinstance(self.audio, Audio) else None

    @property
    def recorded_input(self) -> str | None:
        """The input that the case says takes its recording; None: it is for the graph to say."""
        return self.audio.input if isinstance(self.audio, Audio) else None
