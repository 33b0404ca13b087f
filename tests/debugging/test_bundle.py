"""Bundles stand alone: they run with four packages, fail while the fault exists, and are small."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from exporter.debugging.bundle import Bundle, write_bundle
from exporter.debugging.diagnose import diagnose
from exporter.debugging.located_differences import locate_differences
from exporter.debugging.pair import Pair, against
from exporter.debugging.readme import render_issue
from exporter.debugging.select import find_layer
from tests.debugging.conftest import Tamper, indexed

FOUR = ("numpy", "onnx", "onnxruntime", "safetensors")
FIRST = "model.encoder.encoders0.0"
SECOND = "model.encoder.encoders.0"
LAST = "model.encoder.tp_encoders.0"


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the four packages and what they require themselves; nothing else."""
    folder = tmp_path_factory.mktemp("packages")
    owners = metadata.packages_distributions()
    waiting = [owners[name][0] for name in FOUR]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        dist = metadata.distribution(name)
        for file in dist.files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (folder / top).exists():
                (folder / top).symlink_to(Path(str(dist.locate_file(top))))
        for requirement in dist.requires or ():
            if "extra ==" not in requirement:
                found = re.match(r"[A-Za-z0-9_.-]+", requirement)
                assert found is not None
                waiting.append(found[0])
    return folder


def run(bundle: Path, packages: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``repro.py`` in a process that can import the four packages and nothing else of ours."""
    return subprocess.run(
        [sys.executable, "-S", "repro.py", *arguments],
        cwd=bundle,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(packages), "HOME": str(bundle)},
        capture_output=True,
        text=True,
        check=False,
    )


def bundle_of(pair: Pair, model, layer: str, folder: Path) -> Bundle:
    given = pair if model is None else against(pair, indexed(model, pair), pair.path)
    found = diagnose(given, find_layer(given, layer), locate_differences(given))
    return write_bundle(given, found, folder)


def test_the_process_of_a_bundle_sees_neither_torch_nor_this_package(packages: Path):
    for name, code in [*((n, 0) for n in FOUR), ("torch", 1), ("exporter", 1), ("funasr", 1)]:
        done = subprocess.run(
            [sys.executable, "-S", "-c", f"import {name}"],
            cwd=packages,
            env={"PYTHONPATH": str(packages)},
            capture_output=True,
            check=False,
        )
        assert done.returncode == code, name


@pytest.mark.parametrize(
    "layer", [f"{SECOND}.self_attn", f"{FIRST}.feed_forward", "vad.network", "segmenter", "fbank"]
)
def test_a_clean_layer_exits_0(pair: Pair, packages: Path, tmp_path: Path, layer: str):
    bundle = bundle_of(pair, None, layer, tmp_path)
    done = run(bundle.folder, packages)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no difference(s)" in done.stdout
    assert "WRONG" not in done.stdout


@pytest.mark.parametrize(
    ("fault", "layer", "said"),
    [
        ("weight_in_float16", f"{FIRST}.self_attn", "sha256"),
        ("relu_removed", f"{SECOND}.feed_forward.activation", "Identity; exported as Relu"),
        ("epsilon_of_a_deep_norm", "model.encoder.tp_norm", "attribute epsilon"),
        ("log_floor_lowered", "fbank", "node of 'clamp"),
        ("time_axis_baked", f"{SECOND}.self_attn", "onnxruntime"),
        ("query_and_key_swapped", f"{SECOND}.self_attn", "elements differ"),
        ("dropout_active", f"{FIRST}.feed_forward.w_2", "exported as absent"),
        ("lfr_frame_count_baked", "lfr", "elements differ"),
        ("threshold_changed", "segmenter", "0.5"),
        ("mask_dropped", f"{SECOND}.self_attn", "largest difference"),
    ],
)
def test_a_tampered_layer_exits_1_and_prints_the_difference(
    pair: Pair,
    tamper: Tamper,
    packages: Path,
    tmp_path: Path,
    fault: str,
    layer: str,
    said: str,
):
    bundle = bundle_of(pair, tamper(fault), layer, tmp_path)
    done = run(bundle.folder, packages)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "WRONG" in done.stdout
    assert said in done.stdout
    assert "Traceback" not in done.stderr


def test_a_bundle_exits_0_once_its_layer_is_repaired(
    pair: Pair, tamper: Tamper, packages: Path, tmp_path: Path
):
    layer = f"{FIRST}.self_attn"
    broken = bundle_of(pair, tamper("weight_in_float16"), layer, tmp_path / "broken")
    clean = bundle_of(pair, None, layer, tmp_path / "clean")
    assert run(broken.folder, packages).returncode == 1
    shutil.copy(clean.folder / "layer.onnx", broken.folder / "layer.onnx")
    done = run(broken.folder, packages)
    assert done.returncode == 0, done.stdout


def test_repro_takes_an_optimisation_level(pair: Pair, packages: Path, tmp_path: Path):
    bundle = bundle_of(pair, None, f"{SECOND}.norm1", tmp_path)
    assert run(bundle.folder, packages, "disable").returncode == 0


def test_a_whole_encoder_layer_weighs_less_than_50_mib(pair: Pair, tmp_path: Path):
    bundle = bundle_of(pair, None, SECOND, tmp_path)
    names = {path.name for path in bundle.folder.iterdir()}
    assert names == {
        "layer.onnx",
        "inputs.safetensors",
        "expected.safetensors",
        "repro.py",
        "torch_layer.pt2",
        "README.md",
    }
    assert bundle.bytes < 50 << 20
    assert bundle.outputs > 5


def test_the_torch_layer_loads_and_gives_what_leaves_the_layer(pair: Pair, tmp_path: Path):
    layer = find_layer(pair, f"{SECOND}.self_attn")
    found = diagnose(pair, layer, ())
    bundle = write_bundle(pair, found, tmp_path)
    module = torch.export.load(bundle.folder / "torch_layer.pt2").module()
    held = found.held
    results = module(*(held.entering[name].clone() for name in held.program.inputs))
    for name, value in zip(held.program.outputs, results, strict=True):
        torch.testing.assert_close(value, torch.from_numpy(held.reference[name]), rtol=0, atol=0)


def test_readme_and_issue_hold_the_finding_and_the_matrix(
    pair: Pair, tamper: Tamper, tmp_path: Path
):
    given = against(pair, indexed(tamper("epsilon_of_the_first_norm"), pair), pair.path)
    found = diagnose(given, find_layer(given, f"{FIRST}.norm1"), locate_differences(given))
    bundle = write_bundle(given, found, tmp_path)
    for text in ((bundle.folder / "README.md").read_text(), render_issue(given, found)):
        assert "epsilon" in text
        assert "python repro.py" in text
        assert "ONNX reference evaluator" in text
        assert found.findings[0].source in text
