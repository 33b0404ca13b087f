"""Whatever lies in a file, its reader gives a value, a verdict or one sentence with a remedy.

The seeds are those of ``scripts/fuzz_readers.py``: an input that failed there can be named here.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.cases.array_file import read_array
from exporter.cases.audio import read_waveform
from exporter.config import load_pipeline
from exporter.config.foreign_yaml import read_foreign_yaml
from exporter.core.errors import UserInputError
from exporter.core.reading import Door
from exporter.flows.inspect import inspect
from exporter.golden.store import read_golden
from exporter.graph.program_file import OPS_FILE, load_program
from exporter.graph.taps import read_taps
from exporter.models.weights import read_model_pt, read_safetensors
from exporter.report.schema import read_report
from exporter.speech.cmvn import read_am_mvn
from tests.fuzz.corpus import make_corpus
from tests.fuzz.kinds import KINDS
from tests.fuzz.mutate import changed_bytes, changed_tree
from tests.fuzz.worker import attempt

DOOR = Door(error=UserInputError, says="cannot be read", remedy="give another one")


def _array(path: Path) -> object:
    return read_array(path, None)


READERS = {
    "x.yaml": load_pipeline,
    "config.yaml": lambda path: read_foreign_yaml(DOOR, path),
    "report.json": read_report,
    "taps.json": read_taps,
    OPS_FILE: lambda path: load_program(path.parent),
    "manifest.json": lambda path: read_golden(path.parent),
    "model.onnx": inspect,
    "model.pt": read_model_pt,
    "x.safetensors": read_safetensors,
    "am.mvn": read_am_mvn,
    "x.wav": lambda path: read_waveform(path, 16000),
    **{f"array.{kind}": _array for kind in ("npy", "npz", "safetensors", "ark")},
}
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["aten.add.Tensor", "1.0", "format", "float32", "ref", "nan"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["format", "ops", "taps", "schema_version", "name", "model", "cases"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)
QUICK = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def refused_or_read(name: str, folder: Path, data: bytes) -> None:
    """Read the bytes as the file of a name; anything but a sentence for the user fails."""
    path = folder / name
    path.write_bytes(data)
    try:
        READERS[name](path)
    except UserInputError as error:
        assert error.problem


@pytest.mark.parametrize("name", READERS)
@QUICK
@given(data=st.binary(max_size=200))
def test_bytes_of_any_kind(tmp_path: Path, name: str, data: bytes):
    refused_or_read(name, tmp_path, data)


@pytest.mark.parametrize("name", [name for name in READERS if name.endswith(("json", "yaml"))])
@QUICK
@given(value=PLAIN)
def test_values_of_any_type(tmp_path: Path, name: str, value: object):
    refused_or_read(name, tmp_path, json.dumps(value).encode())


SAVED = Path(__file__).resolve().parents[2] / "golden" / "silero_vad_tiny" / "manifest.json"


@QUICK
@given(seed=st.integers(0, 2**32))
def test_a_golden_with_another_value_anywhere(tmp_path: Path, seed: int):
    draw = Random(seed)
    tree = changed_tree(draw, json.loads(SAVED.read_text()))
    refused_or_read("manifest.json", tmp_path, json.dumps(tree).encode())


@QUICK
@given(seed=st.integers(0, 2**32))
def test_a_golden_with_other_bytes_anywhere(tmp_path: Path, seed: int):
    refused_or_read("manifest.json", tmp_path, changed_bytes(Random(seed), SAVED.read_bytes()))


# Inputs that once ended in an exception, or never: seeds by kind.
FAILED_BY_KIND = {
    "golden": [5, 12, 119, 164, 175],
    "program": [11, 17, 24, 88, 106],
    "checkpoint": [0, 55, 188, 31_000_148],
    "tensors": [19, 102],
    "yaml": [22, 124, 228, 286, 302, 515, 33_000_069],
    "audio": [79, 11_000_043],
    "golden check": [2, 24, 65, 71, 1_000_044, 5_000_013, 33_000_005],
    "verify": [35, 67, 68, 108, 111],
    "debug": [27, 97, 31_000_099, 32_000_025, 771_129_000_207],
    "inspect": [771_129_000_482, 16_000_155, 281_104_000_360],
    "alone": [4_000_040, 16_000_032],
    "strange": [501_129_000_184, 2_811_290_000_000_175],
    "compare": [501_129_000_073, 501_130_000_042, 2_811_290_000_000_065, 2_811_290_000_000_087],
    "report": [40, 11_000_038, 31_000_050],
}
FAILED = [(kind, seed) for kind, seeds in FAILED_BY_KIND.items() for seed in seeds]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus") / "corpus")


SLOW = ("verify", "debug", "compare", "strange")
"""Kinds of which the sweep alone tries more than those that have failed."""


def ended(kind: str, seed: int, corpus: Path, work: Path) -> tuple[int, str]:
    home = Path.cwd()
    try:
        return attempt(kind, seed, corpus, work)
    finally:
        os.chdir(home)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), FAILED)
def test_what_failed_once(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, seed: int
):
    monkeypatch.setenv("EXPORT_VERIFY_TRIAL_SECONDS", "20")
    code, said = ended(kind, seed, corpus, tmp_path)
    assert code in (0, 1, 2), said


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in SLOW])
def test_a_few_of_every_kind(corpus: Path, tmp_path: Path, kind: str):
    codes: Counter[int] = Counter()
    for seed in range(900_000, 900_020):
        work = tmp_path / str(seed)
        work.mkdir()
        code, said = ended(kind, seed, corpus, work)
        assert code in (0, 1, 2), f"{kind}:{seed}: {said}"
        codes[code] += 1
    assert codes[2], "nothing was refused: is anything damaged at all?"
