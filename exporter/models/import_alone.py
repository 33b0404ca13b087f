"""Import one module of an upstream package without running the package's own ``__init__``.

FunASR's imports every one of its 400 modules, and with them transformers, numba and sklearn: more
than four seconds, for a model that needs 30 of them. Whoever imports the package itself later on
still gets all of it: this leaves the package unimported.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any


def import_alone(name: str) -> Any:
    """Import ``package.part.module``; ``package`` is left as it was, imported or not.

    Where the module cannot be imported so (its package's ``__init__`` makes what it needs), it is
    imported as usual.

    Raises:
        ImportError: it cannot be imported as usual either.
    """
    package = name.partition(".")[0]
    # What is imported already is not made again, and what is no source file has no __init__.
    spec = None if package in sys.modules else PathFinder.find_spec(package)
    if name in sys.modules or spec is None or not isinstance(spec.loader, SourceFileLoader):
        return importlib.import_module(name)
    known = set(sys.modules)
    stand_in = module_from_spec(spec)
    stand_in.__class__ = _StandIn
    sys.modules[package] = stand_in
    try:
        return importlib.import_module(name)
    except Exception:  # noqa: BLE001 - whatever it was, the usual way says it better or not at all
        for half in set(sys.modules) - known:
            if half.startswith(f"{package}."):
                del sys.modules[half]
        del sys.modules[package]
        return importlib.import_module(name)
    finally:
        if sys.modules.get(package) is stand_in:
            del sys.modules[package]
            _expect(package)


class _StandIn(ModuleType):
    """The package while it is not imported; modules that hold it get from it what it really has."""

    def __getattr__(self, attribute: str) -> Any:
        package = self.__name__
        if sys.modules.get(package) is self:
            raise AttributeError(f"'{package}' is not imported, and has no '{attribute}' yet")
        return getattr(importlib.import_module(package), attribute)


class _WithLoadedParts(SourceFileLoader):
    """Gives a package the modules of it that were there before it: an import would have."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        made = ModuleType(spec.name)
        for name, part in sys.modules.items():
            parent, _, child = name.rpartition(".")
            if parent == spec.name:
                setattr(made, child, part)
        return made


class _Expected:
    """Finds a package the first time that it is really imported."""

    def __init__(self, package: str):
        self.package = package

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self.package:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _WithLoadedParts(spec.loader.name, spec.loader.path)
        return spec


def _expect(package: str) -> None:
    if not any(isinstance(f, _Expected) and f.package == package for f in sys.meta_path):
        sys.meta_path.insert(0, _Expected(package))
