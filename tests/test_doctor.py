"""``export-verify doctor``, and the two onnxruntimes that break each other."""

from __future__ import annotations

import json
from importlib import metadata

import pytest
from click.testing import CliRunner

from exporter.cli import cli, main
from exporter.core.errors import MissingPackageError
from exporter.core.runtimes import installed_runtimes, refuse_two_runtimes
from exporter.flows import doctor


def versions_of(**held: str):
    """Stands for ``metadata.version`` where only these are installed."""

    def version(name: str) -> str:
        if name.replace("-", "_") not in held:
            raise metadata.PackageNotFoundError(name)
        return held[name.replace("-", "_")]

    return version


def test_a_healthy_installation_is_healthy_and_its_cpu_was_really_used():
    done = CliRunner().invoke(cli, ["doctor", "--format", "json"])
    found = json.loads(done.output)
    assert done.exit_code == 0, [held for held in found if held["wrong"]]
    assert {held["part"] for held in found} == {
        *("versions", "onnxruntime", "providers", "threads", "memory", "cache")
    }
    cpu = next(held for held in found if held["part"] == "providers" and held["name"] == "cpu")
    assert cpu["value"] == "usable: a session was made"


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime_gpu"])
def test_either_onnxruntime_is_accepted(name):
    found = installed_runtimes(versions_of(**{name: "1.31.0"}))
    assert list(found) == [name.replace("_", "-")]
    refuse_two_runtimes(found)


def test_both_are_an_error_that_says_how_to_get_out():
    found = installed_runtimes(versions_of(onnxruntime="1.30.0", onnxruntime_gpu="1.31.0"))
    with pytest.raises(MissingPackageError, match="both installed") as caught:
        refuse_two_runtimes(found)
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in str(caught.value.remedy)


def test_the_doctor_says_so_and_exits_2(monkeypatch, capsys):
    both = {"onnxruntime": "1.30.0", "onnxruntime-gpu": "1.31.0"}
    monkeypatch.setattr(doctor, "installed_runtimes", lambda: both)
    assert main(["doctor"]) == 2
    said = capsys.readouterr().out
    assert "both installed" in said and "not tried" in said


def test_a_device_that_is_there_and_cannot_be_used_is_wrong(monkeypatch):
    from exporter.execution import providers

    monkeypatch.setattr(providers, "present_providers", lambda: ("cpu", "cuda"))
    monkeypatch.setattr(providers, "tried_providers", lambda: {"cpu": "", "cuda": "no cublas"})
    wrong = [held for held in doctor.examine() if held.wrong]
    assert [(held.name, held.value) for held in wrong] == [("cuda", "no cublas")]
    monkeypatch.setattr(providers, "present_providers", lambda: ("cpu",))
    assert not [held for held in doctor.examine() if held.wrong]
