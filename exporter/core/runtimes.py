"""Which distribution of onnxruntime is installed: any one of them will do, two break each other.

All of them write into one folder ``onnxruntime``. Where two are installed, its files are those of
whichever came last, and taking one away leaves holes.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata

from exporter.core.errors import MissingPackageError

RUNTIMES = tuple(
    "onnxruntime onnxruntime-gpu onnxruntime-directml onnxruntime-openvino onnxruntime-qnn"
    " onnxruntime-training onnxruntime-silicon".split()
)


def installed_runtimes(version: Callable[[str], str] = metadata.version) -> dict[str, str]:
    """Distributions of onnxruntime that are installed, with their versions."""
    found = {}
    for name in RUNTIMES:
        try:
            found[name] = version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def refuse_two_runtimes(found: dict[str, str] | None = None) -> None:
    """Stop before the folder that two distributions share is imported.

    Raises:
        MissingPackageError: more than one is installed.
    """
    found = installed_runtimes() if found is None else found
    if len(found) > 1:
        names = " and ".join(f"{name} {version}" for name, version in found.items())
        raise MissingPackageError(
            f"{names} are both installed; they overwrite each other's files",
            remedy=f"pip uninstall -y {' '.join(found)}, then install one of them",
        )
