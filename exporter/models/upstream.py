"""Import upstream packages without their side effects on the process."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType

import torch

from exporter.core.errors import MissingPackageError
from exporter.core.extras import install

FUNASR = ("funasr", install("funasr"))
"""The package, and how it is installed."""


@contextlib.contextmanager
def quiet_upstream() -> Iterator[None]:
    """Keep screen, root logger and thread count as they are while upstream code runs.

    FunASR prints notices about ffmpeg when it is imported and sets the root logger to INFO;
    silero-vad and FunASR's ``AutoModel`` set torch's thread count for the whole process;
    SpeechBrain leaves placeholders among the modules (see ``settle_placeholders``).
    Errors pass through.
    """
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    threads, known = torch.get_num_threads(), set(sys.modules)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        settle_placeholders(set(sys.modules) - known)
        root.setLevel(level)
        root.handlers[:] = handlers
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


@contextlib.contextmanager
def upstream_package(who: str, package: str, install: str) -> Iterator[None]:
    """As ``quiet_upstream``, for a block that imports a package which need not be there.

    Raises:
        MissingPackageError: it is not, or lacks what it needs itself; says how to install it.
    """
    try:
        with quiet_upstream():
            yield
    except (ImportError, OSError) as error:  # OSError: torchaudio's library of another torch
        what = f"{who} needs the package {package} ({error})"
        raise MissingPackageError(what, remedy=f"install it with: {install}") from error


def settle_placeholders(names: set[str]) -> None:
    """Let everybody ask the modules of these ``names`` for their file.

    SpeechBrain's placeholders import what they stand for when they are asked for any attribute,
    and raise where that is not installed (k2, flair, spacy). Whoever looks through all modules
    (hypothesis, inspect) asks for ``__file__``; it is None from here on, as for a namespace.
    """
    for name in names:
        module = sys.modules.get(name)
        kind = type(module)
        # A class of its own, which gives no file: a module that answers by itself (torch.ops) does.
        if (
            isinstance(module, ModuleType)
            and kind is not ModuleType
            and "__file__" not in dir(kind)
        ):
            module.__dict__.setdefault("__file__", None)
