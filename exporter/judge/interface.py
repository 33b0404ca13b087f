"""Does a given file take what the pipeline takes, and which parts of the pipeline are outside it?

A speech model that was exported without its front end runs, and is right on the features that
it was tested with. What it needs in front of it is then in somebody's Python, if anywhere.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto
from torch import nn

from exporter.graph.export import InterfaceKind, interface_differences
from exporter.graph.index import GraphIndex
from exporter.graph.ir_model import ir_model
from exporter.graph.wrap import Wrapped
from exporter.speech.cmvn import Cmvn
from exporter.speech.fbank import KaldiFbank
from exporter.speech.lfr import LowFrameRate
from exporter.speech.vad import SileroVad

WAVEFORM = "waveform"
# In the order in which a recording passes them.
_PARTS: tuple[tuple[type[nn.Module], str], ...] = (
    (SileroVad, "VAD"),
    (KaldiFbank, "fbank"),
    (LowFrameRate, "LFR"),
    (Cmvn, "CMVN"),
)
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
# Outputs of parts that the model itself does not give.
_VAD_OUTPUTS = frozenset({"segments", "speech_probs"})


def interface_problems(graph: GraphIndex, wrapped: Wrapped) -> list[str]:
    """Why the file cannot even be run on what the pipeline takes; empty when it can."""
    model, names = graph.model, set(graph.inputs)
    wanted = [spec.name for spec in wrapped.inputs]
    missing = [name for name in wanted if name not in names]
    problems = []
    given = ", ".join(f"{value.name} {_shape(value)}" for value in _values(model, names))
    states = _states(model, names)
    if WAVEFORM in missing and _takes_features(model, names - states.keys(), wrapped):
        outside = parts_outside(graph, wrapped)
        which = f": {', '.join(outside)} are outside the graph" if outside else ""
        problems.append(f"it takes features, not a waveform{which}")
    elif missing:
        problems.append(f"input(s) {', '.join(missing)} are missing")
    if missing:
        problems.append(f"it takes {given or 'nothing'} instead of {', '.join(wanted)}")
    elif more := sorted(names - set(wanted)):
        problems.append(
            f"it needs the input(s) {', '.join(more)}, which the pipeline does not give"
        )
    kept = [f"'{name}' -> '{after}'" for name, after in states.items() if name not in wanted]
    if kept:
        problems.append(
            f"it keeps state between calls ({', '.join(kept)}), which the pipeline does not hand on"
        )
    outputs = {value.name for value in model.graph.output}
    lacking = [spec.name for spec in wrapped.outputs if spec.name not in outputs]
    if lacking:
        vad = "" if WAVEFORM in missing or not _VAD_OUTPUTS & set(lacking) else ": it has no VAD"
        problems.append(f"output(s) {', '.join(lacking)} are missing{vad}")
    return problems or _different(model, wrapped)


def parts_outside(graph: GraphIndex, wrapped: Wrapped) -> list[str]:
    """Parts of the pipeline's front end whose constants the file does not hold.

    What comes before the features cannot be in a file that takes features. Only the last part,
    the normalisation, may be behind its input; its statistics are then among its constants.
    """
    parts = []
    for kind, label in _PARTS:
        part = next((m for m in wrapped.module.modules() if isinstance(m, kind)), None)
        if part is not None and not (label == "CMVN" and _holds(graph, part)):
            parts.append(label)
    return parts


def _holds(graph: GraphIndex, part: nn.Module) -> bool:
    """True when a constant of the file has the values of a buffer of this part."""
    buffers = [buffer.numpy().reshape(-1) for buffer in part.buffers()]
    sizes = {buffer.size for buffer in buffers if buffer.size > 1}
    for name, tensor in graph.initializers.items():
        if int(np.prod(tensor.dims, dtype=np.int64)) in sizes:
            values = graph.array(name).reshape(-1)
            if any(np.array_equal(values, buffer) for buffer in buffers):
                return True
    return False


def _takes_features(model: ModelProto, names: set[str], wrapped: Wrapped) -> bool:
    """True when a float input is no waveform: three axes, or features in rows.

    A row of fixed size is one of features only where the pipeline computes some: a VAD that is
    called frame by frame takes rows of samples.
    """
    computes = any(isinstance(part, KaldiFbank) for part in wrapped.module.modules())
    for value in _values(model, names):
        tensor = value.type.tensor_type
        dims = tensor.shape.dim
        rows = computes and bool(dims) and dims[-1].dim_value > 1
        if tensor.elem_type in _FLOATS and (len(dims) > 2 or rows):
            return True
    return False


def _states(model: ModelProto, names: set[str]) -> dict[str, str]:
    """Inputs that an output of the same type and shape goes on from, with that output.

    Its name must begin with the input's (``state``, ``stateN``), or the fixed sizes must tell.
    """
    states: dict[str, str] = {}
    for value in _values(model, names):
        for output in model.graph.output:
            if output.name not in states.values() and _goes_on(value, output):
                states[value.name] = output.name
                break
    return states


def _goes_on(value: ValueInfoProto, output: ValueInfoProto) -> bool:
    before, after = value.type.tensor_type, output.type.tensor_type
    pairs = list(zip(before.shape.dim, after.shape.dim, strict=False))
    if before.elem_type not in _FLOATS or before.elem_type != after.elem_type:
        return False
    if len(before.shape.dim) != len(after.shape.dim) or not pairs:
        return False
    fixed = [(old.dim_value, new.dim_value) for old, new in pairs if old.dim_value > 0]
    known = [(old, new) for old, new in fixed if new > 0]
    if any(old != new for old, new in known):
        return False
    return output.name.startswith(value.name) or (
        len(known) == len(pairs) and max(old for old, _ in known) > 1
    )


def _values(model: ModelProto, names: set[str]) -> list:
    return [value for value in model.graph.input if value.name in names]


def _shape(value: ValueInfoProto) -> str:
    dims = value.type.tensor_type.shape.dim
    return f"[{', '.join(dim.dim_param or str(dim.dim_value or '?') for dim in dims)}]"


# Whatever a file does not say of its shapes, onnxruntime finds out. Outputs are compared.
_TELLS = frozenset({InterfaceKind.DTYPE, InterfaceKind.RANK, InterfaceKind.SIZE})
_ALWAYS = frozenset({InterfaceKind.FROZEN, InterfaceKind.UNUSED})


def _different(model: ModelProto, wrapped: Wrapped) -> list[str]:
    shapes = {value.name: value.type.tensor_type for value in model.graph.input}
    problems = []
    for difference in interface_differences(ir_model(model), wrapped.inputs, wrapped.outputs):
        if difference.kind in _ALWAYS:
            problems.append(difference.text)
        elif (
            difference.kind in _TELLS
            and difference.side == "input"
            and shapes[difference.name].HasField("shape")
        ):
            problems.append(f"{difference.text}: export it with what the pipeline gives")
    return problems
