"""Contracts of an ONNX file of which nobody has the module."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from exporter.cases.defaults import default_array, example_sizes
from exporter.cases.load import choose_cases, load_cases
from exporter.config import Pipeline
from exporter.config.run_options import RunOptions
from exporter.contracts import ContractResult
from exporter.contracts.file_alone import (
    FileModule,
    check_file_alone,
    file_specs,
    target_of_file,
)
from exporter.contracts.settings import ContractSettings
from exporter.core.errors import ConfigError
from exporter.core.stages import Stages
from exporter.core.tensors import Case, TensorSpec
from exporter.execution.deployment import Deployment
from exporter.execution.trial import try_file
from exporter.graph.certificate import needs_trial
from exporter.graph.index import GraphIndex
from exporter.graph.onnx_file import open_graph
from exporter.models.factory import input_specs

Specs = tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAlone:
    """A file alone, opened: what it takes and gives at several sizes was seen by running it.

    Attributes:
        inputs: as the YAML has them. specs: as contracts see them, and outputs.
    """

    path: Path
    graph: GraphIndex
    module: FileModule
    inputs: tuple[TensorSpec, ...]
    specs: Specs


def open_file_alone(pipeline: Pipeline, threads: int = 0) -> FileAlone:
    """Open the file of a pipeline that is nothing else.

    Raises:
        ConfigError: the YAML names inputs or outputs that the file has not, or leaves one out.
        ArtifactError: the file cannot be read, or onnxruntime refuses it.
        ModelError: it does not run at the sizes that the YAML says.
    """
    path = pipeline.file_alone
    if path is None:
        raise ValueError("the pipeline has no file of its own")
    graph = open_graph(path)
    _check_interface(pipeline, graph)
    if needs_trial(path):
        try_file(path, [Deployment(threads=threads)], [_first_case(pipeline)])
    module = FileModule(
        path, graph, tuple(pipeline.inputs), pipeline.outputs, pipeline.model.names, threads
    )
    return FileAlone(
        path=path,
        graph=graph,
        module=module,
        inputs=input_specs(pipeline),
        specs=file_specs(pipeline, module),
    )


def check_file(
    pipeline: Pipeline,
    options: RunOptions,
    settings: Mapping[str, ContractSettings],
    progress: Stages,
    thorough: bool,
) -> list[ContractResult]:
    """Check contracts on a file alone; every one that was asked for has a result."""
    deployment = Deployment(threads=options.threads or 0)
    with progress.stage("open the file") as stage:
        opened = open_file_alone(pipeline, deployment.threads)
        stage.result(f"{len(opened.graph.nodes)} nodes")
    cases = load_cases(pipeline, opened.inputs, choose_cases(pipeline, options.cases))
    target = target_of_file(
        pipeline,
        opened.graph,
        opened.module,
        opened.specs,
        cases,
        deployment=deployment,
        thorough=thorough,
    )
    results: list[ContractResult] = []
    for name, wanted in settings.items():
        with progress.stage(name) as stage:
            results_here = check_file_alone(target, name, wanted, pipeline)
            stage.result(", ".join(str(item.status) for item in results_here))
        results += results_here
    return results


def _first_case(pipeline: Pipeline) -> Case:
    """Inputs as the YAML draws them, under the file's names."""
    sizes = example_sizes(pipeline)
    inputs = {
        pipeline.model.names.get(name, name): default_array(pipeline, name, sizes)
        for name in pipeline.inputs
    }
    return Case(name="example", inputs=inputs, origin="inputs of the YAML")


def _check_interface(pipeline: Pipeline, graph: GraphIndex) -> None:
    names = pipeline.model.names
    for section, given, declared in (
        ("inputs", tuple(pipeline.inputs), graph.inputs),
        ("outputs", pipeline.outputs, graph.outputs),
    ):
        wanted = [names.get(name, name) for name in given]
        for name, theirs in zip(given, wanted, strict=True):
            if theirs not in declared:
                near = difflib.get_close_matches(theirs, declared, 1)
                hint = f"did you mean '{near[0]}'? " if near else ""
                raise ConfigError(
                    f"the file has no {section[:-1]} '{theirs}'",
                    where=pipeline.where(section, *([name] if section == "inputs" else [])),
                    remedy=f"{hint}its {section}: {', '.join(declared)}",
                )
        left = [name for name in declared if name not in wanted]
        if left and section == "inputs":
            raise ConfigError(
                f"nothing is said of the file's input '{left[0]}'",
                where=pipeline.where("inputs"),
                remedy="add it under inputs; 'export-verify init FILE' writes all of them",
            )
