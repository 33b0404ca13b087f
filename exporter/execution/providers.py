"""Which providers this machine can really run, and sessions that run where they were asked to.

onnxruntime falls back to the CPU without an error when the libraries of a provider do not load:
only ``get_providers()`` of the session tells. No session leaves this file that does.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from exporter.core.errors import UserInputError
from exporter.execution.deployment import CPU, CUDA, CUDA_DEFAULTS, PROVIDERS, Deployment

_DEVICES = ("/dev/nvidiactl", "/dev/dxg")
_REMEDY = (
    "install what it needs: pip install 'onnxruntime-gpu[cuda,cudnn]' (or put the CUDA and cuDNN"
    " libraries on LD_LIBRARY_PATH), or give --provider cpu"
)


def present_providers() -> tuple[str, ...]:
    """Providers whose hardware this machine has and that onnxruntime was built with.

    The GPU build lists CUDA everywhere, so a CUDA device file is looked for as well. Whether its
    libraries load is another question, see ``check_provider``.
    """
    built = set(ort.get_available_providers())
    has_gpu = any(Path(device).exists() for device in _DEVICES)
    usable = {CPU: True, CUDA: has_gpu}
    return tuple(name for name, full in PROVIDERS.items() if full in built and usable[name])


def check_provider(name: str) -> str:
    """Return ``name`` if sessions on it can be made here.

    Raises:
        UserInputError: unknown, not present on this machine, or its libraries do not load.
    """
    present = present_providers()
    if name not in PROVIDERS:
        hint = "; TensorRT is not offered" if name == "tensorrt" else ""
        raise UserInputError(
            f"unknown provider '{name}'", remedy=f"use one of {', '.join(present)}{hint}"
        )
    if name not in present:
        raise UserInputError(
            f"provider '{name}' is not present on this machine",
            remedy=f"this machine has: {', '.join(present)}",
        )
    if name != CPU:
        _try(name)
    return name


@cache
def _try(name: str) -> None:
    """Make the smallest session on a provider, once per process.

    Raises:
        UserInputError: it is not there.
    """
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    open_session(model, options, Deployment(provider=name))


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


def check_providers(found: Sequence[str], deployment: Deployment) -> None:
    """Check that a session has the provider that was asked for.

    Args:
        found: what ``get_providers()`` of the session says.

    Raises:
        UserInputError: it has not.
    """
    wanted = PROVIDERS[deployment.provider]
    if wanted in found:
        return
    missing = missing_library(deployment.provider)
    why = f": {missing}" if missing else ""
    raise UserInputError(
        f"provider '{deployment.provider}' does not load{why}; onnxruntime would have used"
        f" {', '.join(found) or 'nothing'} instead",
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
        found = re.match(r"(\S+\.so[.\d]*): cannot open shared object file", str(error))
        return f"the library {found[1]} is not found" if found else str(error)[:200]
    return ""
