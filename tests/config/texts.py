"""A smallest pipeline as YAML text, and loading a text with what it extends."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.config import Pipeline, load_pipeline
from exporter.core.errors import ConfigError

SMALLEST = """\
name: x
model: {kind: sensevoice}
outputs: [tokens]
cases: [{name: c, random: {waveform: {kind: normal, num_samples: 100}}}]
default_case: c
"""
"""Five lines; what a test adds stands in line 6."""


def write(folder: Path, text: str, name: str = "x.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, added: str = "", **others: str) -> Pipeline:
    """Load ``SMALLEST`` with lines added; ``others`` are further files, ``name=text``."""
    for name, text in others.items():
        write(folder, text, f"{name}.yaml")
    return load_pipeline(write(folder, SMALLEST + added))


def refused(path: Path) -> str:
    """Return the message of the ``ConfigError`` that loading a file raises."""
    with pytest.raises(ConfigError) as caught:
        load_pipeline(path)
    return str(caught.value)
