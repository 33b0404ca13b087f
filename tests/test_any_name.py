"""Names of any language, under any locale and terminal; what is no text is refused in words."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tiny_run import TinyRun

ROOT = Path(__file__).resolve().parents[1]
NAMES = ["é à ü", "模型 语音", "🎙️ emoji", "-leading dash", "a b", "x" * 200, "Ωμέγα'\"$x"]
PLAIN = {"LC_ALL": "C.UTF-8"}
LOCALES = {
    "C, no UTF-8 mode": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "POSIX": {"LC_ALL": "POSIX"},
    "ASCII terminal": {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii"},
    "strict ASCII terminal": {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii:strict"},
    "Latin-1 terminal": {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "latin-1"},
}


def _command(*words: str | bytes, cwd: Path, **environment: str) -> tuple[int, str, str]:
    held = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONUTF8"))}
    done = subprocess.run(
        [sys.executable, "-m", "exporter", *words],
        cwd=cwd,
        env={**held, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
    )
    return (
        done.returncode,
        done.stdout.decode(errors="replace"),
        done.stderr.decode(errors="replace"),
    )


@pytest.mark.parametrize("locale", LOCALES)
def test_what_is_named_in_any_language_is_found_and_shown(
    tmp_path: Path, tiny_run: TinyRun, locale: str
):
    """A report and a file with an accent in their names: rendered, inspected."""
    folder = tmp_path / "modèle 语音"
    folder.mkdir()
    shutil.copy(tiny_run.model_path, folder / "fichier é.onnx")
    code, out, err = _command(
        "inspect", "modèle 语音/fichier é.onnx", cwd=tmp_path, **LOCALES[locale]
    )
    assert code == 0, err
    assert "certified PASS" in out and "Traceback" not in err


@pytest.mark.parametrize("name", NAMES)
def test_every_name_can_be_used(tmp_path: Path, tiny_run: TinyRun, name: str):
    for path in ("report.json", "model.onnx", "exported.onnx"):
        (tmp_path / name).mkdir(exist_ok=True)
        shutil.copy(tiny_run.folder / path, tmp_path / name / path)
    junit = f"{name}.xml"
    words = ["report", "--quiet", "--junit", junit, "--", name]
    code, _, err = _command(*words, cwd=tmp_path, **LOCALES["C, no UTF-8 mode"])
    assert code in (0, 1) and "Traceback" not in err, err
    assert (tmp_path / junit).is_file() and (tmp_path / name / "report.html").is_file()


def test_an_error_names_the_file_in_any_terminal(tmp_path: Path):
    (tmp_path / "modèle 语音.yaml").write_text("name: [", encoding="utf-8")
    for environment in LOCALES.values():
        code, _, err = _command("run", "modèle 语音.yaml", cwd=tmp_path, **environment)
        assert code == 2 and err.startswith("error: mod"), err


@pytest.mark.parametrize("where", ["pipeline", "output", "inspect", "audio", "junit"])
def test_bytes_that_are_no_text_are_refused_in_words(tmp_path: Path, tiny_run: TinyRun, where: str):
    odd = os.fsencode(tmp_path) + b"/\xff\xfe"
    pipeline = str(ROOT / "pipelines" / "silero_vad_tiny.yaml")
    shutil.copy(ROOT / "pipelines" / "silero_vad_tiny.yaml", odd)
    run = [b"run", pipeline.encode(), b"--output-dir", os.fsencode(tmp_path / "out")]
    words = {
        "pipeline": [b"run", odd],
        "output": [*run[:3], odd + b"2"],
        "inspect": [b"inspect", odd],
        "audio": [*run, b"--audio", odd],
        "junit": [b"report", os.fsencode(tiny_run.folder), b"--junit", odd + b"3/a.xml"],
    }[where]
    for environment in (PLAIN, LOCALES["C, no UTF-8 mode"]):
        code, _, err = _command(*words, cwd=tmp_path, **environment)
        assert code == 2, err
        assert "not text in UTF-8" in err and "Traceback" not in err


def test_numba_may_be_told_not_to_compile():
    code = (
        "import numpy as np; from exporter.parity.one_pass import _loops; "
        "x = np.ones(9, np.float32); "
        "y = np.zeros(9, np.float32); "
        "print(_loops().compare_pair(x, x), _loops().compare_pair(x, y))"
    )
    held = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=held, capture_output=True, text=True)
    assert done.stdout == "0 1\n", done.stderr
