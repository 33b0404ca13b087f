"""Import upstream packages without their side effects on the process."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def quiet_upstream() -> Iterator[None]:
    """Keep screen, root logger and thread count as they are while upstream code runs.

    FunASR prints notices about ffmpeg when it is imported and sets the root logger to INFO;
    silero-vad and FunASR's ``AutoModel`` set torch's thread count for the whole process.
    Errors pass through.
    """
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    threads = torch.get_num_threads()
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
