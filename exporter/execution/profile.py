"""onnxruntime's own profile of a file, read by whoever asks: how long, or where its nodes ran."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from exporter.core.errors import ArtifactError
from exporter.core.files import temporary_folder
from exporter.core.tensors import Arrays
from exporter.execution.deployment import Deployment
from exporter.execution.ort_session import open_session, session_options

KERNEL = "_kernel_time"
"""How the name of an event ends that is one run of a node."""

T = TypeVar("T")


def profiled(
    path: Path,
    deployment: Deployment,
    inputs: Arrays,
    *,
    runs: int,
    read: Callable[[list[dict]], T],
) -> T:
    """What ``read`` makes of the profile of so many runs: events in Chrome's trace format.

    Raises:
        UserInputError: the provider does not load.
        ArtifactError: onnxruntime refuses the file or writes no profile that can be read.
    """
    with temporary_folder() as folder:
        options = session_options(deployment)
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        session = open_session(path, options, deployment)
        names = [value.name for value in session.get_inputs()]
        for _ in range(runs):
            session.run(None, {name: inputs[name] for name in names})
        text = Path(session.end_profiling()).read_text(encoding="utf-8")
    try:
        return read(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"onnxruntime's profile cannot be read ({error})", where=str(path)
        ) from error
