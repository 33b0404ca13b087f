"""Sections of a pipeline YAML as frozen records. Units stand in the names."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from exporter.config.section import Many, Section

Precision = Literal["float32", "float16", "bfloat16", "int8_weights", "int4_weights"]


CALLABLE = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"
"""``package.module:name``"""


class Model(Section):
    """What is exported: a known model, or any module that a user's own callable builds."""

    kind: str | None = Field(default=None, description="a model that 'export-verify list' shows")
    factory: str | None = Field(
        default=None,
        description="package.module:callable that returns an nn.Module; needs --trust",
        pattern=CALLABLE,
    )
    method: str = Field(
        default="forward",
        description="which method of the factory's module is called: encode, decode ...",
        pattern=r"^[A-Za-z_]\w*$",
        exclude_if=lambda name: name == "forward",  # digests without it stay what they were
    )
    weights: str = Field(
        default="seeded",
        min_length=1,
        description="'seeded', 'package' (the upstream package's own), a checkpoint's path, or "
        "hub:ORG/NAME@REVISION",
    )
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="for seeded weights")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="the model's own; checked by its file in exporter/models"
    )
    onnx: str | None = Field(
        default=None,
        min_length=1,
        description="an ONNX file alone, whoever made it: nothing of PyTorch is at hand",
        exclude_if=lambda path: path is None,
    )
    names: dict[str, str] = Field(
        default_factory=dict,
        description="of an ONNX file: name here -> name of the input or output in the file",
        exclude_if=lambda names: not names,
    )

    @model_validator(mode="after")
    def _one_source(self) -> Model:
        if sum(source is not None for source in (self.kind, self.factory, self.onnx)) != 1:
            raise ValueError(
                "give either 'kind' (a known model) or 'factory' (your own), not both; or 'onnx',"
                " a file alone"
            )
        if self.names and self.onnx is None:
            raise ValueError("'names' are those of an ONNX file: give 'onnx'")
        if len(set(self.names.values())) != len(self.names):
            raise ValueError("names: two names stand for one of the file's")
        if self.factory is None and self.method != "forward":
            raise ValueError("'method' is for a model of your own, built by a 'factory'")
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
    threshold: float = Field(
        default=0.5, gt=0, lt=1, description="a frame at or above it is speech"
    )
    negative_threshold: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="a frame below it may end speech; null: threshold - 0.15",
    )
    min_speech_ms: float = Field(default=250, ge=0, description="shorter segments are dropped")
    min_silence_ms: float = Field(default=100, ge=0, description="silence that ends a segment")
    speech_pad_ms: float = Field(default=30, ge=0, description="added at both ends of a segment")
    max_segment_ms: float | None = Field(
        default=30000,
        ge=1,
        description="longer segments are cut into pieces of this length; null: never",
    )
    round_to_ms: bool = Field(
        default=True, description="floor starts and ends to whole milliseconds"
    )

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
    num_mels: int = Field(default=80, ge=1, le=512)
    frame_length_ms: float = Field(default=25, gt=0, le=1000)
    frame_shift_ms: float = Field(default=10, gt=0, le=1000)
    window: Literal["hamming", "hanning", "povey", "blackman", "rectangular"] = "hamming"
    lfr_m: int = Field(default=7, ge=1, le=100, description="frames that are stacked into one")
    lfr_n: int = Field(default=6, ge=1, le=100, description="frames from one stack to the next")


RepairName = Literal[
    "python_sizes",
    "packed_sequence",
    "size_numbers",
    "tried_calls",
    "length_regulator",
    "cif",
    "loops",
    "equal_parts",
    "grouped_products",
    "scripted",
    "complex_pairs",
    "padding_branches",
    "same_padding",
    "pooled_rows",
    "window_lengths",
]
"""The catalogue of ``exporter/graph/repairs``; a test holds both lists together."""


class Capture(Section):
    """How a user's own model is captured."""

    repairs: dict[RepairName, bool] = Field(
        default_factory=dict,
        description="false: this repair of a pattern that a trace cannot follow is left out; true:"
        " repairs are used from the first; docs/repairs.md",
    )
    fallback: Literal["legacy", "none"] = Field(
        default="legacy",
        description="what is made where torch.export refuses the model: a file of torch's legacy"
        " exporter, said in every headline, or nothing; docs/repairs.md",
        exclude_if=lambda fallback: fallback == "legacy",  # digests without it stay what they were
    )

    @property
    def without(self) -> tuple[str, ...]:
        """Repairs that are switched off."""
        return tuple(name for name, wanted in self.repairs.items() if not wanted)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Repairs that are asked for, needed or not."""
        return tuple(name for name, wanted in self.repairs.items() if wanted)


class Export(Section):
    """How the ONNX file is made."""

    opset: int = Field(default=18, ge=18, le=23)
    simplify: bool = True
    external_data: bool = Field(
        default=False, description="weights beside the file; forced above 2 GB"
    )
    custom_translation: dict[
        Annotated[str, StringConstraints(pattern=r"^\w+(::|\.)\w+(\.\w+)?$")],
        Annotated[str, StringConstraints(pattern=CALLABLE)],
    ] = Field(
        default_factory=dict,
        description="op of torch (mine::snake) -> package.module:function that writes it in ONNX,"
        " as torch.onnx.export's custom_translation_table; needs --trust",
        exclude_if=lambda table: not table,  # digests without it stay what they were
    )


class Deployed(Section):
    """One way in which the shipped file is run when it is judged as deployed."""

    provider: Literal["cpu", "cuda"] | None = Field(
        default=None, description="null: what --provider says, else all that the machine has"
    )
    level: Literal["disable", "basic", "extended", "all"] = Field(
        default="all", description="graph optimisation level of onnxruntime"
    )
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="of the CPU; null: what --threads says"
    )
    tf32: bool = Field(default=False, description="cuda: float32 products with 10 bits of mantissa")
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="further options of the provider, by onnxruntime's names"
    )

    @model_validator(mode="after")
    def _options_are_of_a_device(self) -> Deployed:
        if self.provider != "cuda" and (self.tf32 or self.options):
            word = "tf32" if self.tf32 else "options"
            raise ValueError(f"{word}: only of 'provider: cuda'")
        if "use_tf32" in self.options:
            raise ValueError("options: write 'tf32: true' instead of use_tf32")
        return self


MOST_FACTOR = 64.0
"""Largest factor that needs no reason: a weight rounded to float16 or a bias element set to zero
is still more than four times beyond its limit (figures in exporter/parity/tolerance.py)."""
LARGEST_FACTOR = 4096.0
"""Largest factor at all: with it, values may be off by a seven-hundredth of what they are."""

Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Override(Section):
    """A wider or narrower limit for some taps; listed in every report, counted in its headline."""

    taps: str = Field(min_length=1, description="glob over names of taps or module paths")
    factor: float = Field(gt=1, le=LARGEST_FACTOR)
    reason: Reason


LoweredTo = Literal["int8", "int8_static", "int4", "float16", "mixed"]
"""What ``lower`` writes; the engines are in ``exporter/execution/quantisers.py``."""


class Lowering(Section):
    """In which precision the file is shipped, as ``lower`` has found it or a user wants it."""

    to: LoweredTo = Field(
        default="int8",
        description="int8: weights, activations as they come; int8_static: QDQ, calibrated on the"
        " cases; int4: weights in blocks of four bits; mixed: four bits or eight",
    )
    keep_float32: Many[str] | None = Field(
        default=None,
        description="layers that stay in float32, by module, tap or node; null: 'lower' chooses",
    )
    eight_bits: Many[str] = Field(
        default=(),
        description="mixed: layers in eight bits; all others are in four",
        exclude_if=lambda names: not names,
    )


class Parity(Section):
    """What counts as equal; the policy and its reasons are in exporter/parity/tolerance.py."""

    factor: float | None = Field(
        default=None,
        gt=1,
        le=LARGEST_FACTOR,
        description="times float32 PyTorch's own error; null: the policy's",
    )
    reason: Reason | None = Field(
        default=None, description=f"why, of a factor above {MOST_FACTOR:g}; in every headline"
    )
    precision: Precision = "float32"
    overrides: Many[Override] = ()
    kernel_loss: Literal["finding", "fail"] = Field(
        default="finding",
        description="a value inside whose kernel loses digits while the same nodes are right in"
        " float64; finding: it fails only where a decision or an output leaves its limit",
    )
    max_ambiguous: int = Field(
        default=0,
        ge=0,
        description="ambiguous outputs that still pass: each output of each case counts once",
    )

    @model_validator(mode="after")
    def _wide_factor_has_a_reason(self) -> Parity:
        if self.factor is not None and self.factor > MOST_FACTOR and self.reason is None:
            raise ValueError(
                f"factor: {self.factor:g} is above {MOST_FACTOR:g} and passes real faults:"
                " say why beside it (reason: ...), or give an override for the taps that need it"
            )
        return self
