"""What ``deploy:`` may say, and what a machine makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.config import load_pipeline
from exporter.core.errors import ConfigError, UserInputError
from exporter.execution import declared_deployments as declared
from exporter.execution import providers
from exporter.execution.declared_deployments import declared_deployments
from exporter.execution.deployment import Deployment

TINY = Path(__file__).parents[2] / "pipelines" / "silero_vad_tiny.yaml"


def pipeline(folder: Path, deploy: str):
    path = folder / "p.yaml"
    path.write_text(f"extends: {TINY}\ndeploy: {deploy}\n", encoding="utf-8")
    return load_pipeline(path)


def test_levels_alone_are_short_for_one_deployment_each(tmp_path: Path):
    found = declared_deployments(pipeline(tmp_path, "{levels: [all, basic]}"), "cpu", 2)
    assert found == (Deployment(threads=2), Deployment(level="basic", threads=2))


def test_a_deployment_that_names_no_provider_is_run_on_all_that_are_present(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(declared, "present_providers", lambda: ("cpu", "cuda"))
    monkeypatch.setattr(declared, "check_provider", lambda name: name)
    found = declared_deployments(load_pipeline(TINY), None, 1)
    assert [held.provider for held in found] == ["cpu", "cuda"]


def test_all_that_changes_numbers_is_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(declared, "check_provider", lambda name: name)
    text = "[{provider: cuda, tf32: true, options: {device_id: 1, prefer_nhwc: true}}]"
    (found,) = declared_deployments(pipeline(tmp_path, text), "cuda", 1)
    assert found.tf32
    assert found.settings == (("device_id", "1"), ("prefer_nhwc", "1"))


def test_a_declared_device_that_is_absent_is_said_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(providers, "present_providers", lambda: ("cpu",))
    with pytest.raises(UserInputError, match=r"p\.yaml:2: deploy\[0\]\.provider") as caught:
        declared_deployments(pipeline(tmp_path, "[{provider: cuda}]"), None, 1)
    assert "--provider cpu" in str(caught.value)


def test_a_provider_that_nothing_is_declared_for_is_said(tmp_path: Path):
    given = pipeline(tmp_path, "[{provider: cuda}]")
    with pytest.raises(UserInputError, match="no deployment on 'cpu' is declared"):
        declared_deployments(given, "cpu", 1)


@pytest.mark.parametrize(
    ("deploy", "problem"),
    [
        ("[{provider: cpu, tf32: true}]", "only of 'provider: cuda'"),
        ("[{tf32: true}]", "only of 'provider: cuda'"),
        ("[{provider: cuda, options: {use_tf32: 1}}]", "tf32: true"),
        ("[{provider: tpu}]", "allowed"),
        ("[]", "deploy"),
        ("[{level: fast}]", "allowed"),
        ("[{provider: cuda, treads: 1}]", "did you mean"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, deploy: str, problem: str):
    with pytest.raises(ConfigError, match=problem):
        pipeline(tmp_path, deploy)
