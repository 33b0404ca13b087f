"""Which providers this machine can really run."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import onnxruntime as ort
from onnx import TensorProto, helper

from exporter.core.errors import UserInputError
from exporter.execution.deployment import CPU, CUDA, PROVIDERS, Deployment
from exporter.execution.ort_session import open_session

_DEVICES = ("/dev/nvidiactl", "/dev/dxg")


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


def tried_providers() -> dict[str, str]:
    """Every provider that a pipeline can name: "" where a session was made on it, else why not."""
    built, present = set(ort.get_available_providers()), present_providers()
    usable = {}
    for name, full in PROVIDERS.items():
        if full not in built:
            usable[name] = "this build of onnxruntime has it not"
        elif name not in present:
            usable[name] = "there is no such device here"
        else:
            try:
                _try(name)
                usable[name] = ""
            except UserInputError as error:
                usable[name] = error.render()
    return usable


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
