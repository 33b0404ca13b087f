"""Faults planted in the ONNX files of the tiny streams of ``pipelines/streams``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from exporter.build.build import build
from exporter.cases.load import load_cases
from exporter.config import load_pipeline
from exporter.contracts.make_target import target_from_wrapped
from exporter.contracts.onnx_side import opened, program_taps
from exporter.contracts.result import ContractResult
from exporter.contracts.runner import declared_settings
from exporter.contracts.stream.check import Settings, of_file
from exporter.contracts.stream.whole import Whole, whole_of
from exporter.contracts.target import Target
from exporter.graph.program import Program
from exporter.report.progress import Progress
from tests.support.planted_streams import FOLDER

Plant = Callable[[onnx.ModelProto], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedFile:
    """One fault: in the file of which pipeline, what it is, what has to be told, who plants it.

    Attributes:
        where: layer and op that have to be named.
    """

    pipeline: str
    words: str
    told: str
    where: str
    plant: Plant


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """A pipeline with its file and program, and what PyTorch gives on the whole."""

    file: Path
    program: Program
    target: Target
    settings: Settings
    whole: Whole


def stand_of(name: str, folder: Path) -> Stand:
    """Make the file of one of ``PIPELINES``, and run PyTorch's side of the contract once."""
    pipeline = load_pipeline(FOLDER / f"{name}_stream.yaml").with_trust()
    folder.mkdir(parents=True, exist_ok=True)
    built = build(pipeline, folder, Progress(quiet=True), prepare=lambda: None)
    cases = load_cases(pipeline, built.wrapped.inputs, [pipeline.cases[0].name])
    target = target_from_wrapped(
        built.wrapped, cases, name=pipeline.name, file=opened(built.shipped.path)
    )
    settings = declared_settings(pipeline.contracts, pipeline=pipeline, only=["stream"])["stream"]
    assert isinstance(settings, Settings)
    skipped, late = settings.not_streamed, settings.late
    whole = whole_of(target, settings.offline, skipped, late, cases[0])
    assert isinstance(whole, Whole), whole
    return Stand(
        file=built.shipped.path,
        program=built.program,
        target=target,
        settings=settings,
        whole=whole,
    )


def judged_file(stand: Stand, planted: PlantedFile | None, folder: Path) -> ContractResult:
    """The file's side of the contract, with something planted or as it is."""
    path = stand.file
    if planted is not None:
        model = onnx.load(path)
        planted.plant(model)
        path = folder / "planted.onnx"
        onnx.save(model, path)
    taps = program_taps(stand.program)
    stand.target.onnx = opened(path, taps=taps, program=stand.program)
    return of_file(stand.target, stand.settings, stand.whole)


def _made_by(model: onnx.ModelProto, output: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if output in node.output)


def not_returned(output: str, given: str) -> Plant:
    """What comes back is what was given."""

    def plant(model: onnx.ModelProto) -> None:
        node = _made_by(model, output)
        node.output[:] = [f"lost.{name}" if name == output else name for name in node.output]
        for other in model.graph.node:
            other.input[:] = [f"lost.{name}" if name == output else name for name in other.input]
        model.graph.node.append(helper.make_node("Identity", [given], [output]))

    return plant


def exchanged(one: str, other: str) -> Plant:
    """Two outputs come back in each other's place."""

    def plant(model: onnx.ModelProto) -> None:
        names = {one: other, other: one}
        for node in model.graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]

    return plant


def _slice_instead(
    node: onnx.NodeProto, model: onnx.ModelProto, starts: list[int], ends: list[int]
) -> None:
    assert node.op_type == "Slice"
    for place, value in ((1, starts), (2, ends)):
        made = numpy_helper.from_array(np.array(value, dtype=np.int64), f"planted.{place}")
        model.graph.initializer.append(made)
        node.input[place] = made.name


def reads_instead(output: str, place: int, value: Sequence[int] | float, dtype: str) -> Plant:
    """The node that makes ``output`` reads another constant at ``place``."""

    def plant(model: onnx.ModelProto) -> None:
        made = numpy_helper.from_array(np.array(value, dtype=dtype), "planted")
        model.graph.initializer.append(made)
        _made_by(model, output).input[place] = "planted"

    return plant


def other_op(output: str, was: str, becomes: str) -> Plant:
    """A comparison takes the edge otherwise: a mask is one off."""

    def plant(model: onnx.ModelProto) -> None:
        node = _made_by(model, output)
        assert node.op_type == was
        node.op_type = becomes

    return plant


def kernel_moved(weight: str) -> Plant:
    """A convolution sees its frames one later: its padding is on the wrong side."""

    def plant(model: onnx.ModelProto) -> None:
        held = next(t for t in model.graph.initializer if t.name == weight)
        value = np.roll(numpy_helper.to_array(held), 1, axis=-1)
        held.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), weight))

    return plant


def attribute(weight: str, **values: list[int]) -> Plant:
    """The convolution with this weight has other attributes."""

    def plant(model: onnx.ModelProto) -> None:
        node = next(n for n in model.graph.node if weight in n.input)
        for held in node.attribute:
            if held.name in values:
                held.CopyFrom(helper.make_attribute(held.name, values[held.name]))

    return plant


def table(shape: list[int], change: Callable[[np.ndarray], np.ndarray]) -> Plant:
    """The table of this shape is another."""

    def plant(model: onnx.ModelProto) -> None:
        held = next(t for t in model.graph.initializer if list(t.dims) == shape)
        value = change(numpy_helper.to_array(held)).astype(np.float32)
        held.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), held.name))

    return plant


def parts_exchanged(model: onnx.ModelProto) -> None:
    """The real part is taken for the imaginary one."""
    node = _made_by(model, "cat")
    node.input[:] = [node.input[1], node.input[0]]


def layers_exchanged(model: onnx.ModelProto) -> None:
    """Each layer reads the attention cache of the other."""
    reading = [n for n in model.graph.node if n.input and n.input[0] == "attention_cache"]
    one, other = (node for node in reading if node.op_type == "Gather")
    one.input[1], other.input[1] = other.input[1], one.input[1]


def position_one_off(model: onnx.ModelProto) -> None:
    """The offset of a chunk counts one frame too many."""
    one = numpy_helper.from_array(np.array(1, dtype=np.int64), "planted")
    model.graph.initializer.append(one)
    for node in model.graph.node:
        node.input[:] = ["moved" if name == "offset" else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("Add", ["offset", "planted"], ["moved"]))


def cache_ends_early(model: onnx.ModelProto) -> None:
    """Of the convolution's inputs the two before the last are handed on."""
    _slice_instead(_made_by(model, "next_caches.2"), model, [0, -3], [1 << 62, -1])


def oldest_kept(model: onnx.ModelProto) -> None:
    """Of five frames the first four are handed on, not the last."""
    _slice_instead(_made_by(model, "next_frames"), model, [0, 0], [1 << 62, 4])


def _of(pipeline: str, *found: tuple[str, str, str, Plant]) -> tuple[PlantedFile, ...]:
    return tuple(
        PlantedFile(pipeline=pipeline, words=words, told=told, where=where, plant=plant)
        for words, told, where, plant in found
    )


_ON = "from call 1 on every call differs"
_FIRST = "the first call differs already"
_FADE = np.sin(np.pi * (np.arange(32) + 0.5) / 32)
_CONV = "model.inner.block.{}.res_unit{}.conv1.weight"

PLANTED_FILES = (
    *_of(
        "zipformer",
        (
            "keys are given back as they came",
            _ON,
            "aten.slice.Tensor",
            not_returned("next_caches.0", "caches.0"),
        ),
        (
            "keys and values come back exchanged",
            _ON,
            "aten.slice.Tensor",
            exchanged("next_caches.0", "next_caches.1"),
        ),
        (
            "the mask of what was filled is one off",
            _FIRST,
            "aten.ge.Tensor",
            other_op("ge", "GreaterOrEqual", "Greater"),
        ),
        ("the convolution's cache ends a frame early", _ON, "aten.slice.Tensor", cache_ends_early),
        (
            "the depthwise convolution is padded on the wrong side",
            _FIRST,
            "depthwise [aten.conv1d.default]",
            kernel_moved("model.layers.0.depthwise.weight"),
        ),
    ),
    *_of(
        "emformer",
        (
            "the second layer's keys are given back as they came",
            _ON,
            "aten.slice.Tensor",
            not_returned("next.1.0", "states.1.0"),
        ),
        (
            "keys and values come back exchanged",
            _ON,
            "aten.slice.Tensor",
            exchanged("next.0.0", "next.0.1"),
        ),
        (
            "the left context is a frame short",
            "every call differs",
            "aten.slice.Tensor",
            reads_instead("sym_min", 1, 5, "int64"),
        ),
        (
            "three frames a call are counted",
            "the first is call 1",
            "aten.add.Tensor",
            reads_instead("next.0.2", 1, 3, "int32"),
        ),
    ),
    *_of(
        "wenet",
        (
            "the convolution's cache is given back as it came",
            _ON,
            "aten.stack.default",
            not_returned("next_convolution_cache", "convolution_cache"),
        ),
        ("each layer reads the other's cache", _ON, "aten.select.int", layers_exchanged),
        ("positions are one off", _FIRST, "aten.slice.Tensor", position_one_off),
        (
            "the depthwise convolution is padded on the wrong side",
            _FIRST,
            "depthwise [aten.conv1d.default]",
            kernel_moved("model.layers.1.depthwise.weight"),
        ),
    ),
    *_of(
        "codec",
        (
            "a convolution is padded a frame to the left",
            _FIRST,
            "model.inner.conv1 [aten.conv1d.default]",
            attribute("model.inner.conv1.weight", pads=[4, 2]),
        ),
        (
            "a transposed convolution comes a sample late",
            _FIRST,
            "block.0.conv_t1 [aten.convolution.default]",
            attribute("model.inner.block.0.conv_t1.weight", pads=[1, 3]),
        ),
        (
            "a dilation is lost",
            _FIRST,
            "res_unit2.conv1 [aten.conv1d.default]",
            attribute(_CONV.format(0, 2), dilations=[1], pads=[3, 3]),
        ),
        (
            "a sample too few comes out of a window",
            "no whole number of frames",
            "model.inner.conv2 [aten.conv1d.default]",
            attribute("model.inner.conv2.weight", pads=[3, 2]),
        ),
    ),
    *_of(
        "filter",
        (
            "the GRU's state is given back as it came",
            "from call 3 on",
            "aten.where.self",
            not_returned("next_heard", "heard"),
        ),
        ("the oldest frames are kept", "from call 2 on", "aten.slice.Tensor", oldest_kept),
        (
            "the first frame is masked, too",
            "the first is call 3",
            "aten.lt.Scalar",
            other_op("lt", "Less", "LessOrEqual"),
        ),
        (
            "frames are not counted",
            "from call 3 on",
            "aten.add.Tensor",
            not_returned("next_count", "count"),
        ),
    ),
    *_of(
        "overlap",
        (
            "the second fade is lost",
            _FIRST,
            "aten.matmul.default",
            table([34, 32], lambda back: back / _FADE),
        ),
        (
            "sound comes a sample late",
            _FIRST,
            "aten.matmul.default",
            table([34, 32], lambda back: np.roll(back, 1, 1)),
        ),
        ("real and imaginary part change places", _FIRST, "aten.cat.default", parts_exchanged),
        (
            "the guard of the logarithm is another",
            _FIRST,
            "aten.add.Tensor",
            reads_instead("add_1", 1, 1e-2, "float32"),
        ),
    ),
)
