"""Import code that a pipeline names, and say which line of it went wrong.

Modules beside the YAML win over installed ones, as for a script. They are imported anew each time:
a file that was corrected since is the one that runs, and two folders may both have a ``model.py``.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from exporter.core.errors import ConfigError, ExportVerifyError, ModelError, StageError, named_line
from exporter.models.factory_uses import Used
from exporter.models.upstream import settle_placeholders

_MARK = "__export_verify_folder__"
_OURS = str(Path(__file__).resolve().parents[1])
_TORCH = str(Path(torch.__file__ or "").resolve().parent)
_STANDARD = sysconfig.get_paths()["stdlib"]
_INSTALLED = ("site-packages", "dist-packages")
_TOOLS = frozenset(
    {"onnxruntime", "onnx", "onnx_ir", "onnxscript", "onnxsim", "numpy", "safetensors", "sympy"}
)
"""What this package works with: errors in there are nobody's model."""


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let ``import`` find what lies in ``folder`` while the block runs.

    ``sys.path`` is afterwards what it was. Modules of an earlier block are forgotten first.
    """
    for name in _marked():
        del sys.modules[name]
    importlib.invalidate_caches()
    before, path = set(sys.modules), list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = path
        settle_placeholders(set(sys.modules) - before)
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__dict__", {}).get("__file__")
            if file and _lies_in(Path(file), folder):
                setattr(sys.modules[name], _MARK, str(folder))


def _marked() -> set[str]:
    """Names of the modules that an ``importable`` block brought.

    Read from their dictionaries: asking another package's lazy module for an attribute imports
    what it stands for, and that may not be installed (SpeechBrain's k2).
    """
    namespaces = {
        name: getattr(module, "__dict__", {}) for name, module in list(sys.modules.items())
    }
    return {name for name, values in namespaces.items() if values.get(_MARK)}


def _lies_in(file: Path, folder: Path) -> bool:
    file = file.resolve()
    inside = file.is_relative_to(folder.resolve())
    return inside and not any(part in _INSTALLED for part in file.parts)


def find_callable(
    target: str,
    folder: Path,
    *,
    where: str,
    remedy: str = "name a function or class that returns an nn.Module",
) -> Any:
    """Import ``package.module:callable`` inside an ``importable(folder)`` block.

    Raises:
        ConfigError: there is no such module or no such name in it.
        ModelError: the module raises while it is imported.
    """
    path, _, name = target.partition(":")
    _refuse_shadowed(path.partition(".")[0], folder, where)
    with blamed(where, f"'{path}' cannot be imported"):
        try:
            module = importlib.import_module(path)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{path}.".startswith(f"{error.name}."):
                raise
            raise ConfigError(
                f"there is no module '{error.name}'",
                where=where,
                remedy=f"put {path.replace('.', '/')}.py into {folder}, or install its package",
            ) from error
    value = getattr(module, name, None)
    if not callable(value):
        what = "is not callable" if hasattr(module, name) else "does not exist"
        raise ConfigError(
            f"'{name}' in {module.__file__} {what}",
            where=where,
            remedy=remedy,
        )
    return value


def _refuse_shadowed(top: str, folder: Path, where: str) -> None:
    """A file beside the YAML that is called like a module in use would never be imported."""
    loaded = sys.modules.get(top)
    here = [path for path in (folder / f"{top}.py", folder / top / "__init__.py") if path.is_file()]
    file = getattr(loaded, "__file__", None) or "Python itself"
    if loaded is not None and here and Path(file).resolve() != here[0].resolve():
        raise ConfigError(
            f"'{top}' is already the name of a module in use ({file})",
            where=where,
            remedy=f"give {here[0]} another name",
        )


@contextlib.contextmanager
def blamed(where: str, what: str, *, always: bool = True) -> Iterator[None]:
    """Turn what the user's code raises into a ``ModelError`` with its file and line.

    Args:
        where: file, line and key that named the code; used when no line of it is known.
        what: what could not be done.
        always: False lets errors pass that no line of the user's code had a part in.
    """
    try:
        yield
    except StageError as error:
        place = place_of(error.__cause__ or error) or error.source
        raise ModelError(
            f"{what}: stage '{error.stage}': {error.detail}",
            where=place or where,
            remedy=error.remedy or _ADVICE,
        ) from error
    except (ExportVerifyError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        place = place_of(error)
        if not place and not always:
            raise
        raise ModelError(
            f"{what}: {named_line(error, 500)}",
            where=place or where,
            remedy=_ADVICE,
        ) from error


@contextlib.contextmanager
def stopping(stage: str) -> Iterator[None]:
    """Turn what torch raises without a line of the user's code into the failure of a stage.

    A model that nobody here wrote can make torch raise anything; that is a finding about the model
    and this version of torch, with a report, and not a crash of this program.
    """
    try:
        yield
    except (ExportVerifyError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise StageError(stage, named_line(error, 500)) from error


_ADVICE = "correct the model's code; 'export-verify' only calls it"


def place_of(error: BaseException) -> str:
    """``file:line`` of the innermost line that belongs neither to Python, torch nor this package.

    The line of a syntax error is that of the error; "" when no such line had a part in it.
    """
    if isinstance(error, SyntaxError) and error.filename and is_users(error.filename):
        return f"{error.filename}:{error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if is_users(frame.filename) and frame.lineno
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def is_users(file: str) -> bool:
    """True for a source file of neither Python, torch, this package nor what it works with."""
    if file.startswith("<"):
        return False
    path = Path(file).resolve()
    installed = any(part in _INSTALLED for part in path.parts)
    if installed and _TOOLS & set(path.parts):
        return False
    if not installed and path.is_relative_to(_STANDARD):
        return False
    return not path.is_relative_to(_OURS) and not path.is_relative_to(_TORCH)


def code_digest(factory: Any, module: Any, used: Used) -> str:
    """sha256 over what made a module besides its weights: the source files of its factory and its
    classes, and all that they used (``exporter.models.factory_uses``).

    Weights alone do not tell a corrected model from the one before.
    """
    names = {factory.__module__, *(type(part).__module__ for part in module.modules())} | _marked()
    digest = hashlib.sha256()
    counted = set()
    for name in sorted(names):
        source_module: ModuleType | None = sys.modules.get(name)
        file = getattr(source_module, "__file__", None)
        if file and is_users(file) and Path(file).is_file():
            digest.update(f"{name}|".encode() + Path(file).read_bytes())
            counted.add(name)
    digest.update(used.digest(counted).encode())
    return digest.hexdigest()
