"""Upstream's models, loaded once, and torch's thread count as it was found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from exporter.speech.vad import SileroVad


@pytest.fixture(scope="session")
def official_vad() -> Any:
    """``silero_vad.load_silero_vad()``."""
    from silero_vad import load_silero_vad

    return load_silero_vad()


@pytest.fixture(scope="session")
def vad() -> SileroVad:
    return SileroVad.from_package(16000)


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """One thread here, and the number that was found afterwards.

    Importing silero_vad sets one thread for the whole process; tests of other packages must not
    depend on whether these ran before them.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield
