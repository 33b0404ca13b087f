"""A case whose values a model does not take is the user's to mend: exit 2, place and remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exporter.build.build import users_code
from exporter.cases.load import load_cases
from exporter.cli import main
from exporter.config import load_pipeline
from exporter.core.errors import ConfigError, ModelError
from exporter.core.tensors import Axis, Case, TensorSpec
from exporter.graph.wrap import wrap
from exporter.interpret.eager import on_case, run_eager, run_plain
from exporter.models.metavoice import Settings, input_specs
from tests.support.metavoice import TINY

ROOT = Path(__file__).resolve().parents[1]
LOOKS_UP = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 4)

    def forward(self, ids):
        return self.table(ids)


def build():
    torch.manual_seed(0)
    return Net()
"""
YAML = """\
name: looks_up
model: {factory: "looks_up:build"}
inputs: {ids: {dtype: int64, shape: [batch, steps], draw: {kind: integers, low: 0, high: 10}}}
outputs: [y]
cases:
  - {name: right, random: {ids: {kind: integers, low: 0, high: 10}}}
  - {name: beyond, random: {ids: {kind: integers, low: 10, high: 12}}}
  - {name: below, random: {ids: {kind: integers, low: -5, high: -1}}}
default_case: right
"""


@pytest.fixture
def looks_up(tmp_path: Path) -> Path:
    (tmp_path / "looks_up.py").write_text(LOOKS_UP)
    path = tmp_path / "looks_up.yaml"
    path.write_text(YAML)
    return path


@pytest.mark.parametrize("run", [run_plain, run_eager])
@pytest.mark.parametrize("case", ["beyond", "below"])
def test_a_table_of_a_users_model_has_no_such_row(looks_up: Path, case: str, run):
    pipeline = load_pipeline(looks_up, trust=True)
    wrapped = wrap(pipeline)
    (held,) = load_cases(pipeline, wrapped.inputs, [case])
    with pytest.raises(ModelError) as told, users_code(pipeline), on_case(held):
        run(wrapped.module, wrapped.inputs, wrapped.outputs, held.inputs)
    assert f"on the case '{case}'" in told.value.problem
    assert "index out of range" in told.value.problem
    assert told.value.where == f"{looks_up.with_suffix('.py')}:11"
    assert "give values" in (told.value.remedy or "")


def test_by_command(looks_up: Path, capsys: pytest.CaptureFixture[str]):
    words = [str(looks_up), "--trust", "--output-dir", str(looks_up.parent / "out"), "-q"]
    assert main(["run", *words, "--case", "beyond"]) == 2
    assert "on the case 'beyond'" in capsys.readouterr().err
    assert main(["run", *words]) == 0


def metavoice(folder: Path, case: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(
        f"extends: {ROOT / 'pipelines' / 'metavoice_tiny.yaml'}\nname: mine\n"
        f"model: {{settings: {TINY}}}\ncases:\n  - {case}\ndefault_case: c\n"
    )
    return path


SIZES = "sizes: {batch: 2, num_tokens: 5}"
CACHE = "{kind: silence, sizes: {batch: 2, cache_length: 16}}"
REST = f"speaker: {{kind: normal, sizes: {{batch: 2}}}}, keys: {CACHE}, values: {CACHE}"


@pytest.mark.parametrize(
    ("tokens", "start", "says"),
    [
        ("high: 301, seed: 1, low: 300", 0, "'tokens' holds 300, and the model takes 0 to 299"),
        ("high: 0, low: -1", 0, "'tokens' holds -1"),
        ("high: 300", 64, "'start' holds 64, and the model takes 0 to 63"),
        ("high: 300", -1, "'start' holds -1"),
    ],
)
def test_a_vocabulary_of_ours(tmp_path: Path, tokens: str, start: int, says: str):
    drawn = f"tokens: {{kind: integers, {tokens}, {SIZES}}}"
    case = f"{{name: c, random: {{{drawn}, {REST}}}, inputs: {{start: {start}}}}}"
    pipeline = load_pipeline(metavoice(tmp_path, case))
    with pytest.raises(ConfigError) as told:
        load_cases(pipeline, input_specs(Settings.model_validate(TINY)), ["c"])
    assert says in told.value.problem
    assert "mine.yaml:" in (told.value.where or "")
    assert told.value.remedy


def test_its_last_token_and_its_last_position_are_taken(tmp_path: Path):
    drawn = f"tokens: {{kind: integers, low: 299, high: 300, {SIZES}}}"
    case = f"{{name: c, random: {{{drawn}, {REST}}}, inputs: {{start: 63}}}}"
    pipeline = load_pipeline(metavoice(tmp_path, case))
    (held,) = load_cases(pipeline, input_specs(Settings.model_validate(TINY)), ["c"])
    assert held.inputs["tokens"].max() == 299


class Stops(nn.Module):
    """A model of ours that raises."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> tuple[Tensor]:
        raise self.error


SPEC = TensorSpec(name="x", dtype="float32", shape=("N",), axes=(Axis(name="N"),))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (IndexError("index out of range in self"), ConfigError),
        (RuntimeError("index 24 is out of bounds"), ConfigError),
        (AttributeError("'NoneType' has no attribute"), AttributeError),
        (torch.OutOfMemoryError("no memory"), torch.OutOfMemoryError),
    ],
)
def test_of_a_model_of_ours_values_are_told_from_bugs(error: Exception, expected: type):
    pipeline = load_pipeline(ROOT / "pipelines" / "silero_vad_tiny.yaml")
    case = Case(name=pipeline.cases[0].name, inputs={"x": np.ones(3, np.float32)}, origin="")
    with pytest.raises(expected) as told, users_code(pipeline), on_case(case):
        run_plain(Stops(error), [SPEC], [SPEC], case.inputs)
    if expected is ConfigError:
        assert f"on the case '{case.name}'" in str(told.value)
        assert "cases[0]" in (told.value.where or "")


def test_sizes_for_which_there_is_no_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    text = "extends: {}\nname: mine\nmodel: {{settings: {{lstride: {}}}}}\n"
    path = tmp_path / "mine.yaml"
    base = ROOT / "pipelines" / "fsmn_vad_tiny.yaml"
    path.write_text(text.format(base, 1 << 20))

    def full(*shape: object, **options: object) -> Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")

    monkeypatch.setattr(torch, "randn", full)
    with pytest.raises(ConfigError, match="more memory than this machine") as told:
        wrap(load_pipeline(path))
    assert "model" in (told.value.where or "")


@pytest.mark.parametrize("dtype", ["[float32]", "{a: 1}", "null", "3", "complex"])
def test_a_dtype_that_is_none(tmp_path: Path, dtype: str):
    path = tmp_path / "looks_up.yaml"
    path.write_text(YAML.replace("dtype: int64", f"dtype: {dtype}"))
    with pytest.raises(ConfigError, match="dtype"):
        load_pipeline(path)
