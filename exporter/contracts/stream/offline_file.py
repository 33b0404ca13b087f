"""A file that sees the whole, beside the file that is called in windows: the two that are deployed.

    streaming.onnx   x x x x | x x x x | x x        windows, states handed on
    offline.onnx     x x x x x x x x x x            one call

Each is held against PyTorch's whole, and the one against the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field, Strict

from exporter.config.section import Many, Section
from exporter.contracts.onnx_side import opened
from exporter.contracts.stream.offline import whole_inputs
from exporter.contracts.target import Target
from exporter.core.errors import ConfigError, OnnxStoppedError
from exporter.core.reading import is_regular, path_of
from exporter.core.tensors import Arrays
from exporter.core.windows import Streamed


class OfflineFile(Section):
    """Another ONNX file, which takes the whole at once."""

    path: Annotated[Path, Strict(False), AfterValidator(path_of)]
    inputs: dict[str, str] = Field(
        default_factory=dict,
        description="input of the file -> input of the case that it takes, or 'steps' (how many"
        " there are); none: each takes the one of its own name",
    )
    outputs: Many[str] = Field(
        default=(),
        description="its outputs, in order, by the names of the stream's; none: by their own names",
    )
    padded: bool = Field(default=False, description="it is given the zeros of the last window, too")


def outputs_of(
    offline: OfflineFile, target: Target, streamed: Streamed, names: Sequence[str]
) -> Arrays | str:
    """What the file gives on the whole, by the stream's names; or why it gives nothing.

    Args:
        names: outputs that are streamed.

    Raises:
        ConfigError: there is no such file, or no case gives one of its inputs.
    """
    if not is_regular(offline.path):
        raise ConfigError(
            f"there is no file '{offline.path}'",
            where="contracts.stream.offline_file.path",
            remedy="give the ONNX file that takes the whole; paths count from the YAML's folder",
        )
    side = opened(offline.path, deployment=target.onnx.deployment)
    if side.refusal is not None:
        return f"the offline file cannot be used: {side.refusal}"
    graph = side.file.graph
    unknown = [name for name in offline.inputs if name not in graph.inputs]
    if unknown:
        raise ConfigError(
            f"{offline.path.name} has no input '{unknown[0]}'",
            where="contracts.stream.offline_file.inputs",
            remedy=f"its inputs: {', '.join(graph.inputs)}",
        )
    given = {name: offline.inputs.get(name, name) for name in graph.inputs}
    where = "contracts.stream.offline_file.inputs"
    inputs = whole_inputs(given, streamed, target, padded=offline.padded, where=where)
    try:
        outputs = side.run(inputs)
    except OnnxStoppedError as error:
        return f"the offline file does not run on the whole: {error}"
    values = dict(
        zip(offline.outputs or graph.outputs, map(outputs.get, graph.outputs), strict=False)
    )
    missing = [name for name in names if values.get(name) is None]
    if missing:
        return f"the offline file gives no '{missing[0]}': name its outputs (offline_file.outputs)"
    return {name: np.asarray(values[name]) for name in names}
