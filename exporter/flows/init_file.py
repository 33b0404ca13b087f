"""An ONNX file, whoever made it -> a YAML that describes it, found by running the file.

read     inputs and outputs, as the file declares them
states   which output goes back into which input: by names (``init_states``)
sizes    which sizes of which axes run, and which axis is a batch (``init_sizes``)
write    one line per thing that was found, with the reason behind it; and a contract per property
         that such a file should have

What the file cannot say (which numbers a model was trained on) is a guess, and said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from exporter.config import Pipeline
from exporter.config.inputs import InputSpec
from exporter.config.load import load_pipeline
from exporter.config.run_options import RunOptions
from exporter.contracts import declared_settings
from exporter.contracts.result import ContractResult
from exporter.core.errors import ExportVerifyError, UserInputError
from exporter.core.files import temporary_folder, write_text
from exporter.core.stages import Stages
from exporter.core.tensors import BATCH_NAMES
from exporter.draft.found_axis import FoundAxis
from exporter.flows.check_file import check_file
from exporter.flows.init_sizes import (
    BATCH,
    FileProbe,
    is_lengths,
    is_waveform,
)
from exporter.flows.init_states import propose_states
from exporter.flows.init_yaml import Description, yaml_of
from exporter.graph.index import GraphIndex
from exporter.graph.onnx_file import open_graph
from exporter.joining.interface_inputs import Input, inputs_of
from exporter.report.progress import Progress

_DTYPES = frozenset(InputSpec.model_fields["dtype"].annotation.__args__)  # type: ignore[union-attr]


def init_file(
    path: Path,
    *,
    sizes: Mapping[str, int] | None = None,
    progress: Stages | None = None,
) -> Description:
    """Describe a file by running it.

    Args:
        sizes: of axes, where none are found that run.

    Raises:
        ArtifactError: it cannot be read, or onnxruntime refuses it.
        UserInputError: an input is no tensor, or no sizes are found at which it runs.
    """
    progress = progress or Progress(quiet=True)
    with progress.stage("read the file") as stage:
        graph = open_graph(path)
        declared = inputs_of(graph, path)
        for item in declared:
            if item.dtype.name not in _DTYPES:
                raise UserInputError(
                    f"input '{item.name}' takes {item.dtype.name}, which cannot be drawn",
                    where=str(path),
                    remedy="cut the graph behind what reads it (onnx.utils.extract_model)",
                )
        stage.result(f"{len(declared)} inputs, {len(graph.outputs)} outputs")
    states = tuple(propose_states(declared, _outputs(graph)))
    carried = frozenset(state.input for state in states)
    inputs = _with_axes(declared, carried)
    lengths = _lengths(inputs, carried)
    counted = {name: axis for name, (_, axis) in lengths.items()}
    with progress.stage("find sizes that run") as stage:
        probe = FileProbe(path=path, inputs=inputs, states=carried, lengths=counted)
        at_sizes = dict(sizes) if sizes and _complete(sizes, inputs) else probe.first_sizes()
        probe, at_sizes = _with_batch(probe, at_sizes)
        axes = tuple(probe.axis(name, at_sizes) for name in at_sizes)
        stage.result(", ".join(f"{axis.name}: {axis.why}" for axis in axes))
    fixed = tuple(axis for axis in axes if axis.fixed)
    axes, inputs = _without_fixed(axes, probe.inputs)
    lengths = _lengths(inputs, carried)
    described = Description(
        path=path,
        inputs=inputs,
        outputs=graph.outputs,
        states=states,
        axes=axes,
        fixed=fixed,
        lengths=lengths,
    )
    with progress.stage("causality") as stage:
        causal = _measured(described)
        stage.result("not looked at" if causal is None else str(causal.status))
    return replace(described, causal=causal)


def example_of(path: Path) -> dict[str, np.ndarray]:
    """Inputs on which a file runs, by its own names, at sizes that were found by running it.

    Raises:
        ArtifactError, UserInputError: as ``init_file``.
    """
    graph = open_graph(path)
    declared = inputs_of(graph, path)
    carried = frozenset(state.input for state in propose_states(declared, _outputs(graph)))
    inputs = _with_axes(declared, carried)
    counted = {name: axis for name, (_, axis) in _lengths(inputs, carried).items()}
    probe = FileProbe(path=path, inputs=inputs, states=carried, lengths=counted)
    return probe.arrays(probe.first_sizes(), seed=1)


def described_pipeline(path: Path, progress: Stages) -> Pipeline:
    """The pipeline of a file that nobody has described: as ``init_file`` finds it.

    Raises:
        ArtifactError, UserInputError: as ``init_file``.
    """
    described = init_file(path, progress=progress)
    with temporary_folder() as folder:
        place = folder / f"{path.stem}.yaml"
        write_text(place, yaml_of(described, folder))
        return load_pipeline(place)


def write_description(described: Description, place: Path, *, force: bool = False) -> str:
    """Write the YAML and return its text.

    Raises:
        UserInputError: ``place`` is there already.
    """
    if place.exists() and not force:
        raise UserInputError(
            f"'{place}' exists already", remedy="give another --output, or --force to replace it"
        )
    text = yaml_of(described, place.parent)
    write_text(place, text)
    return text


# -- what the file says ---------------------------------------------------------------------------


def _outputs(graph: GraphIndex) -> dict[str, tuple[str, tuple[int | str, ...]]]:
    outputs = {}
    for value in graph.model.graph.output:
        tensor_type = value.type.tensor_type
        shape = tuple(
            int(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?"
            for d in tensor_type.shape.dim
        )
        outputs[value.name] = (_numpy_name(tensor_type.elem_type), shape)
    return outputs


def _numpy_name(elem_type: int) -> str:
    import onnx

    try:
        return onnx.helper.tensor_dtype_to_np_dtype(elem_type).name
    except KeyError:
        return ""


def _with_axes(declared: Sequence[Input], states: frozenset[str]) -> tuple[Input, ...]:
    """Names of axes: the file's where it has some; else by place, until a run says otherwise."""
    named = []
    for item in declared:
        shape: list[int | str] = []
        for place, size in enumerate(item.shape):
            unnamed = f"{item.name}.{place}"
            if isinstance(size, int):
                shape.append(size)
            elif size in BATCH_NAMES:
                shape.append(BATCH)
            elif size != unnamed:
                shape.append(_identifier(size))
            elif item.name in states or (place == 0 and len(item.shape) > 1):
                shape.append(BATCH)
            elif place == len(item.shape) - 1 and is_waveform(item):
                shape.append("samples")
            else:
                shape.append(_identifier(f"{item.name}_{place}"))
        # No input has one axis twice: the first is the rows.
        seen: set[str] = set()
        for place, size in enumerate(shape):
            if isinstance(size, str) and size in seen:
                shape[place] = _identifier(f"{item.name}_{place}")
            seen.add(str(size))
        named.append(Input(item.name, item.dtype, tuple(shape)))
    return tuple(named)


def _lengths(inputs: Sequence[Input], states: frozenset[str]) -> dict[str, tuple[str, str]]:
    """Inputs that count how much of a row is in use, of the one input that has such an axis."""
    long = [
        (item, next(s for s in reversed(item.shape) if isinstance(s, str) and s != BATCH))
        for item in inputs
        if item.name not in states
        and not is_lengths(item)
        and any(isinstance(size, str) and size != BATCH for size in item.shape)
    ]
    if not long:
        return {}
    item, axis = long[0]
    counts = [count for count in inputs if is_lengths(count)]
    return {count.name: (item.name, axis) for count in counts[:1]}


def _with_batch(probe: FileProbe, sizes: Mapping[str, int]) -> tuple[FileProbe, dict[str, int]]:
    """Which first axis holds rows, by turning them round."""
    firsts = [
        item.shape[0]
        for item in probe.inputs
        if item.shape and isinstance(item.shape[0], str) and item.name not in probe.states
    ]
    name = firsts[0] if firsts else None
    # Frames that know of no other turn round as well: the one axis that varies may be time.
    if name is None or (len(sizes) == 1 and not probe.states and name not in probe.few()):
        return probe, dict(sizes)
    holds_rows = probe.rows(sizes, name)
    if name == BATCH and not holds_rows and probe.outputs({**sizes, BATCH: 3}) is not None:
        return _renamed(probe, sizes, BATCH, "steps")
    if name != BATCH and holds_rows and BATCH not in sizes:
        return _renamed(probe, sizes, name, BATCH)
    return probe, dict(sizes)


def _renamed(
    probe: FileProbe, sizes: Mapping[str, int], old: str, new: str
) -> tuple[FileProbe, dict[str, int]]:
    inputs = tuple(
        Input(item.name, item.dtype, tuple(new if size == old else size for size in item.shape))
        for item in probe.inputs
    )
    other = FileProbe(
        path=probe.path, inputs=inputs, states=probe.states, lengths=dict(probe.lengths)
    )
    return other, {new if name == old else name: size for name, size in sizes.items()}


def _without_fixed(
    axes: tuple[FoundAxis, ...], inputs: tuple[Input, ...]
) -> tuple[tuple[FoundAxis, ...], tuple[Input, ...]]:
    """An axis of which one size runs is that size."""
    fixed = {axis.name: axis.example for axis in axes if axis.fixed}
    shaped = tuple(
        Input(
            item.name,
            item.dtype,
            tuple(fixed.get(size, size) if isinstance(size, str) else size for size in item.shape),
        )
        for item in inputs
    )
    return tuple(axis for axis in axes if not axis.fixed), shaped


def _complete(sizes: Mapping[str, int], inputs: Sequence[Input]) -> bool:
    wanted = {size for item in inputs for size in item.shape if isinstance(size, str)}
    missing = sorted(wanted - set(sizes))
    if missing:
        raise UserInputError(
            f"--size: nothing is said of the axis '{missing[0]}'",
            remedy=f"the axes are: {', '.join(sorted(wanted))}",
        )
    return True


def _measured(described: Description) -> ContractResult | None:
    """Causality as it is, with no lookahead allowed."""
    with temporary_folder() as folder:
        place = folder / "described.yaml"
        write_text(place, yaml_of(described, folder))
        try:
            pipeline = load_pipeline(place)
            settings = declared_settings({"causality": {}}, pipeline=pipeline)
            options = RunOptions()
            return check_file(pipeline, options, settings, Progress(quiet=True), False)[0]
        except ExportVerifyError:
            return None


def _identifier(text: str) -> str:
    identifier = re.sub(r"\W+", "_", text).strip("_") or "axis"
    return identifier if identifier.isidentifier() else f"axis_{identifier}"
