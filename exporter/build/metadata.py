"""What a file says of itself: the keys of its metadata, and their values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from exporter import __version__
from exporter.core.errors import ArtifactError

if TYPE_CHECKING:
    from exporter.config import Pipeline
    from exporter.graph.wrap import Wrapped

PREFIX = "export_verify."
TOOL_VERSION, PIPELINE = f"{PREFIX}tool_version", f"{PREFIX}pipeline"
WEIGHTS, SAMPLE_RATE_HZ = f"{PREFIX}weights", f"{PREFIX}sample_rate_hz"
GRAPH_DIGEST, WEIGHTS_DIGEST = f"{PREFIX}graph_digest", f"{PREFIX}weights_digest"
"""Which state of the pipeline, and which weights, a file was made of."""
EXPORT_DIGEST = f"{PREFIX}export_digest"
"""sha256 of the ``exported.onnx`` that a file was made from."""
INPUT_CHOICES = f"{PREFIX}input_choices"
"""Readable values of integer inputs, by input."""
INPUT_INITIAL = f"{PREFIX}input_initial"
"""What an input that carries state is filled with before the first call, by name, and the size of
its axes where no other input gives it."""
VALUE_NAMES = f"{PREFIX}value_names"
"""Of an export whose values have the names that torch's own decomposition gives them."""
_MOST_JSON = 1 << 20
_MOST_DIGITS = 10
"""Of a sample rate in a file."""


def choices_of(text: str) -> dict[str, dict[str, int]]:
    """The readable values of inputs, as a file's metadata has them; what is damaged names none."""
    try:
        choices = json.loads(text) if text and len(text) < _MOST_JSON else {}
    except (ValueError, RecursionError):
        return {}
    if not isinstance(choices, dict):
        return {}
    return {
        name: {k: v for k, v in values.items() if isinstance(v, int)}
        for name, values in choices.items()
        if isinstance(values, dict)
    }


def sample_rate_of(metadata: Mapping[str, str], path: Path) -> int:
    """The sample rate that the file at ``path`` says in its metadata, in Hz.

    Raises:
        ArtifactError: it says none.
    """
    text = metadata.get(SAMPLE_RATE_HZ, "")
    rate = int(text) if text.isdecimal() and len(text) < _MOST_DIGITS else 0
    if rate < 1:
        raise ArtifactError(
            "its metadata does not say the sample rate",
            where=str(path),
            remedy="give a model.onnx that export-verify made",
        )
    return rate


def same_origin(one: Mapping[str, str], other: Mapping[str, str], *more: str) -> bool:
    """True when two files say that they are of one state of a pipeline and of its weights.

    Args:
        more: further keys that must agree.
    """
    return all(one.get(key) == other.get(key) for key in (GRAPH_DIGEST, WEIGHTS_DIGEST, *more))


def metadata_of(
    pipeline: Pipeline, wrapped: Wrapped, *, names_of_torch: bool = False
) -> dict[str, str]:
    """What a file says of itself: pipeline, weights, and the readable values of its inputs."""
    choices = {spec.name: dict(spec.choices) for spec in wrapped.inputs if spec.choices}
    initial = {
        spec.name: {
            "value": float(spec.initial),
            "minimum": {axis.name: axis.minimum for axis in spec.axes},
        }
        for spec in wrapped.inputs
        if spec.initial is not None
    }
    return {
        **({VALUE_NAMES: "torch"} if names_of_torch else {}),
        TOOL_VERSION: __version__,
        PIPELINE: pipeline.name,
        GRAPH_DIGEST: pipeline.graph_digest,
        WEIGHTS: "seeded" if wrapped.weights.seeded else wrapped.weights.source,
        WEIGHTS_DIGEST: wrapped.weights.digest,
        SAMPLE_RATE_HZ: str(pipeline.sample_rate_hz),
        INPUT_CHOICES: json.dumps(choices, sort_keys=True),
        **({INPUT_INITIAL: json.dumps(initial, sort_keys=True)} if initial else {}),
    }
