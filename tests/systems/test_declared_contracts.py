"""Pipelines of tensors and of embeddings: the command itself, and all contracts they declare."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from exporter.config import load_pipeline

ROOT = Path(__file__).parents[2]
NOT_APPLICABLE = {
    "mimi_decoder_tiny": set(),
    "mimi_decoder_streaming_tiny": {"padding"},
    "ecapa_mel_tiny": {"causality"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOT_APPLICABLE)
def test_the_command_runs_and_all_that_is_declared_passes(tmp_path: Path, name: str):
    pipeline = load_pipeline(ROOT / "pipelines" / f"{name}.yaml")
    command = [sys.executable, "-m", "exporter", "run", str(ROOT / "pipelines" / f"{name}.yaml")]
    done = subprocess.run(
        [*command, "--output-dir", str(tmp_path), "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["verdict"] == "pass"
    found: dict[str, list[Any]] = {}
    for record in report["contracts"]:
        part, row = record["name"], (record["side"], record["verdict"])
        found.setdefault(part, []).append(row)
    assert {part.partition(".")[0] for part in found} == set(pipeline.contracts)
    for contract, verdicts in found.items():
        verdict = "not applicable" if contract in NOT_APPLICABLE[name] else "pass"
        assert sorted(verdicts) == [("onnx", verdict), ("torch", verdict)], contract


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["moshi", "speechbrain"])
def test_a_missing_package_ends_the_command_with_2_and_what_to_install(
    tmp_path: Path, missing: str
):
    # A folder in front of the path, whose package of that name cannot be imported.
    (tmp_path / missing).mkdir()
    (tmp_path / missing / "__init__.py").write_text("raise ImportError('not here')\n")
    name = {"moshi": "mimi_decoder_tiny", "speechbrain": "ecapa_mel_tiny"}[missing]
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; "
        "from exporter.cli import entry; sys.exit(entry())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run", str(ROOT / "pipelines" / f"{name}.yaml"),
         "--output-dir", str(tmp_path / "run"), "--quiet"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"install it with: scripts/install-upstream {missing}" in done.stdout + done.stderr
