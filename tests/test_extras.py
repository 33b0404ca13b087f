"""The core and the extras: what pyproject.toml declares is what the messages name."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from exporter.cli import main
from exporter.core import extras, memory
from exporter.core.errors import MissingPackageError
from exporter.parity import one_pass

ROOT = Path(__file__).resolve().parents[1]
MOST_OF_THE_CORE = 31
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
import importlib.util
real = importlib.util.find_spec
def find_spec(name, package=None):
    return None if name.partition(".")[0] in HIDDEN else real(name, package)
importlib.util.find_spec = find_spec
sys.meta_path.insert(0, Hidden())
from exporter.cli import main
sys.exit(main(sys.argv[1:]))
"""


def without(modules: set[str], *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command line where these modules are not installed."""
    code = f"HIDDEN = {modules!r}\n{HIDE}"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True
    )


def closure(lines: list[str]) -> set[str]:
    """Distributions that these requirements bring, as they are installed here."""
    found: set[str] = set()
    waiting = [Requirement(line) for line in lines]
    while waiting:
        item = waiting.pop()
        name = canonicalize_name(item.name)
        if name in found or (item.marker and not item.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        waiting += map(Requirement, metadata.requires(name) or ())
    return found


def test_the_core_with_a_runtime_is_31_distributions():
    runtime = "onnxruntime-gpu"  # the same closure as onnxruntime's, and installed here
    core = closure([*PROJECT["dependencies"], runtime])
    assert len(core) <= MOST_OF_THE_CORE, sorted(core)
    assert len(closure([*PROJECT["dependencies"], runtime, "silero-vad", "soundfile"])) > len(core)


def test_every_module_is_in_the_extra_that_its_message_names():
    names = {"onnx_ir": "onnx-ir", "silero_vad": "silero-vad", "huggingface_hub": "huggingface-hub"}
    names["kaldi_native_fbank"] = "kaldi-native-fbank"
    names["prometheus_client"] = "prometheus-client"
    for module, extra in extras.EXTRAS.items():
        held = [Requirement(line).name for line in PROJECT["optional-dependencies"][extra]]
        assert names.get(module, module) in held, f"{module} is not in [{extra}]"
    core = [Requirement(line).name for line in PROJECT["dependencies"]]
    assert set(extras.CORE.values()) <= set(core)


def test_the_extras_that_are_promised_are_there_and_all_has_them_all():
    held = PROJECT["optional-dependencies"]
    assert {"funasr", "silero", "report", "gpu", "cpu", "monitor", "matrix"} <= set(held)
    (everything,) = held["all"]
    named = set(re.findall(r"\[(.*)\]", everything)[0].split(","))
    assert named == set(held) - {"all", "docs", "test", "cpu", "gpu"}


def test_nothing_asks_for_both_runtimes():
    held = PROJECT["optional-dependencies"]
    plain = {
        extra for extra, lines in held.items() if any(x.startswith("onnxruntime>") for x in lines)
    }
    cuda = {
        extra
        for extra, lines in held.items()
        if any(x.startswith("onnxruntime-gpu") for x in lines)
    }
    assert plain == {"cpu"} and cuda == {"gpu"}
    assert not [line for line in PROJECT["dependencies"] if line.startswith("onnxruntime")]


def test_the_action_installs_a_runtime_and_what_models_need():
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    asked = Requirement(action["inputs"]["install"]["default"])
    assert asked.name == PROJECT["name"]
    assert asked.extras <= set(PROJECT["optional-dependencies"])
    assert "all" in asked.extras and len(asked.extras & {"cpu", "gpu"}) == 1


def test_every_range_has_two_ends():
    held = sum(PROJECT["optional-dependencies"].values(), list(PROJECT["dependencies"]))
    for line in held:
        requirement = Requirement(line)
        if requirement.name == PROJECT["name"]:
            continue
        operators = {item.operator for item in requirement.specifier}
        assert operators in ({">=", "<"}, {"=="}), line
        # The upper end was tested: what is installed here lies inside.
        if requirement.marker is None and requirement.name != "onnxruntime":
            assert metadata.version(requirement.name) in requirement.specifier, line


@pytest.mark.parametrize(
    ("missing", "arguments", "said"),
    [
        ({"funasr"}, ["run", "sensevoice_tiny"], "pip install 'export-verify[funasr]'"),
        ({"silero_vad"}, ["run", "silero_vad_tiny"], "pip install 'export-verify[silero]'"),
        ({"soundfile"}, ["run", "silero_vad_tiny"], "pip install 'export-verify[audio]'"),
        ({"onnxruntime"}, ["run", "silero_vad_tiny"], "'export-verify[gpu]' for CUDA"),
        ({"torch"}, ["run", "silero_vad_tiny"], "pip install torch"),
    ],
)
def test_what_is_missing_ends_with_2_and_the_extra(missing, arguments, said, tmp_path):
    done = without(missing, *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr


def test_a_package_of_no_extra_is_a_bug_and_no_remedy():
    assert extras.missing_package(ModuleNotFoundError("x", name="nowhere")) is None
    assert extras.missing_package(ImportError("broken", name="torch")) is None
    with pytest.raises(MissingPackageError, match=r"export-verify\[text\]"):
        raise extras.missing_package(ModuleNotFoundError("x", name="jiwer")) or AssertionError


def test_a_pipeline_is_found_by_its_name_from_anywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "sensevoice_tini"]) == 2
    assert "did you mean 'sensevoice_tiny'" in capsys.readouterr().err
    from exporter import load_pipeline
    from exporter.config.shipped import shipped_names, shipped_pipeline

    assert load_pipeline("sensevoice_tiny").name == "sensevoice_tiny"
    assert {"sensevoice_tiny", "systems/whisper_tiny", "zoo/hf_gpt2"} <= set(shipped_names())
    assert shipped_pipeline("../pyproject") is None and shipped_pipeline("/etc/hosts") is None
    # A file of one's own goes first.
    Path("sensevoice_tiny").write_text("name: mine\nmodel: {kind: silero_vad}\n")
    assert load_pipeline(shipped_pipeline("silero_vad_tiny")).name == "silero_vad_tiny"
    with pytest.raises(Exception, match=r"sensevoice_tiny"):
        load_pipeline("sensevoice_tiny")


def test_without_numba_numpy_measures(monkeypatch):
    import numpy as np

    arrays = np.zeros(8), np.zeros(8, np.float32), np.zeros(8, np.float32)
    assert one_pass.takes(*arrays)
    monkeypatch.setattr(one_pass, "has_compiler", lambda: False)
    assert not one_pass.takes(*arrays) and not one_pass.takes_pair(*arrays[1:])


def test_memory_is_what_the_system_says(monkeypatch, tmp_path):
    total = memory.total_memory()
    assert 0 < memory.available_memory() <= total
    assert 0 < (memory.resident_bytes() or 0) < total
    assert memory.resident_bytes(2**22 + 1) is None
    monkeypatch.setattr(memory, "_SAID", tmp_path / "none")
    assert memory.available_memory() == total // 2
