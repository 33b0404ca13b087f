"""Inputs that carry state: a case that does not give them starts at the beginning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporter.cases.load import load_cases
from exporter.config import load_pipeline
from exporter.core.errors import ConfigError
from exporter.core.tensors import Axis, TensorSpec

YAML = """
name: stream
model: {kind: silero_vad}
outputs: [speech_probs]
cases:
  - {name: fresh, random: {waveform: {kind: normal, seed: 1, num_samples: 1024}}}
  - name: warm
    random:
      waveform: {kind: normal, seed: 1, num_samples: 1024}
      state: {kind: normal, seed: 2}
      kept: {kind: constant, value: 2, num_samples: 7}
default_case: fresh
"""
WAVEFORM = TensorSpec(
    name="waveform", dtype="float32", shape=("num_samples",), axes=(Axis(name="num_samples"),)
)
STATE = TensorSpec(name="state", dtype="float32", shape=(2, 1, 8), initial=0.0)
KEPT = TensorSpec(
    name="kept",
    dtype="float32",
    shape=("num_kept",),
    axes=(Axis(name="num_kept", minimum=0),),
    initial=0.0,
)


def loaded(tmp_path: Path, name: str, *inputs: TensorSpec) -> dict[str, np.ndarray]:
    file = tmp_path / "stream.yaml"
    file.write_text(YAML, encoding="utf-8")
    (case,) = load_cases(load_pipeline(file), inputs, (name,))
    return dict(case.inputs)


def test_state_that_a_case_does_not_give_is_its_initial_value(tmp_path: Path) -> None:
    found = loaded(tmp_path, "fresh", WAVEFORM, STATE, KEPT)
    assert found["state"].shape == (2, 1, 8) and not found["state"].any()
    assert found["kept"].shape == (0,) and found["kept"].dtype == np.float32


def test_a_case_can_give_a_state(tmp_path: Path) -> None:
    found = loaded(tmp_path, "warm", WAVEFORM, STATE, KEPT)
    assert found["state"].std() > 0.1
    assert found["kept"].tolist() == [2.0] * 7


def test_an_input_without_initial_value_is_still_demanded(tmp_path: Path) -> None:
    plain = TensorSpec(name="state", dtype="float32", shape=(2, 1, 8))
    with pytest.raises(ConfigError, match="gives no value for the input 'state'"):
        loaded(tmp_path, "fresh", WAVEFORM, plain)
