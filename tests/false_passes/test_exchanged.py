"""Inputs that change places: values that are equal by default would hide it."""

from __future__ import annotations

from pathlib import Path

from tests.false_passes.project import YAML, told, write
from tests.false_passes.way import Told, way

CODE = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(W, W)
    def forward(self, x, caches):
        a, b = caches
        if torch.compiler.is_exporting():
            a, b = b, a
        return self.mix(x), [a + 0, 2 * b]
"""
INPUTS = (
    "  cache0: {dtype: float32, shape: [batch, 8]}\n  cache1: {dtype: float32, shape: [batch, 8]}"
)


def _yaml(inputs: str) -> str:
    return YAML.replace("axes:", f"{inputs}\naxes:").replace("[y]", "[y, next0, next1]")


@way("two caches that no case gives are exchanged while it is exported", says="is not the module")
def test_exchanged_caches(tmp_path: Path) -> Told:
    return told(write(tmp_path / "caches", CODE, _yaml(INPUTS)))


@way("the same, both drawn by the same words", says="is not the module")
def test_exchanged_draws(tmp_path: Path) -> Told:
    drawn = INPUTS.replace("8]}", "8], draw: {kind: uniform}}")
    return told(write(tmp_path / "draws", CODE, _yaml(drawn)))


@way("two states, which both begin with zeros, are exchanged", says="is not the module")
def test_exchanged_states(tmp_path: Path) -> Told:
    states = "states: {next0: cache0, next1: cache1}\n"
    return told(write(tmp_path / "states", CODE, _yaml(INPUTS) + states))


@way("two caches that a case draws with the same seed are exchanged", says="is not the module")
def test_exchanged_seeds(tmp_path: Path) -> Told:
    drawn = ", ".join(f"cache{n}: {{kind: normal, seed: 1}}" for n in (0, 1))
    yaml = _yaml(INPUTS).replace("frames: 50}}", f"frames: 50}}}}, {drawn}")
    return told(write(tmp_path / "seeds", CODE, yaml))
