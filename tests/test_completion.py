"""Tab offers pipelines, cases, contracts and layers, and loads nothing heavy for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from exporter.commands import _complete
from exporter.report.schema import write_report
from tests.support.reports import layer_fail

ROOT = Path(__file__).resolve().parents[1]


def offered(complete, typed: str, **given) -> list[str]:
    ctx = click.Context(click.Command("run"))
    ctx.params = given
    return complete(ctx, click.Option(["--x"]), typed)


def test_pipelines_are_files_that_lie_here_and_names_that_come_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "silero_mine.yaml").touch()
    (tmp_path / "notes.txt").touch()
    assert offered(_complete.pipelines, "silero_")[0] == "silero_mine.yaml"
    assert "silero_vad_tiny" in offered(_complete.pipelines, "silero_")
    assert "zoo/hf_gpt2" in offered(_complete.pipelines, "zoo/hf_gp")
    assert not offered(_complete.pipelines, "notes") and not offered(_complete.pipelines, "none/x")


def test_cases_are_those_of_the_pipeline_on_the_line():
    assert "english" in offered(_complete.cases, "", pipeline_path="sensevoice_tiny")
    assert offered(_complete.cases, "eng", pipeline_path="sensevoice_tiny") == ["english"]
    assert offered(_complete.cases, "", pipeline_path="nowhere") == []
    assert offered(_complete.cases, "") == []


def test_contracts_are_all_there_are():
    from exporter.contracts.runner import CONTRACTS

    assert set(offered(_complete.contracts, "")) == set(CONTRACTS)
    assert offered(_complete.contracts, "pad") == ["padding"]


def test_layers_are_those_of_the_last_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert offered(_complete.layers, "", pipeline_path="sensevoice_tiny") == []
    folder = tmp_path / "runs" / "sensevoice_tiny"
    folder.mkdir(parents=True)
    write_report(layer_fail(), folder / "report.json")
    found = offered(_complete.layers, "", pipeline_path="sensevoice_tiny")
    assert any(name.endswith("feed_forward.w_2") for name in found)
    strange = '{"links": [{"layers": [{"module": 3}, {"module": []}, {"module": null}]}]}'
    for text in ("{", "[" * 100_000, strange):
        (folder / "report.json").write_text(text)
        assert offered(_complete.layers, "", pipeline_path="sensevoice_tiny") == []


@pytest.mark.parametrize("shell", ["bash_complete", "zsh_complete", "fish_complete"])
def test_a_shell_is_answered_without_torch(shell, tmp_path):
    code = "import sys; from exporter.__main__ import entry\n"
    code += "try:\n    entry()\nfinally:\n    print(sorted({'torch', 'onnx'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "_EXPORT_VERIFY_COMPLETE": shell}
    environment |= {"COMP_WORDS": "export-verify run sensevoice_t", "COMP_CWORD": "2"}
    if shell == "fish_complete":
        environment["COMP_CWORD"] = "sensevoice_t"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert "sensevoice_tiny" in done.stdout and done.stdout.endswith("[]\n"), done.stderr
