"""Where a session of onnxruntime is made, on the provider that it was asked for.

onnxruntime falls back to the CPU without an error when the libraries of a provider do not load:
only ``get_providers()`` of the session tells. No session leaves this file that does.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnxruntime as ort

from exporter.core.children import watched_step
from exporter.core.errors import UserInputError
from exporter.execution.deployment import CPU, CUDA_DEFAULTS, PROVIDERS, Deployment

ORT_VERSION = ort.__version__
_REMEDY = (
    "install what it needs: pip install 'onnxruntime-gpu[cuda,cudnn]' (or put the CUDA and cuDNN"
    " libraries on LD_LIBRARY_PATH), or give --provider cpu"
)

LEVELS = {
    "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def session_options(deployment: Deployment) -> ort.SessionOptions:
    """Options of a session that runs as a deployment says."""
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[deployment.level]
    options.intra_op_num_threads = deployment.threads
    options.inter_op_num_threads = 1
    # Without optimisation every weight is transposed in every run; an arena would keep them all.
    options.enable_cpu_mem_arena = deployment.level != "disable"
    # What goes wrong is raised with its message; logging it as well would say it twice.
    options.log_severity_level = 4
    return options


def open_session(
    model: onnx.ModelProto | bytes | Path, options: ort.SessionOptions, deployment: Deployment
) -> ort.InferenceSession:
    """A session that has the provider it was asked for.

    Args:
        model: in memory, serialised, or a file.

    Raises:
        UserInputError: onnxruntime has fallen back to another provider; says which library it
            lacks and how to get it.
        Exception: what onnxruntime raises when it refuses the model.
    """
    given = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    given = str(given) if isinstance(given, Path) else given
    with watched_step():
        session = ort.InferenceSession(given, options, providers=session_providers(deployment))
    check_providers(session.get_providers(), deployment)
    return session


def session_providers(deployment: Deployment) -> list[str | tuple[str, dict[str, str]]]:
    """What ``InferenceSession`` is given: the provider with its options, the CPU behind it."""
    if deployment.provider == CPU:
        return [PROVIDERS[CPU]]
    tf32 = {"use_tf32": "1" if deployment.tf32 else "0"}
    options = {**CUDA_DEFAULTS, **dict(deployment.settings), **tf32}
    return [(PROVIDERS[deployment.provider], options), PROVIDERS[CPU]]


def check_providers(available: Sequence[str], deployment: Deployment) -> None:
    """Check that a session has the provider that was asked for.

    Args:
        available: what ``get_providers()`` of the session says.

    Raises:
        UserInputError: it has not.
    """
    wanted = PROVIDERS[deployment.provider]
    if wanted in available:
        return
    missing = missing_library(deployment.provider)
    why = f": {missing}" if missing else ""
    raise UserInputError(
        f"provider '{deployment.provider}' does not load{why}; onnxruntime would have used"
        f" {', '.join(available) or 'nothing'} instead",
        remedy=_REMEDY,
    )


def missing_library(name: str) -> str:
    """What the loader says to a provider's own library; "" when it loads, or has none."""
    folder = Path(ort.__file__ or "").parent / "capi"
    library = folder / f"libonnxruntime_providers_{name}.so"
    if not library.is_file():
        return f"{library.name} is not part of this onnxruntime" if name != CPU else ""
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
    except OSError as error:
        match = re.match(r"(\S+\.so[.\d]*): cannot open shared object file", str(error))
        return f"the library {match[1]} is not found" if match else str(error)[:200]
    return ""
