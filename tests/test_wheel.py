"""The wheel, built and installed into an empty environment, does what the own-model page says."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.test_your_own_model import command, follow_the_page

ROOT = Path(__file__).resolve().parents[1]
MOST_BYTES, MOST_BESIDE_TORCH = 1.4e9, 0.64e9
"""Of all, with torch's build for the CPU; and of what is not torch's, whichever build pip finds."""
MOST_DISTRIBUTIONS = 31
TORCH = "torch==2.13.0"
OF_CUDA = ("nvidia-", "cuda-", "triton")
"""Heads of the names of what torch's build for CUDA brings."""
SIZES = """
import importlib.metadata, json
sizes = {}
for held in importlib.metadata.distributions():
    name = held.name.lower().replace("_", "-")
    sizes[name] = sum(p.stat().st_size for f in held.files or () if (p := f.locate()).is_file())
print(json.dumps(sizes))
"""


def said(*words: str | Path, cwd: Path, ok: bool = True) -> str:
    """Standard output of a command, without this repository on Python's path."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert (done.returncode == 0) == ok, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout if ok else done.stderr


def built(folder: Path) -> Path:
    said(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def bytes_of(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


@pytest.mark.slow
def test_the_wheel_in_an_empty_environment(tmp_path: Path):
    wheel = built(tmp_path / "dist")
    home = tmp_path / "environment"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    pip = (python, "-m", "pip")
    before = {held["name"] for held in json.loads(said(*pip, "list", "--format", "json", cwd=home))}
    said(*pip, "install", "--quiet", TORCH, cwd=home)
    said(*pip, "install", "--quiet", wheel, cwd=home)

    # The core alone runs nothing, and says what it lacks.
    work = tmp_path / "empty"
    work.mkdir()
    program = home / "bin" / "export-verify"
    refused = said(program, "run", "silero_vad_tiny", cwd=work, ok=False)
    assert "export-verify[cpu]" in refused and "Traceback" not in refused

    said(*pip, "install", "--quiet", f"{wheel}[cpu]", cwd=home)
    said(*pip, "check", cwd=home)
    after = {held["name"] for held in json.loads(said(*pip, "list", "--format", "json", cwd=home))}
    brought = sorted(after - before - {"export-verify"} | ({"setuptools"} & before))
    taken = bytes_of(home)
    sizes = json.loads(said(python, "-c", SIZES, cwd=home))
    of_torch = sum(n for name, n in sizes.items() if name == "torch" or name.startswith(OF_CUDA))
    own_bytes = taken - of_torch
    print(f"{len(brought)} distributions, {taken / 1e9:.2f} GB, {own_bytes / 1e9:.2f} GB of it not"
          f" torch's: {', '.join(brought)}")  # fmt: skip
    assert 0 < own_bytes < taken
    own = [name for name in brought if not name.startswith(OF_CUDA)]
    assert len(own) <= MOST_DISTRIBUTIONS, own

    # Pipelines, their recordings and the schema are found by name, from any folder.
    assert "export-verify[silero]" in said(program, "run", "silero_vad_tiny", cwd=work, ok=False)
    assert "export-verify[funasr]" in said(program, "run", "sensevoice_tiny", cwd=work, ok=False)
    assert "sensevoice_tiny" in said(program, "list", cwd=work)
    listed = json.loads(said(program, "list", "--format", "json", cwd=work))["pipelines"]
    assert str(home) in min(listed) and not [v for v in listed.values() if "cannot be used" in v]
    assert json.loads(said(program, "schema", cwd=work))["title"]
    doctor = json.loads(said(program, "doctor", "--format", "json", cwd=work))
    assert not [held for held in doctor if held["wrong"]]

    here = functools.partial(command, program=(str(program),), path="")
    follow_the_page(tmp_path / "own", here)
    made = {p.name for p in (tmp_path / "own" / "runs" / "little_conformer").iterdir()}
    assert "report.md" in made and "report.html" not in made

    assert own_bytes <= MOST_BESIDE_TORCH
    if own == brought:  # else pip's torch is the build for CUDA, of which nothing is promised
        assert taken <= MOST_BYTES
