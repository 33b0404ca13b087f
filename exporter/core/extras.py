"""What an installation may lack: which package is in which extra, and what a user types to get it.

The core is what a model of one's own needs. Everything else is an extra of pyproject.toml, and
``tests/test_extras.py`` holds the two against each other.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from exporter.core.errors import MissingPackageError

DISTRIBUTION = "export-verify"
CORE = {
    "torch": "torch",
    "onnx": "onnx",
    "onnx_ir": "onnx-ir",
    "onnxscript": "onnxscript",
    "onnxsim": "onnxsim",
    "safetensors": "safetensors",
    "numpy": "numpy",
}
"""Modules of the core -> what is installed when one is missing all the same."""
EXTRAS = {
    "onnxruntime": "cpu",
    "funasr": "funasr",
    "silero_vad": "silero",
    "soundfile": "audio",
    "kaldiio": "audio",
    "bokeh": "report",
    "itables": "report",
    "numba": "fast",
    "huggingface_hub": "hub",
    "jiwer": "text",
    "sentencepiece": "text",
    "tokenizers": "text",
    "pandas": "dataframe",
    "kaldi_native_fbank": "features",
    "librosa": "features",
    "scipy": "lower",
    "soxr": "features",
    "covertable": "matrix",
    "dask": "matrix",
    "distributed": "matrix",
    "packaging": "matrix",
    "psutil": "matrix",
    "prometheus_client": "monitor",
}
"""Modules outside of the core -> the extra that brings them."""
_WITHOUT_TORCH = (
    "'inspect', 'golden check --onnx FILE', 'compare', 'judge' and 'report' need no PyTorch"
)


def install(module: str) -> str:
    """The command that installs what ``import module`` needs.

    Raises:
        KeyError: it is in no extra and not in the core.
    """
    if module == "onnxruntime":
        return f"{_pip('cpu')}, or '{DISTRIBUTION}[gpu]' for CUDA: one of them, not both"
    extra = EXTRAS.get(module)
    return f"pip install {CORE[module]}" if extra is None else _pip(extra)


def _pip(extra: str) -> str:
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def is_there(module: str) -> bool:
    """True when ``import module`` would find something; nothing is imported."""
    return find_spec(module) is not None


def need(module: str, *, who: str, where: str | None = None) -> None:
    """Stop where a module is missing, before it is imported.

    Args:
        who: what cannot do without it, the beginning of a sentence.

    Raises:
        MissingPackageError: it is missing; says what to type.
    """
    if not is_there(module):
        raise MissingPackageError(
            f"{who} needs the package {module.replace('_', '-')}, which is not installed here",
            where=where,
            remedy=f"install it with: {install(module)}",
        )


def folder_of(module: str, *, who: str) -> Path:
    """Where a package lies that is not to be imported: only its files are wanted.

    Raises:
        MissingPackageError: as ``need``.
    """
    need(module, who=who)
    spec = find_spec(module)
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise MissingPackageError(
            f"{who} needs the package {module}, and what is installed under this name is none",
            remedy=f"take it away, then install it with: {install(module)}",
        )
    return Path(folders[0])


def missing_package(error: BaseException) -> MissingPackageError | None:
    """What to tell a user whose installation lacks a package that a command needs; else ``None``.

    An import inside of a package that is installed is no such case: then something is broken.
    """
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    if name is None or (name not in CORE and name not in EXTRAS):
        return None
    more = f"; {_WITHOUT_TORCH}" if name == "torch" else ""
    shown = "PyTorch" if name == "torch" else name.replace("_", "-")
    return MissingPackageError(
        f"{shown} is not installed here, and this command needs it",
        remedy=f"install it with: {install(name)}{more}",
    )
