"""Names of any language, under any locale and terminal; what is no text is refused in words."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.config import load_pipeline
from exporter.config.run_options import RunOptions
from exporter.flows.prepare import prepare
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


@pytest.mark.parametrize(
    "names",
    [["录音.wav", "语音.wav"], ["é.wav"], ["a b.wav", "a?b.wav"], ["٣.wav"], ["plain.wav"]],
)
def test_a_recording_may_have_any_name(tmp_path: Path, names: list[str]):
    """A case is made of it, whose name is one that a YAML could give."""
    paths = [tmp_path / name for name in names]
    for path in paths:
        path.write_bytes(b"")
    pipeline = load_pipeline(ROOT / "pipelines" / "silero_vad_tiny.yaml")
    ready = prepare(pipeline, RunOptions(audio=(*paths, paths[0]), output_dir=tmp_path / "out"))
    made = ready.cases[-len(names) :]
    assert len(set(made)) == len(names)
    assert all(name.isascii() for name in made)
    assert names != ["plain.wav"] or made == ("audio_plain",)


ALL_COMMANDS = """\
import json, sys
from exporter.cli import main

codes = {}
for words in json.loads(sys.argv[1]):
    codes[" ".join(words[:2])] = main(words)
open("codes.json", "w").write(json.dumps(codes))
"""


@pytest.mark.slow
def test_every_command_where_no_path_is_ascii(tmp_path: Path):
    """Pipeline, checkpoint, output, golden, JUnit; as it is after a start under the C locale."""
    import torch
    from safetensors.torch import save_file

    from tests.support import toy_project

    folder = tmp_path / "modèle 语音"
    toy_project.project(folder)
    (folder / "poids 权重").mkdir()
    found: dict[str, object] = {}
    exec(toy_project.MODULE, found)
    state = {name: torch.ones_like(v) / 9 for name, v in found["Net"]().state_dict().items()}  # type: ignore[operator]
    save_file(state, folder / "poids 权重" / "modèle.safetensors")
    text = toy_project.YAML.replace(
        '"toy_model:build"}', '"toy_model:build", weights: "poids 权重/modèle.safetensors"}'
    )
    (folder / "réseau 网络.yaml").write_text(text, encoding="utf-8")
    pipeline = ["réseau 网络.yaml", "--trust", "--output-dir", "sortie 输出", "-q"]
    golden = ["--golden-dir", "référence 黄金"]
    words = [
        ["run", *pipeline],
        ["verify", *pipeline, "--onnx", "sortie 输出/model.onnx"],
        ["check", *pipeline, "--contract", "determinism"],
        ["golden", "record", *pipeline, *golden, "--reason", "à 真"],
        ["golden", "check", *pipeline, *golden, "--onnx", "sortie 输出/model.onnx"],
        ["golden", "list", *golden],
        ["debug", *pipeline, "--layer", "model.blocks.0"],
        ["judge", "sortie 输出"],
        ["report", "sortie 输出", "--junit", "rapport é.xml"],
        ["explain", "sortie 输出"],
        ["inspect", "sortie 输出/model.onnx"],
    ]
    held = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C", "PYTHONUTF8": "1"}
    held |= {
        "PYTHONIOENCODING": "ascii:strict",
        "EXPORT_VERIFY_CACHE": str(tmp_path / "cache 缓存"),
    }
    done = subprocess.run(
        [sys.executable, "-c", ALL_COMMANDS, json.dumps(words)],
        cwd=folder,
        env=held,
        capture_output=True,
        text=True,
        errors="replace",
    )
    codes = json.loads((folder / "codes.json").read_text())
    assert set(codes.values()) == {0}, f"{codes}\n{done.stderr[-3000:]}"
    assert len(codes) == len({" ".join(held[:2]) for held in words})
    assert (folder / "rapport é.xml").is_file()
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_whole_run_under_the_c_locale_with_a_recording(tmp_path: Path):
    folder = tmp_path / "essai 测试"
    folder.mkdir()
    shutil.copy(ROOT / "golden" / "audio" / "english.wav", folder / "enregistrement 录音.wav")
    pipeline = str(ROOT / "pipelines" / "silero_vad_tiny.yaml")
    words = ["run", pipeline, "--audio", "enregistrement 录音.wav", "--output-dir", "sortie 输出"]
    code, out, err = _command(*words, cwd=folder, **LOCALES["C, no UTF-8 mode"])
    assert code == 0, out + err
    assert "Traceback" not in out + err
    assert (folder / "sortie 输出" / "model.onnx").is_file()
