"""An ONNX file under contract that nobody has a module of.

It stands on both sides: as it is written (no optimisation, and in float64 to know what rounding
costs) in the place of the module, and as deployed. Where the contracts look into a module they see
one that has no parts; where they look into the file they see all of it. One verdict is left per
contract, the file's: what it gives as it is written is right only where it keeps the contract too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from exporter.cases.defaults import default_array, example_sizes
from exporter.config import Pipeline
from exporter.contracts.dtype.onnx import check_onnx as check_dtype
from exporter.contracts.dtype.settings import Settings as DtypeSettings
from exporter.contracts.onnx_side import opened
from exporter.contracts.result import ONNX, TORCH, ContractResult, not_applicable, not_run
from exporter.contracts.runner import run_contracts
from exporter.contracts.settings import ContractSettings
from exporter.contracts.target import Target
from exporter.core.errors import ModelError, OnnxStoppedError
from exporter.core.files import temporary_folder
from exporter.core.tensors import Arrays, Case, TensorSpec
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_runs import FileRun
from exporter.graph.index import GraphIndex
from exporter.joining.evaluate import Values, evaluate, narrow
from exporter.models.factory import input_specs
from exporter.models.infer_outputs import infer_outputs
from exporter.parity.status import needs_a_word, severity

BESIDE = "the file as it is written"
_MUTATION = "a file writes to nothing that it is given, and keeps nothing between calls"
_STATELESS = "no output is declared to go into an input of the next call (states)"
_LOWER = (
    "what a model is at another precision can only be asked of the model: a file is the precision"
    " that it was made in (as_built)"
)


class FileModule(nn.Module):
    """A file in the place of a module: onnxruntime without optimisation, float64 where it is given.

    Args:
        graph: the file. names: name that is used here -> the file's.
        inputs, outputs: names here, in the order in which ``forward`` takes and gives them.
    """

    def __init__(
        self,
        path: Path,
        graph: GraphIndex,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        names: Mapping[str, str],
        threads: int = 0,
    ):
        super().__init__()
        self._graph, self._names = graph, names
        self._inputs, self._outputs = inputs, outputs
        self._plain = FileRun(path, Deployment(level="disable", threads=threads))
        self._double = {
            value.name
            for value in graph.model.graph.input
            if value.type.tensor_type.elem_type == 11  # DOUBLE
        }
        self.eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> FileModule:
        return self  # a session cannot be copied, and keeps nothing

    def forward(self, *tensors: Tensor) -> dict[str, Tensor]:
        """Outputs by name, for tensors in the order of the inputs."""
        fed = {
            self._names.get(name, name): value.detach().numpy()
            for name, value in zip(self._inputs, tensors, strict=True)
        }
        wide = any(v.dtype == np.float64 and k not in self._double for k, v in fed.items())
        outputs = self._in_double(fed) if wide else self._plain.run(fed)
        return {
            name: torch.from_numpy(np.array(outputs[self._names.get(name, name)]))
            for name in self._outputs
        }

    @contextmanager
    def inside(self, inputs: Arrays) -> Iterator[Values]:
        """Every value of the file in float64, by its own names, for inputs by the names here."""
        fed = {self._names.get(name, name): value for name, value in inputs.items()}
        with temporary_folder() as folder:
            yield evaluate(self._graph, [fed], Values(folder)).values

    def _in_double(self, fed: Arrays) -> dict[str, np.ndarray]:
        with temporary_folder() as folder:
            narrowed = {k: v if k in self._double else narrow(v) for k, v in fed.items()}
            values = evaluate(self._graph, [narrowed], Values(folder))
            missing = [name for name in self._graph.outputs if name not in values.values]
            if missing:
                why = values.missing.get(missing[0], "it is an input or a constant")
                raise NotImplementedError(f"'{missing[0]}' cannot be had in float64: {why}")
            return {name: np.array(values.values[name][0]) for name in self._graph.outputs}


def file_specs(
    pipeline: Pipeline, module: FileModule
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs as the YAML has them, outputs as the file gives them at several sizes.

    An axis that can have one size alone is that size.

    Raises:
        ModelError: the file does not run at the sizes that the YAML says.
    """
    fixed = {
        name: limits.minimum
        for name, limits in pipeline.axes.items()
        if limits.minimum == limits.maximum
    }
    inputs = tuple(
        replace(
            spec,
            shape=tuple(
                fixed.get(size, size) if isinstance(size, str) else size for size in spec.shape
            ),
            axes=tuple(axis for axis in spec.axes if axis.name not in fixed),
        )
        for spec in input_specs(pipeline)
    )
    sizes = {**example_sizes(pipeline), **fixed}
    axes = {name: pipeline.axis(name) for name in sizes if name not in fixed}
    where = pipeline.where("model", "onnx")

    def run(at: Mapping[str, int], seed: int) -> dict[str, Tensor]:
        arrays = [_drawn(pipeline, name, {**sizes, **at}, seed) for name in pipeline.inputs]
        try:
            return module(*map(torch.from_numpy, arrays))
        except OnnxStoppedError as error:
            raise ModelError(
                f"the file does not run at {', '.join(f'{k} {v}' for k, v in at.items())}: {error}",
                where=where,
                remedy="say under axes which sizes it takes (minimum, maximum, multiple_of)",
            ) from error

    outputs = infer_outputs(run, sizes, axes, pipeline.outputs, where=where)
    chosen = {spec.name: spec for spec in outputs}
    return inputs, tuple(chosen[name] for name in pipeline.outputs)


def _drawn(pipeline: Pipeline, name: str, sizes: Mapping[str, int], seed: int) -> np.ndarray:
    array = np.array(default_array(pipeline, name, sizes))
    if name in pipeline.states.values() and "draw" not in pipeline.inputs[name].model_fields_set:
        array = np.zeros_like(array)
    if seed and array.dtype.kind == "f":
        noise = np.random.Generator(np.random.PCG64(seed)).standard_normal(array.shape)
        array = (array + 0.05 * noise).astype(array.dtype)
    return array


def target_of_file(
    pipeline: Pipeline,
    graph: GraphIndex,
    module: FileModule,
    specs: tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]],
    cases: tuple[Case, ...],
    *,
    deployment: Deployment,
    thorough: bool = False,
) -> Target:
    """What the contracts of a file alone are checked on.

    Args:
        specs: of ``file_specs``. cases: those of the YAML; a case in several calls is a stream,
            and its first call is what probes are cut from.
    """
    path = pipeline.file_alone
    if path is None:
        raise ValueError("the pipeline has no file of its own")
    return Target(
        name=pipeline.name,
        module=module,
        inputs=specs[0],
        outputs=specs[1],
        cases=tuple(replace(case, whole=None) for case in cases),
        onnx=opened(path, deployment=deployment, graph=graph, names=pipeline.model.names),
        sweep=pipeline.lengths,
        thorough=thorough,
        beside=BESIDE,
        windows=True,
        states=pipeline.states,
        inside=module.inside,
    )


def check_file_alone(
    target: Target, name: str, settings: ContractSettings, pipeline: Pipeline
) -> tuple[ContractResult, ...]:
    """One contract of a file: one result, and one more for each part that is answered apart."""
    return tuple(replace(row, contract=name) for row in _rows(target, name, settings, pipeline))


def _rows(
    target: Target, name: str, settings: ContractSettings, pipeline: Pipeline
) -> tuple[ContractResult, ...]:
    if settings.not_applicable:
        return (not_applicable(name, ONNX, settings.not_applicable),)
    if name == "mutation":
        return (not_applicable(name, ONNX, _MUTATION),)
    if name == "reset" and not target.states:
        return (not_applicable(name, ONNX, _STATELESS),)
    if name == "dtype":
        return (_dtype(target, settings),)
    results = run_contracts(target, {name: settings}, pipeline=pipeline)
    parts = list(dict.fromkeys(result.name for result in results))
    return tuple(_one([result for result in results if result.name == part]) for part in parts)


def _dtype(target: Target, settings: ContractSettings) -> ContractResult:
    asked = settings if isinstance(settings, DtypeSettings) else DtypeSettings()
    if "precisions" in asked.model_fields_set and "as_built" not in asked.precisions:
        return not_run("dtype", ONNX, _LOWER)
    return check_dtype(target, DtypeSettings(precisions=("as_built",)), None)


def _one(sides: list[ContractResult]) -> ContractResult:
    """The verdict on the file: as deployed, unless as it is written it is worse."""
    by_side = {result.side: result for result in sides}
    deployed, written = by_side[ONNX], by_side.get(TORCH)
    if (
        written is not None
        and needs_a_word(written.status)
        and severity(written.status) > severity(deployed.status)
    ):
        reason = f"as it is written, without optimisation: {written.reason}"
        # Where the file itself is not looked into, all there is to name is what stands for it here.
        where = written.where if written.where is not None and written.where.value else None
        return replace(written, side=ONNX, reason=reason, where=where)
    return deployed
