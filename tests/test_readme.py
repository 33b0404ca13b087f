"""What the README prints is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exporter.config import load_pipeline
from exporter.config.pipeline import Pipeline
from tests.config.texts import refused, write

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_opens_with_the_two_commands():
    first = [line for line in README.splitlines() if line.strip()][1:3]
    assert first[0].startswith("    scripts/export-verify run pipelines/sensevoice.yaml ")
    assert first[1].startswith("    scripts/test ")


def test_its_pipeline_loads_and_shows_every_section_that_a_speech_pipeline_has(tmp_path):
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    text = block.replace("../golden", str(ROOT / "golden"))
    pipeline = load_pipeline(write(tmp_path, text))
    assert pipeline.parity.overrides[0].reason
    only_own_models = {"inputs", "axes", "states", "description", "capture"}
    assert set(Pipeline.model_fields) - only_own_models <= set(re.findall(r"^(\w+):", block, re.M))


def test_its_error_is_what_is_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipelines").mkdir()
    text = (ROOT / "pipelines" / "sensevoice.yaml").read_text(encoding="utf-8")
    text = text.replace("../golden", str(ROOT / "golden")).replace("  threshold", "  treshold")
    message = refused(write(tmp_path / "pipelines", text, "mine.yaml"))
    shown = re.search(r"error: (pipelines/mine.yaml:)\d+(: .*?)\n {4}(  did you.*?)\n", README)
    assert shown is not None
    assert (
        re.sub(r":\d+:", ":", message, count=1)
        == f"{shown[1]}{shown[2][2:]}".replace("yaml:", "yaml: ", 1) + f"\n{shown[3]}"
    )


def test_its_place_is_the_place():
    shown = re.search(r'where\("vad", "threshold"\)\)  # (\S+:\d+: \S+)', README)
    assert shown is not None
    pipeline = load_pipeline(ROOT / "pipelines" / "sensevoice_tiny.yaml")
    assert pipeline.where("vad", "threshold").endswith(shown[1].removeprefix("pipelines/"))


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_its_links_lead_somewhere(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:exporter|tests|scripts)/[\w./]+)`", README)))
)
def test_the_files_it_names_exist(path):
    assert (ROOT / path).exists() or "yours" in path


@pytest.mark.slow
def test_its_example_for_long_recordings_runs(tiny_run, tmp_path, monkeypatch, capsys):
    block = next(
        text
        for text in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
        if "SpeechRunner" in text
    )
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "sensevoice").symlink_to(tiny_run.folder)
    (tmp_path / "golden").symlink_to(ROOT / "golden")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) > 10
