"""The YAML of a matrix: its axes, which combinations exist, and what they need of a worker."""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from exporter.config.schema import Precision
from exporter.config.section import Many, Name, Section


def _is_release(text: str) -> str:
    try:
        Version(text)
    except InvalidVersion as error:
        raise ValueError(f"'{text}' is no release: write 1.30.0, 1.31.0rc1, '1.30'") from error
    return text


Value = str | int | float | bool
Release = Annotated[
    str, StringConstraints(pattern=r"^\d[\w.+!-]*$", max_length=60), AfterValidator(_is_release)
]
Patterns = dict[str, Many[Value]]
PIPELINE, CASE, LENGTH = "pipeline", "case", "length"
PIPELINE_KEYS = {
    "opset": "export.opset",
    "simplify": "export.simplify",
    "seed": "model.seed",
    "precision": "parity.precision",
}
"""Axes that are keys of the pipeline under a shorter name."""
RELEASES = ("onnxruntime", "torch", "onnxsim")
"""Axes of packages; a cell runs in an environment that has these versions."""
NO_AXES = {
    "name": "it is in the name of everything that is made",
    "cases": "use the axis 'case' or 'length'",
    "contracts": "a matrix checks none",
    "lengths": "a matrix proves none",
    "deploy": "use 'provider', 'level' and 'threads'",
    "model.factory": "code is found beside the file that names it; write one pipeline for each",
    "model.onnx": "a file alone has nothing of PyTorch to be held against",
}
"""Keys of a pipeline that 'set' does not take, and why."""
PROVIDER, OPTIONS, TF32 = "provider", "provider_options", "tf32"
RUN_AXES = ("onnxruntime", "provider", "provider_options", "level", "threads", CASE, LENGTH)
"""Axes that change how a file is run, and not the file."""


class Versions(Section):
    """A version axis that is refined where something moved."""

    values: Many[Release] = Field(min_length=1)
    between: Many[Release] = Field(
        default=(), description="releases that are only run to find where something moved"
    )

    @model_validator(mode="after")
    def _each_once(self) -> Versions:
        times = Counter(map(release_key, (*self.values, *self.between)))
        if twice := [str(release) for release, count in times.items() if count > 1]:
            raise ValueError(f"{twice[0]} is here twice; 1.30 and 1.30.0 are one release")
        return self


class Axes(Section):
    """Values of each axis; the product of them is the matrix."""

    onnxruntime: Versions | None = Field(
        default=None, description="releases, oldest first; none: the one that is installed"
    )
    torch: Versions | None = Field(default=None, description="releases that make the file")
    onnxsim: Versions | None = Field(default=None, description="releases that simplify the file")
    provider: Many[Literal["cpu", "cuda"]] = ()
    provider_options: dict[Name, dict[str, str | int | float | bool]] = Field(
        default_factory=dict,
        description="name of a set -> options of cuda, by onnxruntime's names, and 'tf32: true';"
        " the CPU takes a set without any",
    )
    level: Many[Literal["disable", "basic", "extended", "all"]] = ()
    threads: Many[Annotated[int, Field(ge=1, le=1024)]] = ()
    case: Many[Name] = Field(default=(), description="cases one by one; none: all in each cell")
    length: Many[Annotated[int, Field(ge=1)]] = Field(
        default=(), description="steps of 'length_of'; the default case, cut or repeated"
    )
    opset: Many[Annotated[int, Field(ge=18, le=23)]] = ()
    simplify: Many[bool] = ()
    seed: Many[Annotated[int, Field(ge=0)]] = Field(default=(), description="of seeded weights")
    precision: Many[Precision] = Field(
        default=(), description="parity.precision of the pipeline: its limits, not its file"
    )
    set: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.\w+)+$")], Many[Value]] = (
        Field(default_factory=dict, description="any key of the pipelines -> its values")
    )

    @field_validator("provider_options")
    @classmethod
    def _options_as_a_pipeline_has_them(cls, given: dict[str, Any]) -> dict[str, Any]:
        for name, options in given.items():
            if "use_tf32" in options:
                raise ValueError(f"'{name}': write 'tf32: true' instead of use_tf32")
            if not isinstance(options.get(TF32, False), bool):
                raise ValueError(f"'{name}': tf32 is true or false")
        return given

    @field_validator("set")
    @classmethod
    def _keys_of_the_file(cls, given: dict[str, Any]) -> dict[str, Any]:
        for key in given:
            refused = next((k for k in NO_AXES if f"{key}.".startswith(f"{k}.")), None)
            if refused is not None:
                raise ValueError(f"'{key}' is no axis: {NO_AXES[refused]}")
        return given

    @field_validator(*RELEASES, mode="before")
    @classmethod
    def _list_is_values(cls, given: Any) -> Any:
        return {"values": given} if isinstance(given, list) else given

    @model_validator(mode="after")
    def _one_choice_of_cases(self) -> Axes:
        if self.case and self.length:
            raise ValueError("give 'case' or 'length', not both: a length is a case")
        twice = [
            name for name, key in PIPELINE_KEYS.items() if getattr(self, name) and key in self.set
        ]
        if twice:
            raise ValueError(f"'{twice[0]}' and set: {PIPELINE_KEYS[twice[0]]} are one axis")
        return self

    def values(self) -> dict[str, tuple[Value, ...]]:
        """Axis -> its values, without those that have none."""
        plain = {
            name: tuple(getattr(self, name).values)
            for name in RELEASES
            if getattr(self, name) is not None
        }
        names = ("provider", "level", "threads", CASE, LENGTH, *PIPELINE_KEYS)
        plain |= {name: tuple(getattr(self, name)) for name in names if getattr(self, name)}
        if self.provider_options:
            plain["provider_options"] = tuple(self.provider_options)
        return {**plain, **{name: tuple(values) for name, values in self.set.items()}}


class Constraint(Section):
    """Where ``when`` holds only some combinations exist; patterns are globs such as ``1.2*``."""

    when: Patterns = Field(min_length=1)
    only: Patterns = Field(default_factory=dict)
    never: bool = Field(default=False, description="true: there is no such combination")

    @field_validator("when", "only", mode="before")
    @classmethod
    def _one_is_a_list(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {
            key: values if isinstance(values, list) else [values] for key, values in given.items()
        }

    @model_validator(mode="after")
    def _says_something(self) -> Constraint:
        if bool(self.only) == self.never:
            raise ValueError("give 'only', or 'never: true'")
        return self

    def forbids(self, values: dict[str, Value]) -> bool:
        """Whether a combination is one that does not exist."""
        if not matches(self.when, values):
            return False
        return self.never or not matches(self.only, values)


class Needs(Section):
    """What a worker must have for cells of a kind."""

    when: Patterns = Field(min_length=1)
    needs: dict[Name, Annotated[int, Field(ge=1)]] = Field(min_length=1)

    _one_is_a_list = field_validator("when", mode="before")(Constraint._one_is_a_list.__func__)


class MatrixFile(Section):
    """A whole matrix as its file says it."""

    name: Name
    description: str = ""
    pipelines: Many[Annotated[str, StringConstraints(min_length=1)]] = Field(min_length=1)
    axes: Axes = Field(default_factory=Axes)
    length_of: str = Field(default="waveform", description="the input that 'length' is of")
    constraints: Many[Constraint] = ()
    resources: Many[Needs] = ()
    coverage: Literal["pairwise", "all"] = Field(
        default="pairwise",
        description="pairwise: every pair of values once, then what lies around failures",
    )
    memory_gib: float = Field(default=2.0, gt=0, description="what one cell takes at most")
    cell_timeout_s: float = Field(default=1800.0, gt=0)
    onnxruntime_package: Literal["onnxruntime", "onnxruntime-gpu"] = Field(
        default="onnxruntime", description="what is installed for the CPU; cuda takes the other"
    )

    @model_validator(mode="after")
    def _names_are_axes(self) -> MatrixFile:
        known = {PIPELINE, *self.axes.values()}
        for name, values in self.axes.values().items():
            if len(set(map(str, values))) != len(values):
                raise ValueError(f"axes: '{name}' has a value twice")
        patterns = [c.when for c in self.constraints] + [c.only for c in self.constraints]
        for glob in (*patterns, *(item.when for item in self.resources)):
            for key in glob:
                if key not in known:
                    raise ValueError(
                        f"constraints: '{key}' is no axis here; axes: {', '.join(sorted(known))}"
                    )
        return self


def matches(patterns: Patterns, values: dict[str, Value]) -> bool:
    """Whether every axis that is named has a value that one of its globs takes."""
    return all(
        any(fnmatchcase(text_of(values[axis]), text_of(glob)) for glob in globs)
        for axis, globs in patterns.items()
        if axis in values
    )


def text_of(value: Value) -> str:
    """A value as the YAML writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def release_key(release: str) -> Version:
    """What releases are ordered by: 1.31.0.dev1, 1.31.0rc1, 1.31.0, 1.31.0.post1 (PEP 440)."""
    return Version(release)
