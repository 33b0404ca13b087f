"""Translations of ops that the exporter does not know: a user's functions, named by the YAML.

    export:
      custom_translation: {"mine::snake": my_ops:snake}

They are called as those of ``torch.onnx.export``'s ``custom_translation_table``: with the op's
arguments, of which tensors are values of the graph, and write nodes by onnxscript's operators. What
they write is judged like all else, against the op itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from exporter.config import Pipeline
from exporter.core.errors import ConfigError
from exporter.models.user_code import find_callable

Translations = Mapping[Any, Callable[..., Any]]
"""``torch._ops.OpOverload`` -> what writes it in ONNX."""

TRUSTED: set[str] = set()
"""Ops of users' own (``mine.snake.default``) that a captured program may call: those that trusted
pipelines of this process named."""


def load_translations(pipeline: Pipeline, folder: Path) -> dict[Any, Callable[..., Any]]:
    """The functions that a pipeline names, by op; inside an ``importable(folder)`` block.

    Raises:
        ConfigError: there is no such function, or no such op once its module is imported.
        ModelError: a module raises while it is imported.
    """
    translations = {}
    for name, target in pipeline.export.custom_translation.items():
        where = pipeline.where("export", "custom_translation", name)
        function = find_callable(
            target, folder, where=where, remedy="name a function that writes the op in ONNX"
        )
        op = _overload(name)
        if op is None:
            raise ConfigError(
                f"torch has no op '{name}'",
                where=where,
                remedy="write NAMESPACE::NAME, of an op that the imported modules register",
            )
        translations[op] = function
        TRUSTED.add(str(op))
    return translations


def translations_of(module: Any) -> Translations:
    """The translations that the graph of a user's own model brings; none for any other module."""
    return getattr(module, "translations", {})


def _overload(name: str) -> Any:
    """The op of ``mine::snake``, ``mine::snake.default`` or ``mine.snake.default``."""
    namespace, _, rest = name.replace("::", ".").partition(".")
    packet_name, _, overload = rest.partition(".")
    packet = getattr(getattr(torch.ops, namespace), packet_name, None)
    op_overload = getattr(packet, overload or "default", None)
    return op_overload if isinstance(op_overload, torch._ops.OpOverload) else None
