"""A whole pipeline: sections that fit together, their place in the YAML, their digest."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PrivateAttr,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from exporter.config.inputs import Audio, AxisSize, Case, InputSpec
from exporter.config.schema import Capture, Deployed, Export, Features, Lowering, Model, Parity, Vad
from exporter.config.section import Many, Name, Section
from exporter.config.yaml_tree import Keys, Place, where_of
from exporter.core.artifact import sha256_of
from exporter.core.tensors import Axis

GRAPH_SECTIONS = (
    "model",
    "sample_rate_hz",
    "vad",
    "features",
    "axes",
    "inputs",
    "outputs",
    "capture",
    "export",
)
"""What decides the exported graph; the rest decides how it is judged."""


class Pipeline(Section):
    """One system: what is exported, on which inputs it is judged, and how strictly."""

    name: Name
    description: str = ""
    model: Model
    sample_rate_hz: int = Field(default=16000, ge=1000, le=384000)
    vad: Vad | None = Field(default=None, description="null: no VAD; the graph then takes a batch")
    features: Features | None = Field(default=None, description="null: the model takes no features")
    axes: dict[str, AxisSize] = Field(
        default_factory=dict, description="symbolic axes of a user's own model"
    )
    inputs: dict[str, InputSpec] = Field(
        default_factory=dict, description="named inputs of a user's own model, in order"
    )
    outputs: Many[Annotated[str, StringConstraints(min_length=1, max_length=200)]] = Field(
        min_length=1, description="outputs of the shipped graph, in order"
    )
    states: dict[str, str] = Field(
        default_factory=dict,
        description="output -> input that takes it in the next call; a known model has its own",
    )
    capture: Capture = Field(
        default_factory=Capture,
        # Digests stay what they were.
        exclude_if=lambda capture: not capture.without and capture.fallback == "legacy",
    )
    export: Export = Field(default_factory=Export)
    lengths: dict[str, Many[Annotated[int, Field(ge=1)]]] = Field(
        default_factory=dict, description="sizes of an input at which the export is proved"
    )
    cases: Many[Case] = Field(min_length=1)
    default_case: str = Field(description="the case of a run without --case")
    deploy: Many[Deployed] = Field(
        default=(Deployed(),),
        min_length=1,
        description="how the shipped file is run; all are judged",
    )
    parity: Parity = Field(default_factory=Parity)
    precision: Lowering | None = Field(
        default=None,
        description="what 'lower' writes; null: what its options say",
        exclude_if=lambda item: item is None,  # digests without it stay what they were
    )
    min_coverage: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of the taps with elements that must be compared, or fused into one that"
        " is; null: all of them in a run, not gated in a golden",
    )
    layers: Literal["required", "wanted"] | None = Field(
        default=None,
        description="wanted: outputs alone may pass where a file's values cannot be told apart;"
        " null: wanted for a file that 'verify' is given, unless min_coverage is set",
    )
    contracts: dict[str, dict[str, Any] | Literal[False] | None] = Field(
        default_factory=dict,
        description="properties to check, with their options; false: an inherited one is off",
    )
    required: bool = Field(default=True, description="false: 'not run' does not fail")

    _places: Mapping[Keys, Place] = PrivateAttr(default_factory=dict)
    _file: str = PrivateAttr(default="")
    _factory_folder: Path | None = PrivateAttr(default=None)
    _trusted: bool = PrivateAttr(default=False)
    _module: Any = PrivateAttr(default=None)

    @field_validator("deploy", mode="before")
    @classmethod
    def _levels_alone(cls, deploy: Any) -> Any:
        """``deploy: {levels: [all, basic]}`` is short for one deployment per level."""
        if isinstance(deploy, dict) and set(deploy) == {"levels"}:
            levels = deploy["levels"]
            return [{"level": level} for level in levels] if isinstance(levels, list) else levels
        return deploy

    @field_validator("contracts", mode="after")
    @classmethod
    def _without_switched_off(cls, contracts: dict[str, Any]) -> dict[str, Any]:
        return {name: options for name, options in contracts.items() if options is not False}

    @model_validator(mode="after")
    def _sections_fit(self) -> Pipeline:
        twice = [
            name for name, count in Counter(case.name for case in self.cases).items() if count > 1
        ]
        if twice:
            raise ValueError(f"cases: two cases are called '{twice[0]}'; names must be unique")
        if len(set(self.outputs)) != len(self.outputs):
            raise ValueError("outputs: an output is named twice")
        names = [case.name for case in self.cases]
        if self.default_case not in names:
            raise ValueError(
                f"default_case: there is no case '{self.default_case}'; cases: {', '.join(names)}"
            )
        if self.model.kind is None and not self.inputs:
            source = "factory" if self.model.onnx is None else "file"
            raise ValueError(f"inputs: a model with a '{source}' needs its named inputs here")
        if self.model.onnx is None:
            _check_names(self.outputs)
        unknown = set(self.model.names) - {*self.inputs, *self.outputs}
        if unknown:
            raise ValueError(f"model.names: no input or output is called '{min(unknown)}'")
        if self.export.custom_translation and self.model.factory is None:
            raise ValueError(
                "export.custom_translation: it is for a model of your own, built by a 'factory'"
            )
        unused = set(self.axes) - {size for spec in self.inputs.values() for size in spec.shape}
        if unused:
            raise ValueError(f"axes: no input has an axis '{min(unused, key=str)}'")
        return self

    @property
    def file(self) -> str:
        """The YAML as it was given; the name of a pipeline that no file holds."""
        return self._file or self.name

    def where(self, *keys: str | int) -> str:
        """Return ``file:line: key.path`` of a key, in the file that really sets it.

        A key that no file gives is placed at the nearest section around it.
        """
        return where_of(self._places, keys, self.file)

    def axis(self, name: str) -> Axis:
        """What is declared of a symbolic axis of a user's own model."""
        declared = self.axes.get(name)
        limits = {} if declared is None else declared.model_dump(exclude={"example"})
        return Axis(name=name, **limits)

    @property
    def switched_off_contracts(self) -> tuple[str, ...]:
        """Contracts that a file sets to ``false``."""
        named = {keys[1] for keys in self._places if len(keys) == 2 and keys[0] == "contracts"}
        return tuple(sorted(str(name) for name in named if name not in self.contracts))

    @property
    def trusted(self) -> bool:
        """True when the code that ``model.factory`` names may run."""
        return self._trusted

    @property
    def factory_folder(self) -> Path:
        """Folder of the file that sets ``model.factory``; its modules are found there first."""
        return self._factory_folder or Path.cwd()

    @property
    def module(self) -> Any:
        """The ``nn.Module`` itself, of a pipeline that was made for one; else None."""
        return self._module

    def with_module(self, module: Any) -> Pipeline:
        """The same pipeline for a module that is there: nothing is imported, no code is trusted."""
        copy = self.with_trust()
        copy._module = module
        return copy

    def with_trust(self) -> Pipeline:
        """Return the same pipeline, allowed to run its factory, as ``--trust`` does."""
        copy = self.model_copy()
        copy._trusted = True
        return copy

    def case(self, name: str) -> Case:
        """Return a case by name.

        Raises:
            KeyError: there is none of that name.
        """
        return {case.name: case for case in self.cases}[name]

    @property
    def file_alone(self) -> Path | None:
        """The ONNX file of a pipeline that has no PyTorch; None for one that has."""
        return None if self.model.onnx is None else Path(self.model.onnx)

    @property
    def digest(self) -> str:
        """sha256 over everything that the pipeline says; recordings count by their content."""
        return self.section_digest(*(set(type(self).model_fields) - {"description"}))

    @property
    def graph_digest(self) -> str:
        """sha256 over what decides the exported graph."""
        return self.section_digest(*GRAPH_SECTIONS)

    def section_digest(self, *names: str) -> str:
        """sha256 over some sections, whatever their order and the layout of the YAML.

        Defaults count like values that are written out, and paths do not count: a recording
        enters by its sha256, so that a clone in another folder has the same digest.
        """
        whole = self.model_dump(mode="json", include=set(names))
        for case, dumped in zip(self.cases, whole.get("cases", ()), strict="cases" in whole):
            if case.recording is not None:
                exists = case.recording.is_file()
                digest = sha256_of(case.recording) if exists else "missing"
                named = case.recorded_input
                dumped["audio"] = digest if named is None else {**dumped["audio"], "file": digest}
            for name, file in case.files.items():
                digest = sha256_of(file.file) if file.file.is_file() else "missing"
                dumped["inputs"][name] = {"file": digest, "key": file.key}
        if self.file_alone is not None and "model" in whole:
            exists = self.file_alone.is_file()
            whole["model"]["onnx"] = sha256_of(self.file_alone) if exists else "missing"
        text = json.dumps({name: whole[name] for name in sorted(whole)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def with_weights(self, weights: str) -> Pipeline:
        """Return the same pipeline with other weights, as ``--weights`` does."""
        return self.model_copy(update={"model": self.model.model_copy(update={"weights": weights})})

    def with_file(self, path: Path) -> Pipeline:
        """Return the same description of another ONNX file, as ``--onnx`` does."""
        model = self.model.model_copy(update={"onnx": str(path.resolve())})
        return self.model_copy(update={"model": model})

    def with_recording(self, name: str, audio: Path) -> Pipeline:
        """Return the pipeline with one more case; its other inputs are the default case's."""
        default = self.case(self.default_case)
        named = default.recorded_input
        source = audio if named is None else Audio(file=audio, input=named)
        case = Case(name=name, audio=source, inputs=default.inputs)
        return self.model_copy(update={"cases": (*self.cases, case)})


_NAME: TypeAdapter[str] = TypeAdapter(Name)


def _check_names(outputs: tuple[str, ...]) -> None:
    """What is exported here is called as files may be; a stranger's file calls it as it likes."""
    for name in outputs:
        try:
            _NAME.validate_python(name)
        except ValidationError as error:
            raise ValueError(
                f"outputs: '{name}' is no name: letters, digits, _ . - and no digit in front"
            ) from error


def bind(
    pipeline: Pipeline, *, file: str, places: Mapping[Keys, Place], folders: Mapping[str, Path]
) -> Pipeline:
    """Tell a pipeline which lines of which files, and of which folders, it came from."""
    pipeline._places = places
    pipeline._file = file
    place = places.get(("model", "factory"))
    if place is not None:
        pipeline._factory_folder = folders[place.file].resolve()
    return pipeline
