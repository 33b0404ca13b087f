"""A system: several pipelines that one driver calls, and how what comes out is judged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, Strict, model_validator

from exporter.config.driver import Driver, GraphName, called_graphs
from exporter.config.inputs import Case
from exporter.config.pipeline import Pipeline
from exporter.config.section import Many, Name, Section
from exporter.config.yaml_tree import Keys, Place, where_of

GRAPHS = "graphs"
"""The key that makes a YAML a system."""


class Text(Section):
    """How token ids become text."""

    tokenizer: Annotated[Path, Strict(False)] | None = Field(
        default=None,
        description="the checkpoint's own: tokenizer.json, a SentencePiece .model, or a list of"
        " tokens, one a line; null: the table that a graph's checkpoint brings, if any",
    )
    skip: Many[Annotated[int, Field(ge=0)]] = Field(
        default=(), description="ids that are no text: begin, end, language"
    )


class Waveforms(Section):
    """Outputs that are heard."""

    outputs: Many[str] = Field(min_length=1)
    sample_rate_hz: int = Field(default=16000, ge=1000, le=384000)
    min_si_sdr_db: float | None = Field(default=None, description="less than this fails")


class Embeddings(Section):
    """An output that stands for a speaker: its direction counts."""

    output: str
    min_cosine: float = Field(default=0.9999, gt=0, le=1, description="less than this fails")
    same: str = Field(
        default="speaker", description="tag of a manifest: equal values belong together"
    )
    max_flipped_pairs: int = Field(
        default=0, ge=0, description="pairs on the other side of the equal-error threshold"
    )


class Judged(Section):
    """What is made of the results, and what may differ."""

    max_token_error_rate: float = Field(
        default=0.0, ge=0, le=1, description="between PyTorch and ONNX, over all cases"
    )
    text: Text | None = None
    waveforms: Waveforms | None = None
    embeddings: Embeddings | None = None


class System(Section):
    """Several graphs under one driver, on which inputs, and how strictly."""

    name: Name
    description: str = ""
    graphs: dict[GraphName, Any] = Field(
        min_length=1,
        description="name -> a pipeline: the path of its YAML, or what such a file would say",
    )
    common: dict[str, Any] = Field(
        default_factory=dict, description="what all graphs say that are written here"
    )
    driver: Driver
    judge: Judged = Field(default_factory=Judged)
    cases: Many[Case] = Field(min_length=1)
    default_case: str = Field(description="the case of a run without --case")
    max_ambiguous: int = Field(default=0, ge=0, description="ambiguous results that still pass")

    _places: Mapping[Keys, Place] = PrivateAttr(default_factory=dict)
    _file: str = PrivateAttr(default="")
    _pipelines: Mapping[str, Pipeline] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _names_fit(self) -> System:
        names = [case.name for case in self.cases]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"cases: two cases are called '{twice}'; names must be unique")
        if self.default_case not in names:
            raise ValueError(
                f"default_case: there is no case '{self.default_case}'; cases: {', '.join(names)}"
            )
        called = called_graphs(self.driver)
        for name in called:
            if name not in self.graphs:
                known = ", ".join(self.graphs)
                raise ValueError(f"driver: there is no graph '{name}'; graphs: {known}")
        idle = [name for name in self.graphs if name not in called]
        if idle:
            raise ValueError(f"driver: it never calls the graph '{idle[0]}': name it, or drop it")
        for case in self.cases:
            if case.steps is not None or case.stream is not None:
                word = "steps" if case.steps is not None else "a stream"
                raise ValueError(f"cases: '{case.name}' has {word}; the driver makes the calls")
        return self

    @property
    def file(self) -> str:
        """The YAML as it was given."""
        return self._file or self.name

    @property
    def pipelines(self) -> Mapping[str, Pipeline]:
        """The pipeline of every graph, by the graph's name, in the order of the YAML."""
        return self._pipelines

    def where(self, *keys: str | int) -> str:
        """``file:line: key.path`` of a key, or of the nearest section around it."""
        return where_of(self._places, keys, self.file)

    def on_cases(self, pipeline: Pipeline) -> Pipeline:
        """``pipeline`` with the cases of the system in place of its own, at their lines."""
        update = {
            "name": self.name,
            "cases": self.cases,
            "default_case": self.default_case,
            "states": {},
        }
        copy = pipeline.model_copy(update=update)
        copy._places, copy._file = self._places, self._file
        return copy

    def with_pipelines(self, pipelines: Mapping[str, Pipeline]) -> System:
        """The same system with its graphs' pipelines."""
        copy = self.model_copy()
        copy._pipelines = dict(pipelines)
        return copy

    @property
    def digest(self) -> str:
        """sha256 over what decides the results: driver, judgement and every graph's pipeline."""
        said = {
            "driver": self.driver.model_dump(mode="json"),
            "judge": self.judge.model_dump(mode="json", exclude={"text"}),
            "graphs": {name: pipeline.digest for name, pipeline in self.pipelines.items()},
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def bind_system(
    system: System,
    *,
    file: str,
    places: Mapping[Keys, Place],
    pipelines: Mapping[str, Pipeline],
) -> System:
    """Tell a system which lines of which files it came from, and its graphs' pipelines."""
    system._places, system._file = places, file
    return system.with_pipelines(pipelines)
