"""Upstream's models, loaded once, and torch's thread count as it was found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from exporter.speech.vad import SileroVad


@pytest.fixture(scope="session")
def official_vad() -> Iterator[torch.nn.Module]:
    """``silero_vad.load_silero_vad()``; importing it sets torch to one thread."""
    threads = torch.get_num_threads()
    from silero_vad import load_silero_vad

    yield load_silero_vad()
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def vad() -> SileroVad:
    return SileroVad.from_package(16000)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield
