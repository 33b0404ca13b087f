"""Every reader, given bytes that atheris finds: what reaches a new branch is changed further."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.corpus import ARRAYS, AUDIO, RUN, TENSORS, TOY, make_corpus
from tests.fuzz.test_fuzz import READERS

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="atheris is installed on Linux only"),
]
HEALTHY = {
    "x.yaml": f"{TOY}/toy.yaml",
    "config.yaml": "sensevoice/config.yaml",
    "report.json": f"{TOY}/{RUN}/report.json",
    "taps.json": f"{TOY}/{RUN}/taps.json",
    "ops.json": f"{TOY}/{RUN}/program/ops.json",
    "manifest.json": f"{TOY}/golden/toy/manifest.json",
    "model.onnx": f"{TOY}/{RUN}/model.onnx",
    "model.pt": f"{TENSORS}/toy.pt",
    "x.safetensors": f"{TENSORS}/toy.safetensors",
    "am.mvn": "sensevoice/am.mvn",
    "x.wav": f"{AUDIO}/mono.wav",
    "array.npy": f"{ARRAYS}/x.npy",
    "array.npz": f"{ARRAYS}/x.npz",
    "array.safetensors": f"{ARRAYS}/x.safetensors",
    "array.ark": f"{ARRAYS}/packed.ark",
}
"""What each reader's inputs begin with, below the corpus."""
SECONDS, LEAST = 12, 50


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus") / "corpus")


def fuzz(name: str, begin: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "tests.fuzz.coverage_guided", name, str(begin)]
    # A process counts the most memory that the one had which started it.
    most = 4096 + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    command += [f"-max_total_time={SECONDS}", "-seed=1", f"-rss_limit_mb={most}", "-timeout=60"]
    command += ["-malloc_limit_mb=4096"]
    done = subprocess.run(
        [*command, "-max_len=200000", f"-artifact_prefix={begin}/"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", READERS)
def test_nothing_but_sentences(tmp_path: Path, corpus: Path, name: str):
    begin = tmp_path / "begin"
    begin.mkdir()
    shutil.copy(corpus / HEALTHY[name], begin / "healthy")
    code, said = fuzz(name, begin)
    assert code == 0, said[-4000:]
    runs = next(line for line in said.splitlines() if line.startswith("Done "))
    assert int(runs.split()[1]) >= LEAST, runs


def test_an_exception_is_found(tmp_path: Path):
    code, said = fuzz("planted", tmp_path)
    assert code != 0
    assert "ZeroDivisionError" in said
