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
    installed = {}
    for name in RUNTIMES:
        try:
            installed[name] = version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def refuse_two_runtimes(installed: dict[str, str] | None = None) -> None:
    """Stop before the folder that two distributions share is imported.

    Raises:
        MissingPackageError: more than one is installed.
    """
    installed = installed_runtimes() if installed is None else installed
    if len(installed) > 1:
        names = " and ".join(f"{name} {version}" for name, version in installed.items())
        raise MissingPackageError(
            f"{names} are both installed; they overwrite each other's files",
            remedy=f"pip uninstall -y {' '.join(installed)}, then install one of them",
        )
