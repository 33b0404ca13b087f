"""What an export is made of, as named digests: the key under which it is cached.

pipeline    the sections of the YAML that decide the graph, and what its file says of itself
interface   inputs, outputs, dynamic axes, and the example that is traced
weights     every tensor of the module, VAD and features included
module      classes and attributes of its parts
sources     code of this package, without what only shows, checks contracts or compares goldens
capture     of a user's own model: the program that torch.export makes of it now. What else its code
            reads, by whatever way, ends in that program or does not matter
upstream    loaded code of the packages that the module's classes come from
versions    Python, and the libraries that do the work
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import platform
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

from torch import nn

from exporter.cache.entry import canonical
from exporter.cache.sources import PACKAGE, sources_digest
from exporter.config import Pipeline
from exporter.core.runtimes import installed_runtimes
from exporter.graph.capture_digest import capture_digest
from exporter.graph.legacy.fall_back import FallBack
from exporter.graph.module_digest import module_state
from exporter.graph.strategies import Captured
from exporter.graph.wrap import Wrapped
from exporter.models.user_code import _MARK as MARK

_VERSIONED = ("torch", "onnx", "onnxscript", "onnx-ir", "onnxsim", "onnxruntime-gpu", "numpy")
"""onnxsim computes constants with onnxruntime."""
_BY_VERSION = frozenset({"torch", "numpy", "exporter", "builtins", "__main__"})


def key_parts(
    pipeline: Pipeline,
    wrapped: Wrapped,
    metadata: Mapping[str, str],
    captured: Captured | FallBack | None = None,
) -> dict[str, str]:
    """Digests of everything that decides the files of an export.

    Args:
        metadata: what the files will say of themselves; it is in them.
        captured: of a user's own model, captured just now; models that this package knows are
            known by their code.
    """
    return {
        **({} if captured is None else {"capture": _capture(captured)}),
        "pipeline": _digest(pipeline.graph_digest, canonical(dict(metadata))),
        "interface": _interface(wrapped),
        "weights": wrapped.weights.digest,
        "module": module_state(wrapped.module),
        "sources": package_digest(),
        "upstream": upstream_digest(wrapped.module),
        "versions": canonical(versions()),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that make the files, and the kind of machine."""
    by_name = {name: _version(name) for name in _VERSIONED}
    by_name |= installed_runtimes()
    return {**by_name, "python": platform.python_version(), "machine": platform.machine()}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


@cache
def package_digest() -> str:
    """``sources_digest`` of this package, when first asked for."""
    return sources_digest(PACKAGE)


def upstream_digest(module: nn.Module) -> str:
    """Digest of the packages that a module's classes come from, and of a user's own code.

    All of a package, not the classes' own files alone: what they compute with is often a function
    next door. Of installed ones names, sizes and times of their files: what else a process has
    loaded of them by now says nothing of the model. A user's modules count by their contents, and
    only where a user's class is a part: another pipeline of the same process may have brought
    some. torch counts by its version.
    """
    classes = {kind for part in module.modules() for kind in type(part).__mro__}
    users = any(_is_marked(sys.modules.get(kind.__module__)) for kind in classes)
    tops = {kind.__module__.partition(".")[0] for kind in classes} - _BY_VERSION
    digest = hashlib.sha256()
    for top in sorted(tops):
        if not _is_marked(sys.modules.get(top)):
            digest.update(f"{top}\n{_installed(top)}\n".encode())
    # Not by getattr: that would import what another package's lazy modules stand for.
    for name, imported in sorted(sys.modules.items()) if users else ():
        file = getattr(imported, "__dict__", {}).get("__file__")
        if _is_marked(imported) and file and file.endswith(".py"):
            digest.update(f"{name}\n".encode() + Path(file).read_bytes())
    return digest.hexdigest()


def _installed(top: str) -> str:
    """Names, sizes and times of the Python files of a package, or of a module's one file.

    Whether it is loaded at the moment does not matter: FunASR's parts are imported alone.
    """
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    roots = [Path(root) for root in (spec and spec.submodule_search_locations) or ()]
    sources = [(path, path.relative_to(root)) for root in roots for path in root.rglob("*.py")]
    if not sources and spec and spec.has_location and spec.origin:
        sources = [(Path(spec.origin), Path(Path(spec.origin).name))]
    lines = []
    for path, name in sorted(sources, key=lambda pair: str(pair[1])):
        state = path.stat()
        lines.append(f"{name} {state.st_size} {state.st_mtime_ns}")
    return "\n".join(lines)


def _is_marked(module: object) -> bool:
    """True for a module that lies beside a user's pipeline."""
    return bool(getattr(module, "__dict__", {}).get(MARK))


def _capture(captured: Captured | FallBack) -> str:
    if isinstance(captured, FallBack):
        return _digest(captured.digest, captured.why)
    facts = (sorted(captured.axes.items()), captured.strategy, captured.notes)
    return _digest(capture_digest(captured.program), repr(facts))


def _interface(wrapped: Wrapped) -> str:
    digest = hashlib.sha256()
    for spec in (*wrapped.inputs, *wrapped.outputs):
        choices = sorted(spec.choices.items())
        axes = [dataclasses.astuple(axis) for axis in spec.axes]
        facts = (spec.name, spec.dtype, spec.shape, axes, choices, spec.discrete, spec.initial)
        digest.update(f"{facts!r}\n".encode())
    digest.update(repr(sorted(wrapped.states.items())).encode())
    for name, tensor in wrapped.example.items():
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode() + array.tobytes())
    for name, dims in wrapped.dynamic_shapes.items():
        bounds = {
            axis: (dim.__name__, getattr(dim, "min", None), getattr(dim, "max", None))
            for axis, dim in dims.items()
        }
        digest.update(f"{name} {sorted(bounds.items())!r}\n".encode())
    return digest.hexdigest()


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
