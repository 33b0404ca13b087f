"""Where a node of an ONNX file says that it comes from, as ``torch.onnx.export`` writes it.

See ``foreign_taps`` for what stands there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

_PREFIX = "pkg.torch.onnx."
_NO_MODULE = "_empty_nn_module_stack"
NAMESPACE = "namespace"
"""Key of metadata by which viewers group nodes; torch's exporter writes classes into it as well."""
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_TORCH = re.compile(r"(site|dist)-packages/torch/")
_CALLERS = (
    "exporter/models/binding.py",
    "exporter/graph/named_graph.py",
    "exporter/draft/values.py",
)
"""Where this package calls a user's module; in front of it there is nothing of the user's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a node says that it came from; ``source`` is "" when it does not say."""

    name: str
    module: str
    op: str
    source: str


def origin_of(node: onnx.NodeProto) -> Origin | None:
    """What a node says of itself; ``None`` when that is nothing, or not about the model."""
    metadata = {entry.key: entry.value for entry in node.metadata_props}
    scopes = _scopes(metadata)
    if scopes is None:
        return None
    modules, name, op = scopes
    module = modules[-1] if modules else ""
    if module.startswith(_NO_MODULE):
        # A pass of the exporter made it. Two sizes of an input differ in nothing but the number in
        # their name, and that number is another in another program.
        return None
    return Origin(
        name=name,
        module=module,
        op=op,
        source=source_of_trace(metadata.get(f"{_PREFIX}stack_trace", "")),
    )


def module_of(node: onnx.NodeProto) -> str:
    """Path of the module whose op a node is; "" where the node says nothing of it.

    torch's exporter writes it down, legacy tracing into names, this program for viewers alone:
    ``encoder/layers/0`` is all that a shipped file keeps.
    """
    origin = origin_of(node)
    if origin is not None:
        return origin.module
    written = next((entry.value for entry in node.metadata_props if entry.key == NAMESPACE), "")
    if written and not _with_classes(written):
        return written.replace("/", ".")
    return next(filter(None, map(legacy_scope, (node.name, *node.output))), "")


def legacy_scope(name: str) -> str:
    """``/model/blocks.1/q/Add_output_0`` as ``model.blocks.1.q``; "" of other names."""
    if not name.startswith("/"):
        return ""
    parts = name.split("/")[1:-1]
    scopes: list[str] = []
    for part in parts:
        # Lists of modules are written twice: /blocks/blocks.1
        if scopes and part.startswith(scopes[-1] + "."):
            scopes.pop()
        scopes.append(part)
    return ".".join(scopes)


def _scopes(metadata: Mapping[str, str]) -> tuple[list[str], str, str] | None:
    """(module paths from the root on, name of the node, op)."""
    names = _texts(metadata.get(f"{_PREFIX}name_scopes"))
    classes = _texts(metadata.get(f"{_PREFIX}class_hierarchy"))
    if names and classes and len(names) == len(classes):
        return names[:-1], names[-1], classes[-1]
    pairs = _with_classes(metadata.get(NAMESPACE, ""))
    return ([path for path, _ in pairs[:-1]], *pairs[-1]) if pairs else None


def _with_classes(namespace: str) -> list[tuple[str, str]]:
    """(module path, class) of each part, as torch's exporter writes it; none of other texts."""
    pairs = [part.rpartition(": ") for part in namespace.split("/")]
    complete = all(separator for _, separator, _ in pairs)
    return [(path, kind) for path, _, kind in pairs] if complete else []


def _texts(written: str | None) -> list[str]:
    """A list of strings as Python writes it; empty when it is none."""
    try:
        value = ast.literal_eval(written or "")
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    plain = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return value if plain else []


def source_of_trace(trace: str) -> str:
    """``file:line`` of the user's statement in a stack trace; "" without one.

    That is the innermost frame that is neither torch's nor what calls a user's module here; the
    innermost of all where the module itself is torch's. Relative to its package.
    """
    frames = [frame for frame in _FRAME.findall(trace) if "/torch/fx/" not in frame[0]]
    if not frames:
        return ""
    outside = [frame for frame in frames if not _TORCH.search(frame[0])]
    users = [frame for frame in outside if not frame[0].endswith(_CALLERS)]
    return short_place(*(users or frames)[-1])


def short_place(path: str, line: str | int | None) -> str:
    """``file:line``, relative to the file's package."""
    for marker in ("site-packages/", "dist-packages/"):
        if marker in path:
            return f"{path.split(marker, 1)[1]}:{line}"
    return f"{'/'.join(path.rsplit('/', 3)[1:])}:{line}"
