"""The command line with systems: what is refused, and a whole run of a small one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporter.cli import main
from tests.config.test_load_system import written

SYSTEMS = Path(__file__).resolve().parents[2] / "pipelines" / "systems"


@pytest.fixture
def called(capsys):
    def of(*words: object) -> tuple[int, str]:
        code = main([str(word) for word in words])
        held = capsys.readouterr()
        return code, held.out + held.err

    return of


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "SYSTEM"), "--trust"),
        (("run", "SYSTEM", "--trust", "--case", "none"), "no case 'none'"),
        (("run", "SYSTEM", "--trust", "--weights", "w.pt"), "--weights is for a single pipeline"),
        (("run", "SYSTEM", "--trust", "--manifest", "none.jsonl"), "cannot be read"),
        (("run", "PIPELINE", "--trust", "--manifest", "m.jsonl"), "--manifest is for a system"),
        (("verify", "SYSTEM", "--trust", "--onnx", "first.onnx"), "GRAPH=FILE"),
        (("verify", "SYSTEM", "--trust", "--onnx", "third=OWN"), "there is no graph 'third'"),
        (("verify", "PIPELINE", "--trust", "--onnx", "a", "--onnx", "b"), "give the option once"),
        (("check", "SYSTEM", "--trust"), "name one of them"),
    ],
)
def test_what_cannot_be_done_is_said(called, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path)
    names = {"SYSTEM": path, "PIPELINE": tmp_path / "second.yaml", "third=OWN": f"third={path}"}
    code, output = called(*(names.get(word, word) for word in words))
    assert (code, said in output) == (2, True), output


@pytest.mark.slow
def test_a_small_system_runs_with_a_manifest_and_is_verified(called, tmp_path):
    yaml = SYSTEMS / "ctc_tiny.yaml"
    manifest = tmp_path / "m.jsonl"
    sound = SYSTEMS.parents[1] / "golden" / "audio" / "english.wav"
    manifest.write_text(json.dumps({"audio": str(sound), "text": "x", "room": "hall"}) + "\n")
    folder = tmp_path / "out"
    ends = ("--trust", "--output-dir", folder, "--threads", 1, "-q")
    code, output = called("run", yaml, "--manifest", manifest, *ends)
    assert code == 0 and "PASS" in output, output
    report = json.loads((folder / "system.json").read_text())
    assert report["manifest"]["done"] == 1
    assert (folder / "recogniser" / "report.html").is_file()
    own = folder / "recogniser" / "model.onnx"
    code, output = called("verify", yaml, "--onnx", f"recogniser={own}", *ends)
    assert code == 0, output
    assert json.loads((folder / "system.json").read_text())["graphs"][0]["folder"].endswith(
        "verify"
    )
