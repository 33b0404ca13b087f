"""What a stream is held against: the same model called once on the whole.

Either the graph itself, at the length of the whole, or another method of the model (``forward``
beside ``forward_chunk``, the same object with the same weights), or another pipeline: a class of
its own for streaming, with the weights of the other.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field, Strict, model_validator
from torch import Tensor, nn

from exporter.config import load_pipeline
from exporter.config.section import Many, Section
from exporter.contracts.onnx_side import OnnxFile, OnnxSide
from exporter.contracts.target import Target
from exporter.core.errors import ConfigError, StageError
from exporter.core.reading import path_of
from exporter.core.tensors import Case, TensorSpec
from exporter.core.windows import Streamed
from exporter.graph.named_graph import NamedGraph
from exporter.graph.wrap import wrap
from exporter.models.binding import Binding, UnboundError, bind_inputs
from exporter.models.results import leaves

STEPS = "steps"
"""As an input of the offline method: how many steps the whole has, one number per row."""


_INPUTS = "contracts.stream.offline.inputs"


class Offline(Section):
    """The call that sees everything at once."""

    method: str = Field(default="forward", pattern=r"^[A-Za-z_]\w*$")
    pipeline: Annotated[Path, Strict(False), AfterValidator(path_of)] | None = Field(
        default=None, description="YAML of another pipeline, whose graph sees the whole"
    )
    inputs: dict[str, str] = Field(
        default_factory=dict,
        description="parameter -> input of the case that it takes, or 'steps' (how many there"
        " are); none: the input that is cut goes to the first parameter",
    )
    outputs: Many[str] = Field(
        default=(), description="what it returns, in order, by the names of the stream's outputs"
    )
    padded: bool = Field(default=False, description="it is given the zeros of the last window, too")

    @model_validator(mode="after")
    def _one_of_both(self) -> Offline:
        if self.pipeline is not None and "method" in self.model_fields_set:
            raise ValueError(
                "method: another pipeline says itself which method it is; leave it out"
            )
        return self


class _Named(nn.Module):
    """A method of a model, or another graph, called like the graph of a pipeline."""

    def __init__(self, model: nn.Module, binding: Binding | None, names: Sequence[str]):
        super().__init__()
        self.model = model
        self._binding = binding
        self._names = tuple(names)

    def forward(self, *tensors: Tensor) -> dict[str, Tensor]:
        """What it returns, by the names of the outputs of the stream."""
        called = self._binding.call(self.model, tensors) if self._binding else self.model(*tensors)
        returned_tensors = list(leaves(called))
        if len(returned_tensors) < len(self._names):
            raise ValueError(
                f"it returns {len(returned_tensors)} values, {len(self._names)} are named"
            )
        return dict(zip(self._names, returned_tensors, strict=False))


def offline_target(
    target: Target, streamed: Streamed, offline: Offline | None, names: Sequence[str]
) -> Target:
    """The model that sees the whole, as a target of its own with the whole as its only case.

    Args:
        streamed: how the case was cut. offline: None: the graph itself.
        names: outputs that are compared.

    Raises:
        ConfigError: the model has no such method, or no parameter for what is given.
    """
    if offline is None:
        case = Case(name="whole", inputs=dict(streamed.whole), origin="the whole of a stream")
        return _as_target(target, target.module, target.inputs, target.outputs, case)
    if offline.pipeline is not None:
        return _other_pipeline(target, streamed, offline, offline.pipeline, names)
    model = target.module.model if isinstance(target.module, NamedGraph) else target.module
    method = getattr(model, offline.method, None)
    if not callable(method):
        raise ConfigError(
            f"a {type(model).__name__} has no method '{offline.method}'",
            where="contracts.stream.offline.method",
            remedy="name the method that takes the whole, or leave 'offline' out",
        )
    given = dict(offline.inputs) or {_first_parameter(method): streamed.input}
    arrays = whole_inputs(given, streamed, target, padded=offline.padded, where=_INPUTS)
    try:
        binding = bind_inputs(method, list(arrays))
    except UnboundError as error:
        raise ConfigError(
            f"{offline.method}({', '.join(error.parameters)}) has no parameter for"
            f" {', '.join(error.names)}",
            where=_INPUTS,
            remedy="name its parameters, each with an input of the case",
        ) from error
    named = _named_outputs(offline.outputs or tuple(names), target)
    module = _Named(model, replace(binding, method=offline.method), named)
    inputs = tuple(TensorSpec.of(k, str(v.dtype), *v.shape) for k, v in arrays.items())
    outputs = tuple(target.spec(name) for name in named)
    case = Case(name="whole", inputs=arrays, origin="the whole of a stream")
    return _as_target(target, module.eval(), inputs, outputs, case)


def _other_pipeline(
    target: Target, streamed: Streamed, offline: Offline, path: Path, names: Sequence[str]
) -> Target:
    """The graph of another pipeline, on the whole of this case."""
    other = load_pipeline(path, trust=target.trusted)
    if other.model.factory is not None and not other.trusted:
        raise ConfigError(
            f"{path.name} runs the code that its model.factory names",
            where="contracts.stream.offline.pipeline",
            remedy="read that code, then add --trust (from Python: trust=True)",
        )
    wrapped = wrap(other)
    given = {spec.name: offline.inputs.get(spec.name, spec.name) for spec in wrapped.inputs}
    arrays = whole_inputs(given, streamed, target, padded=offline.padded, where=_INPUTS)
    own = [spec.name for spec in wrapped.outputs]
    named = offline.outputs or tuple(own)
    _named_outputs([name for name in named if name in names] or named, target)
    outputs = tuple(target.spec(name) for name in named if name in names)
    case = Case(name="whole", inputs=arrays, origin="the whole of a stream")
    module = _Named(wrapped.module, None, named).eval()
    return _as_target(target, module, wrapped.inputs, outputs, case)


def _named_outputs(named: Sequence[str], target: Target) -> Sequence[str]:
    unknown = [name for name in named if name not in {spec.name for spec in target.outputs}]
    if unknown:
        raise ConfigError(
            f"the stream has no output '{unknown[0]}'",
            where="contracts.stream.offline.outputs",
            remedy=f"its outputs: {', '.join(spec.name for spec in target.outputs)}",
        )
    return named


def whole_inputs(
    given: Mapping[str, str], streamed: Streamed, target: Target, *, padded: bool, where: str
) -> dict[str, np.ndarray]:
    """What sees the whole is given.

    Args:
        given: its input -> input of the case, or ``STEPS``.
        padded: with the zeros of the last window.
        where: of the YAML, for messages.

    Raises:
        ConfigError: no case gives one of them.
    """
    whole = dict(streamed.whole)
    if padded and streamed.filled:
        pad = [(0, 0)] * whole[streamed.input].ndim
        pad[streamed.axis] = (0, streamed.filled)
        whole[streamed.input] = np.pad(whole[streamed.input], pad)
    return {key: _value(whole, name, streamed, target, where) for key, name in given.items()}


def time_input(whole: Target, streamed: Streamed, offline: Offline | None) -> str:
    """The input of the whole that takes what is cut in the stream."""
    if offline is None:
        return streamed.input
    named = (key for key, name in offline.inputs.items() if name == streamed.input)
    default = whole.input_names[0]
    if offline.pipeline is not None and streamed.input in whole.input_names:
        default = streamed.input
    return next(named, default)


def _first_parameter(method: object) -> str:
    return next(iter(inspect.signature(method).parameters))  # type: ignore[arg-type]


def _value(
    whole: Mapping[str, np.ndarray], name: str, streamed: Streamed, target: Target, where: str
) -> np.ndarray:
    if name in whole:
        return whole[name]
    if name != STEPS:
        raise ConfigError(
            f"no case gives '{name}'",
            where=where,
            remedy=f"name one of: {', '.join(whole)}, {STEPS}",
        )
    signal = whole[streamed.input]
    at = target.batch_position(streamed.input)
    rows = 1 if at is None else signal.shape[at]
    return np.full((rows,), signal.shape[streamed.axis], dtype=np.int64)


def _as_target(
    target: Target,
    module: nn.Module,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    case: Case,
) -> Target:
    def no_file() -> OnnxFile:
        raise StageError("export", "what sees the whole is PyTorch's")

    return Target(
        name=f"{target.name}, the whole",
        module=module,
        inputs=inputs,
        outputs=outputs,
        cases=(case,),
        onnx=OnnxSide(no_file),
    )
