"""An environment in front of this Python's packages: one of them is another release, no more."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from exporter.cache.environments import environment, environment_name

SIMPLIFIER = """\
__version__ = "99.0"


def simplify(model, **options):
    return model, True
"""


def put_wheel(folder: Path, needs: str = "no-such-package-anywhere") -> None:
    """A release 99.0 of onnxsim that leaves every model as it is; it says that it needs more."""
    info = "onnxsim-99.0.dist-info"
    texts = {
        "onnxsim/__init__.py": SIMPLIFIER,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: onnxsim\nVersion: 99.0\n"
        f"Requires-Dist: {needs}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    texts[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*texts, f"{info}/RECORD"])
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "onnxsim-99.0-py3-none-any.whl", "w") as wheel:
        for name, text in texts.items():
            wheel.writestr(name, text)


def ask_no_registry(monkeypatch: pytest.MonkeyPatch, wheels: Path) -> None:
    """Whatever installs takes what lies in a folder, and asks nobody."""
    for name in ("UV_OFFLINE", "UV_NO_INDEX", "PIP_NO_INDEX"):
        monkeypatch.setenv(name, "1")
    for name in ("UV_FIND_LINKS", "PIP_FIND_LINKS"):
        monkeypatch.setenv(name, str(wheels))
    monkeypatch.setenv("UV_CACHE_DIR", str(wheels / "cache"))


def test_one_package_is_another_release_and_all_else_is_as_it_is_here(tmp_path, monkeypatch):
    put_wheel(tmp_path / "wheels")
    ask_no_registry(monkeypatch, tmp_path / "wheels")
    says = "import onnxsim, numpy, importlib.metadata as m"
    says += "; print(onnxsim.__version__, m.version('onnxsim'), numpy.__file__)"
    with environment(tmp_path / "root", ["onnxsim==99.0"], over=True) as python:
        done = subprocess.run(
            [python, "-I", "-c", says], capture_output=True, text=True, check=False
        )
    assert done.stdout.split() == ["99.0", "99.0", np.__file__], done.stderr
    name = environment_name(["onnxsim==99.0"])
    assert name != environment_name(["onnxsim==99.0"], over=True)
