"""Faults planted in one ONNX file of a system of ``pipelines/systems``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from exporter.config.load_system import load_system
from exporter.config.run_options import RunOptions
from exporter.flows.open_system import bench_of
from exporter.report.progress import Progress
from exporter.systems.case_inputs import system_cases
from exporter.systems.judge_case import Bench, JudgedCase, judge_case

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = RunOptions(trust=True, cache=False, threads=1, all_cases=True)
Plant = Callable[[onnx.ModelProto], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """One fault: in which graph of which system, what it is, and who plants it."""

    system: str
    graph: str
    words: str
    plant: Plant


def yaml_of(name: str) -> Path:
    return ROOT / "pipelines" / "systems" / f"{name}.yaml"


def bench(name: str, folder: Path, files: dict[str, Path] | None = None, **update) -> Bench:
    system = load_system(yaml_of(name), trust=True)
    changed = system.model_copy(update=update).with_pipelines(system.pipelines)
    return bench_of(changed, OPTIONS, folder, files or {}, Progress(quiet=True))


def judged(on: Bench, case: str | None = None) -> JudgedCase:
    names = (case or on.system.default_case,)
    return judge_case(on, system_cases(on.system, on.graphs, names)[0])


def failing(found: JudgedCase) -> set[str]:
    return {c.graph for c in found.calls if c.verdict.verdict == "fail"}


def faulty(folder: Path, planted: Planted, to: Path) -> Path:
    """The file of a finished run with a fault in it."""
    model = onnx.load(folder / planted.graph / "model.onnx")
    planted.plant(model)
    path = to / f"{planted.system}_{planted.graph}_{planted.plant.__name__}.onnx"
    onnx.save(model, path)
    return path


def weight(model: onnx.ModelProto, *dims: int, nth: int = 0) -> onnx.TensorProto:
    return [t for t in model.graph.initializer if sorted(t.dims) == sorted(dims)][nth]


def put(held: onnx.TensorProto, value: np.ndarray) -> None:
    held.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), held.name))


def state_not_handed_on(model: onnx.ModelProto) -> None:
    """The predictor gives back the state that it was given."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["lost" if name == "next_state.0" else name for name in names]
    model.graph.node.append(helper.make_node("Identity", ["state.0"], ["next_state.0"]))


def embeddings_shifted(model: onnx.ModelProto) -> None:
    held = weight(model, 20, 16)
    put(held, np.roll(numpy_helper.to_array(held), 1, axis=0))


def joiner_bias_lost(model: onnx.ModelProto) -> None:
    held = weight(model, 20)
    put(held, numpy_helper.to_array(held) * 0)


def bands_exchanged(model: onnx.ModelProto) -> None:
    """Two neighbours among 32 bands of the front end."""
    held = weight(model, 32, 1, 400)
    value = numpy_helper.to_array(held).copy()
    value[[5, 6]] = value[[6, 5]]
    put(held, value)


def letters_shifted(model: onnx.ModelProto) -> None:
    """The bias of each letter is the one of its neighbour: a blank in another place."""
    held = weight(model, 28)
    put(held, np.roll(numpy_helper.to_array(held), 1))


def rounded_to_float16(model: onnx.ModelProto) -> None:
    held = max(model.graph.initializer, key=lambda t: int(np.prod(t.dims)))
    put(held, numpy_helper.to_array(held).astype(np.float16).astype(np.float32))


def largest_zeroed(model: onnx.ModelProto) -> None:
    held = max(model.graph.initializer, key=lambda t: int(np.prod(t.dims)))
    value = numpy_helper.to_array(held).copy()
    value[np.unravel_index(np.abs(value).argmax(), value.shape)] = 0
    put(held, value)


def reads_instead(model: onnx.ModelProto, name: str, made: list[onnx.NodeProto]) -> None:
    """All that read an input read what the new nodes, which read it themselves, make of it."""
    for node in model.graph.node:
        node.input[:] = ["other" if held == name else held for held in node.input]
    for node in reversed(made):
        model.graph.node.insert(0, node)


def noise_lost(model: onnx.ModelProto) -> None:
    """The noise is zero, whatever is given."""
    reads_instead(model, "noise", [helper.make_node("Sub", ["noise", "noise"], ["other"])])


def noise_drawn_inside(model: onnx.ModelProto) -> None:
    """The noise that is given counts for nothing: the file draws its own."""
    drawn = helper.make_node("RandomNormalLike", ["noise"], ["other"], seed=1.0)
    reads_instead(model, "noise", [drawn])


def noise_scale_doubled(model: onnx.ModelProto) -> None:
    """The scale of the noise counts twice."""
    twice = helper.make_node("Add", ["noise_scale", "noise_scale"], ["other"])
    reads_instead(model, "noise_scale", [twice])


def durations_rounded_down(model: onnx.ModelProto) -> None:
    """A letter lasts one frame less than it should."""
    node = next(n for n in model.graph.node if n.op_type == "Ceil")
    node.op_type = "Floor"


def weights_of(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(held for held in model.graph.initializer if held.name == name)


def changed(held: onnx.TensorProto, change: Callable[[np.ndarray], np.ndarray]) -> None:
    value = change(numpy_helper.to_array(held).copy())
    held.CopyFrom(numpy_helper.from_array(value, held.name))


def cache_one_place_off(model: onnx.ModelProto) -> None:
    """Keys of the first layer are put in front of the cache, not behind it."""
    node = next(n for n in model.graph.node if n.output[0] == "next_cache.0")
    assert node.op_type == "Concat"
    node.input[:] = reversed(list(node.input))


def cross_attention_of_another_layer(model: onnx.ModelProto) -> None:
    """Both layers attend to what the second one makes of the encoder's output."""
    reading = [n for n in model.graph.node if "encoded" in n.input and n.op_type == "MatMul"]
    assert len(reading) == 4
    for mine, other in zip(reading[:2], reading[2:], strict=True):
        mine.input[1] = other.input[1]


def position_offset(model: onnx.ModelProto) -> None:
    held = weights_of(model, "model.decoder.embed_positions.weight")
    changed(held, lambda table: np.roll(table, -1, axis=0))


def weight_changed(model: onnx.ModelProto) -> None:
    """One element of the last layer, by a thousandth of the largest."""

    def change(weight: np.ndarray) -> np.ndarray:
        weight[3, 5] += 1e-3 * np.abs(weight).max()
        return weight

    changed(next(t for t in reversed(model.graph.initializer) if list(t.dims) == [32, 60]), change)


def encoder_weight_changed(model: onnx.ModelProto) -> None:
    changed(
        next(t for t in model.graph.initializer if list(t.dims) == [32, 64]),
        lambda weight: weight.astype(np.float16).astype(np.float32),
    )


def _of(system: str, *found: tuple[str, str, Plant]) -> tuple[Planted, ...]:
    return tuple(
        Planted(system=system, graph=graph, words=words, plant=plant)
        for graph, words, plant in found
    )


_ROUNDED = "a matrix rounded to float16"
PLANTED = (
    *_of(
        "whisper_tiny",
        ("decoder", "keys in front of the cache, not behind it", cache_one_place_off),
        ("decoder", "cross attention of the other layer", cross_attention_of_another_layer),
        ("decoder", "positions one off", position_offset),
        ("decoder", "one weight changed by a thousandth", weight_changed),
        ("encoder", _ROUNDED, encoder_weight_changed),
    ),
    *_of(
        "rnnt_tiny",
        ("predictor", "a state is not handed on", state_not_handed_on),
        ("predictor", "embeddings shifted by one token", embeddings_shifted),
        ("joiner", "bias lost", joiner_bias_lost),
        ("encoder", _ROUNDED, rounded_to_float16),
    ),
    *_of(
        "vits_tiny",
        ("text", _ROUNDED, rounded_to_float16),
        ("text", "durations rounded down", durations_rounded_down),
        ("flow", "the noise is lost", noise_lost),
        ("flow", "noise drawn inside", noise_drawn_inside),
        ("flow", "the scale of the noise counts twice", noise_scale_doubled),
        ("decoder", "largest weight zero", largest_zeroed),
    ),
    *_of(
        "ctc_tiny",
        ("recogniser", "filters rounded to float16", rounded_to_float16),
        ("recogniser", "largest weight of a filter zero", largest_zeroed),
        ("recogniser", "two bands exchanged", bands_exchanged),
        ("recogniser", "biases shifted by one letter", letters_shifted),
    ),
    *_of(
        "flow_tiny",
        ("text", _ROUNDED, rounded_to_float16),
        ("velocity", _ROUNDED, rounded_to_float16),
        ("velocity", "largest weight zero", largest_zeroed),
        ("vocoder", "largest weight zero", largest_zeroed),
    ),
)
