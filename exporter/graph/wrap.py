"""Pipeline -> one module that takes what a user has, with specs and an example of its inputs."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from exporter.cases.check_sizes import check_elements
from exporter.config import Pipeline, Vad
from exporter.core.errors import ConfigError, UserInputError
from exporter.core.tensors import Axis, TensorSpec
from exporter.graph.named_graph import NamedGraph
from exporter.graph.program import Program
from exporter.graph.speech_graph import BatchedSpeechGraph, SpeechGraph
from exporter.models import load_model_module
from exporter.models.built import Built, WeightsInfo
from exporter.models.settings import memory_named
from exporter.models.upstream import quiet_upstream
from exporter.models.weights import digest_tensors
from exporter.speech.cmvn import Cmvn, seeded_cmvn
from exporter.speech.cut import CutSegments
from exporter.speech.fbank import KaldiFbank
from exporter.speech.lfr import LowFrameRate
from exporter.speech.segments import SpeechSegments
from exporter.speech.vad import FRAME_SAMPLES, SileroVad

EXAMPLE_SECONDS = 3.1
EXAMPLE_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """A module with everything that is needed to trace and to describe it.

    Attributes:
        module: in eval mode, without gradients; returns a tuple in the order of ``outputs``.
        inputs: one spec per argument, in order.
        outputs: one spec per result, in order.
        example: one tensor per input, by name and in order; distinct objects, every dynamic
            size at least 2.
        dynamic_shapes: per input, axis number to ``torch.export.Dim``; for ``torch.export``.
        weights: where the weights came from; the digest covers VAD and features too.
        tokens: text of every token id, if there is a table.
        states: output -> the input that takes it in the next call.
        notes: what a report should say about the model.
        sizes: of every symbolic axis in ``example``, where they are known.
        example_at: makes another example at other sizes; a seed as second argument asks for other
            values, and rows of other lengths. ``None`` where that is not known.
    """

    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    example: Mapping[str, Tensor]
    dynamic_shapes: Mapping[str, Mapping[int, Any]]
    weights: WeightsInfo
    tokens: tuple[str, ...] | None = None
    states: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    example_at: Callable[..., Mapping[str, Tensor]] | None = None


def wrap(pipeline: Pipeline) -> Wrapped:
    """Build VAD, features and model of a pipeline as one module.

    Raises:
        ConfigError: parts do not fit together, or an output does not exist.
        ModelError: a user's own code raises. UserInputError: it is not trusted.
        WeightsError: the checkpoint cannot be used.
        MissingPackageError: an upstream package is not installed.
    """
    if pipeline.file_alone is not None:
        raise UserInputError(
            "this pipeline is an ONNX file alone: there is no PyTorch to hold it against",
            where=pipeline.where("model", "onnx"),
            remedy="check, golden, compare, debug and inspect take it; run and verify need"
            " model.kind or model.factory",
        )
    with memory_named(pipeline):
        kind = pipeline.model.kind
        if kind is None:
            from exporter.models import factory

            built = factory.build(pipeline)
        else:
            file = load_model_module(kind, where=pipeline.where("model", "kind"))
            built = file.build(pipeline)
        wrapped = (_wrap_tensors if built.takes == "tensors" else _wrap_speech)(pipeline, built)
    for number, case in enumerate(pipeline.cases):
        if case.steps is not None and not wrapped.states:
            raise ConfigError(
                "the graph hands nothing from one call to the next",
                where=pipeline.where("cases", number, "steps"),
                remedy="say what it hands on: states: {OUTPUT: INPUT}, both of them in the graph",
            )
    return wrapped


def _wrap_speech(pipeline: Pipeline, built: Built) -> Wrapped:
    batched = pipeline.vad is None
    if not batched and pipeline.sample_rate_hz not in FRAME_SAMPLES:
        raise ConfigError(
            f"the VAD has no network for {pipeline.sample_rate_hz} Hz",
            where=pipeline.where("sample_rate_hz"),
            remedy=f"use one of: {', '.join(map(str, FRAME_SAMPLES))}, or vad: null",
        )
    specs = _speech_outputs(pipeline, built, batched)
    outputs = _chosen(pipeline, specs)
    names = tuple(spec.name for spec in outputs)
    features = _feature_modules(pipeline, built)
    if pipeline.vad is None:
        module: nn.Module = BatchedSpeechGraph(**features, model=built.module, outputs=names)
    else:
        vad, segmenter = _vad_modules(pipeline.vad, pipeline.sample_rate_hz)
        module = SpeechGraph(
            vad=vad,
            segmenter=segmenter,
            cut=CutSegments(features["fbank"].frame_samples, segmenter.granularity),
            **features,
            model=built.module,
            outputs=names,
        )
    module.eval().requires_grad_(False)
    inputs = (*_waveform_inputs(pipeline, batched), *built.inputs)
    example = _speech_example(pipeline, built, batched)
    return Wrapped(
        module=module,
        inputs=inputs,
        outputs=outputs,
        example=example,
        dynamic_shapes=dynamic_shapes(inputs),
        weights=_whole_digest(module, built.weights),
        tokens=built.tokens,
    )


def _wrap_tensors(pipeline: Pipeline, built: Built) -> Wrapped:
    outputs = _chosen(pipeline, {spec.name: spec for spec in built.outputs})
    _refuse_twice(pipeline, built.inputs, outputs)
    module = NamedGraph(
        built.module,
        inputs=[spec.name for spec in built.inputs],
        returns=[spec.name for spec in built.outputs],
        outputs=[spec.name for spec in outputs],
        binding=built.binding,
        translations=built.translations,
    )
    module.eval().requires_grad_(False)
    return Wrapped(
        module=module,
        inputs=built.inputs,
        outputs=outputs,
        example={**_tensor_example(built.inputs), **(built.example or {})},
        dynamic_shapes=dynamic_shapes(built.inputs),
        weights=built.weights,
        tokens=built.tokens,
        states=_states(pipeline, built, {spec.name: spec for spec in outputs}),
        notes=built.notes,
        sizes=built.sizes,
        example_at=built.example_at,
    )


def _refuse_twice(
    pipeline: Pipeline, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> None:
    taken = {spec.name for spec in inputs}
    twice = [spec.name for spec in outputs if spec.name in taken]
    if twice:
        others = ", ".join(f"next_{o.name}" if o.name in taken else o.name for o in outputs)
        raise ConfigError(
            f"'{twice[0]}' is an input and an output; in ONNX a name has one value",
            where=pipeline.where("outputs"),
            remedy=f"name every result, in order, for example: outputs: [{others}]",
        )


def _states(
    pipeline: Pipeline, built: Built, outputs: Mapping[str, TensorSpec]
) -> Mapping[str, str]:
    """What the graph hands from call to call: what the YAML says, else what the model says."""
    given = pipeline.states
    inputs = {spec.name: spec for spec in built.inputs}
    for name, target in given.items():
        where = pipeline.where("states", name)
        if name not in outputs or target not in inputs:
            missing = f"output '{name}'" if name not in outputs else f"input '{target}'"
            known = outputs if name not in outputs else inputs
            raise ConfigError(
                f"the graph has no {missing}", where=where, remedy=f"it has: {', '.join(known)}"
            )
        if outputs[name].dtype != inputs[target].dtype:
            raise ConfigError(
                f"'{name}' is {outputs[name].dtype}, '{target}' takes {inputs[target].dtype}",
                where=where,
                remedy="an input can only take on what has its own dtype",
            )
    # A state that the YAML leaves out of 'outputs' is not handed on.
    return given or {name: into for name, into in built.states.items() if name in outputs}


def _vad_modules(vad: Vad, sample_rate_hz: int) -> tuple[SileroVad, SpeechSegments]:
    with quiet_upstream():
        network = SileroVad.from_package(sample_rate_hz)
    segmenter = SpeechSegments(
        threshold=vad.threshold,
        negative_threshold=vad.negative_threshold,
        min_speech_ms=vad.min_speech_ms,
        min_silence_ms=vad.min_silence_ms,
        speech_pad_ms=vad.speech_pad_ms,
        max_segment_ms=vad.max_segment_ms,
        sample_rate_hz=sample_rate_hz,
        round_to_ms=vad.round_to_ms,
    )
    return network, segmenter


def _feature_modules(pipeline: Pipeline, built: Built) -> dict[str, Any]:
    features = pipeline.features
    if features is None:
        raise ConfigError(
            f"the model '{pipeline.model.kind}' takes features, but there are none",
            where=pipeline.where("features"),
            remedy="write a 'features' section, for example: features: {kind: kaldi_fbank}",
        )
    width = features.num_mels * features.lfr_m
    if width != built.feature_size:
        raise ConfigError(
            f"the features have {features.num_mels} x {features.lfr_m} = {width} values a frame, "
            f"but the model takes {built.feature_size}",
            where=pipeline.where("features", "num_mels"),
            remedy="change num_mels, lfr_m or the model's input_size",
        )
    statistics = built.statistics or seeded_cmvn(width, pipeline.model.seed)
    return {
        "fbank": KaldiFbank(
            num_mels=features.num_mels,
            sample_rate_hz=pipeline.sample_rate_hz,
            frame_length_ms=features.frame_length_ms,
            frame_shift_ms=features.frame_shift_ms,
            window=features.window,
        ),
        "lfr": LowFrameRate(features.lfr_m, features.lfr_n),
        "cmvn": Cmvn(*statistics),
    }


def _waveform_inputs(pipeline: Pipeline, batched: bool) -> tuple[TensorSpec, ...]:
    samples = Axis(name="num_samples", minimum=1)
    unit = f"samples at {pipeline.sample_rate_hz} Hz"
    if not batched:
        return (TensorSpec.of("waveform", "float32", samples, unit=unit),)
    batch = Axis(name="batch", minimum=1)
    return (
        TensorSpec.of("waveform", "float32", batch, samples, unit=unit),
        TensorSpec.of("waveform_lengths", "int64", batch, unit=unit),
    )


def _speech_outputs(pipeline: Pipeline, built: Built, batched: bool) -> dict[str, TensorSpec]:
    rows = Axis(name="batch", minimum=1) if batched else Axis(name="num_segments", minimum=0)
    specs = {}
    for spec in built.outputs:
        specs[spec.name] = dataclasses.replace(
            spec,
            shape=tuple(rows.name if size == "rows" else size for size in spec.shape),
            axes=tuple(rows if axis.name == "rows" else axis for axis in spec.axes),
        )
    if not batched:
        frames = Axis(name="num_vad_frames", minimum=1)
        each = f"probability per {FRAME_SAMPLES[pipeline.sample_rate_hz]} samples"
        ends = {"discrete": True, "unit": "start and end in samples"}
        specs["segments"] = TensorSpec.of("segments", "int64", rows, 2, **ends)
        specs["speech_probs"] = TensorSpec.of("speech_probs", "float32", frames, unit=each)
    return specs


def _chosen(pipeline: Pipeline, specs: Mapping[str, TensorSpec]) -> tuple[TensorSpec, ...]:
    names = tuple(pipeline.outputs)
    unknown = [name for name in names if name not in specs]
    if unknown or not names or len(set(names)) != len(names):
        problem = (
            f"there is no output '{unknown[0]}'" if unknown else "outputs are empty or repeated"
        )
        if unknown and pipeline.vad is None and unknown[0] in ("segments", "speech_probs"):
            problem += " without a VAD"
        raise ConfigError(
            problem, where=pipeline.where("outputs"), remedy=f"choose from: {', '.join(specs)}"
        )
    return tuple(specs[name] for name in names)


def _speech_example(pipeline: Pipeline, built: Built, batched: bool) -> dict[str, Tensor]:
    num_samples = int(EXAMPLE_SECONDS * pipeline.sample_rate_hz)
    shape = (2, num_samples) if batched else (num_samples,)
    draw = np.random.Generator(np.random.PCG64(EXAMPLE_SEED))
    example = {"waveform": torch.from_numpy(0.1 * draw.standard_normal(shape, dtype=np.float32))}
    if batched:
        example["waveform_lengths"] = torch.tensor([num_samples, num_samples - 1600])
    for spec in built.inputs:
        example[spec.name] = torch.tensor(next(iter(spec.choices.values()), 0))
    return example


def _tensor_example(inputs: tuple[TensorSpec, ...]) -> dict[str, Tensor]:
    draw = np.random.Generator(np.random.PCG64(EXAMPLE_SEED))
    sizes: dict[str, int] = {}
    for axis in (axis for spec in inputs for axis in spec.axes):
        # Different axes get different sizes, or the tracer might take them for one.
        sizes.setdefault(axis.name, max(axis.minimum, 2) + 1 + len(sizes))
    example = {}
    for spec in inputs:
        shape = tuple(sizes[size] if isinstance(size, str) else size for size in spec.shape)
        check_elements(shape, None)
        if spec.dtype.startswith("int"):
            values = np.full(shape, next(iter(spec.choices.values()), 1), dtype=spec.dtype)
        else:
            values = np.asarray(draw.standard_normal(shape), dtype=spec.dtype)
        example[spec.name] = torch.from_numpy(values)
    return example


def with_axes(specs: tuple[TensorSpec, ...], axes: Mapping[str, Axis]) -> tuple[TensorSpec, ...]:
    """The specs with other limits of their axes, by name."""
    return tuple(
        dataclasses.replace(spec, axes=tuple(axes.get(axis.name, axis) for axis in spec.axes))
        for spec in specs
    )


def narrowed(wrapped: Wrapped, program: Program) -> Wrapped:
    """A module with the limits, and what is to be said, that were found when it was captured."""
    axes = {axis.name: axis for spec in wrapped.inputs for axis in spec.axes}
    for name, (minimum, maximum, multiple_of) in program.limits.items():
        if name in axes:
            axes[name] = Axis(name=name, minimum=minimum, maximum=maximum, multiple_of=multiple_of)
    return dataclasses.replace(
        wrapped,
        inputs=with_axes(wrapped.inputs, axes),
        outputs=with_axes(wrapped.outputs, axes),
        notes=(*wrapped.notes, *program.notes),
    )


def dynamic_shapes(
    inputs: tuple[TensorSpec, ...], *, assumed: bool = False
) -> dict[str, dict[int, Any]]:
    """Per input, axis number -> ``torch.export.Dim``.

    Args:
        assumed: let torch assume what it cannot prove of the sizes; see ``guards``.
    """
    dims: dict[str, Any] = {}
    for axis in (axis for spec in inputs for axis in spec.axes):
        dims.setdefault(axis.name, _dim(axis, assumed))
    return {
        spec.name: {
            number: dims[size] for number, size in enumerate(spec.shape) if isinstance(size, str)
        }
        for spec in inputs
    }


def _dim(axis: Axis, assumed: bool) -> Any:
    """torch's word for an axis; multiples are so many times an axis of torch's own."""
    if assumed:
        return torch.export.Dim.DYNAMIC(min=axis.minimum, max=axis.maximum)
    step = axis.multiple_of
    if step == 1:
        return torch.export.Dim(axis.name, min=axis.minimum, max=axis.maximum)
    most = None if axis.maximum is None else axis.maximum // step
    return step * torch.export.Dim(f"_{axis.name}", min=-(-axis.minimum // step), max=most)


def _whole_digest(module: nn.Module, weights: WeightsInfo) -> WeightsInfo:
    around = {
        name: value for name, value in module.state_dict().items() if not name.startswith("model.")
    }
    both = f"{weights.digest}\n{digest_tensors(around)}"
    return dataclasses.replace(weights, digest=hashlib.sha256(both.encode()).hexdigest())
