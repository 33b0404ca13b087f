"""Whole runs on Dask with real processes: what goes wrong in one cell stays there, and is said."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sysconfig
import venv
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter import cli
from exporter.cache.environments import FOLDER, READY, environment_name
from exporter.core.runtimes import installed_runtimes
from exporter.golden.store import write_golden
from exporter.matrix.jobs import cell_job, variant_job
from exporter.matrix.load import load_matrix
from exporter.matrix.make_process import MADE, digests_of
from exporter.matrix.verdict import MadeVariant, written
from exporter.matrix.work import FILES
from exporter.parity.status import Status
from tests.golden import made
from tests.matrix import toy
from tests.matrix.test_lost import cluster, start

HERE = next(iter(installed_runtimes().values()))
NUMPY_1 = "A module that was compiled using NumPy 1.x cannot be run in NumPy 2"
POISON = f"""
import sys
print({NUMPY_1.replace(" in ", " in%")!r}.replace("%", chr(10)), file=sys.stderr)
print(chr(10) + "If you are a user of the module, downgrade it." + chr(10), file=sys.stderr)
raise ImportError
"""
"""As onnxruntime 1.17 does where numpy is of another major release."""


def put_environment(root: Path, requirements: tuple[str, ...], poison: str = "") -> None:
    """An environment as an earlier run left it: this Python's packages, one of them poisoned."""
    home = root / environment_name(requirements)
    venv.create(home, symlinks=True)
    (inside,) = home.glob("lib/python*/site-packages")
    (inside / "beneath.pth").write_text(sysconfig.get_path("purelib") + "\n")
    if poison:
        (inside / "onnxruntime").mkdir()
        (inside / "onnxruntime" / "__init__.py").write_text(poison)
    (home / READY).write_text("{}")


def found(folder: Path) -> list[Mapping]:
    return json.loads((folder / "out" / "matrix.json").read_text())["cells"]


@pytest.mark.slow
def test_poisoned_environments_say_why_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    """One release cannot be installed, one is installed and does not start."""
    releases = ["9.9.8", "9.9.9", HERE]
    axes = f"axes: {{onnxruntime: [{', '.join(releases)}], threads: [1, 2]}}\n"
    held = toy.matrix(tmp_path, f"name: m\npipelines: [made.yaml]\n{axes}")
    toy.put_files(held, tmp_path, tmp_path / "out")
    for cell in held.space.cells():
        requirements = cell_job(held, cell).requirements
        if cell["threads"] == 1 and cell["onnxruntime"] != "9.9.9":
            poison = POISON if cell["onnxruntime"] == "9.9.8" else ""
            put_environment(tmp_path / "out" / FOLDER, requirements, poison)
    # No registry is asked: there is no such release anywhere.
    for name, value in {"UV_OFFLINE": "1", "UV_NO_INDEX": "1", "PIP_NO_INDEX": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("EXPORT_VERIFY_CACHE", "off")
    monkeypatch.chdir(tmp_path)
    words = ["matrix", "toy.yaml", "--all", "--workers", "2", "--output-dir", "out"]
    assert cli.main(words) == 1
    assert "not run: 4 not run, 2 pass; 6 of 6 asked" in capsys.readouterr().out
    said = {release: set() for release in releases}
    for cell in found(tmp_path):
        said[cell["values"]["onnxruntime"]].add((cell["status"], cell["reason"]))
    assert {status for status, _ in said[HERE]} == {"pass"}
    for release, why_not in {"9.9.8": NUMPY_1, "9.9.9": "onnxruntime 9.9.9 cannot be"}.items():
        assert all(s == "not run" and why_not in why for s, why in said[release]), said
    page = (tmp_path / "out" / "matrix.html").read_text()
    assert page.count('class="pass"') == 2 and page.count('class="not-run"') == 4
    assert NUMPY_1 in page
    assert 'errors="4"' in (tmp_path / "out" / "matrix.xml").read_text()
    # A second start knows what has passed, and tries again what was not run.
    (poisoned,) = (tmp_path / "out" / FOLDER).glob("*/lib/*/*/onnxruntime")
    shutil.rmtree(poisoned)
    assert cli.main(words) == 1
    by = {c["values"]["onnxruntime"]: (c["status"], c["known"]) for c in found(tmp_path)}
    assert by == {HERE: ("pass", True), "9.9.8": ("pass", False), "9.9.9": ("not run", False)}


def never_ending() -> onnx.ModelProto:
    """The network with a loop of 10^15 turns beside it, which onnxruntime never gives back."""
    model = made.model()
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["c"], ["c_out"]),
            helper.make_node("Add", ["held", "step"], ["held_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("c_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held_out", TensorProto.FLOAT, []),
        ],
        [numpy_helper.from_array(np.float32(0), "step")],
    )
    for name, value in {
        "turns": np.int64(10**15),
        "go": np.bool_(True),
        "zero": np.float32(0),
    }.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    model.graph.node.insert(
        0, helper.make_node("Loop", ["turns", "go", "zero"], ["waited"], body=body, name="loop")
    )
    model.graph.node.insert(1, helper.make_node("Add", ["x", "waited"], ["x_then"], name="then"))
    model.graph.node[2].input[0] = "x_then"
    return model


@pytest.mark.slow
def test_a_cell_that_does_not_end_is_ended_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    text = "name: m\npipelines: [made.yaml, endless.yaml]\naxes: {threads: [1, 2]}\n"
    text += "cell_timeout_s: 15\n"
    folder = tmp_path / "endless"
    folder.mkdir()
    pipeline = made.pipeline(folder, made.TEXT.replace("name: made", "name: endless"))
    (folder / "made.yaml").rename(tmp_path / "endless.yaml")
    write_golden(made.golden(folder, pipeline), tmp_path / "golden" / "endless")
    toy.matrix(tmp_path)
    (tmp_path / "toy.yaml").write_text(text)
    held = load_matrix(tmp_path / "toy.yaml")
    toy.put_files(held, tmp_path, tmp_path / "out")
    path = made.write_onnx(tmp_path, never_ending(), "endless.onnx")
    for cell in held.space.cells():
        if cell["pipeline"] == "endless":
            name = variant_job(held, cell, trust=False).name
            golden = tmp_path / "golden" / "endless"
            file = MadeVariant(
                digest=name, status=Status.PASS, yaml=str(tmp_path / "endless.yaml"),
                onnx=str(path), golden=str(golden), content=digests_of(path, golden),
            )  # fmt: skip
            written(file, tmp_path / "out" / FILES / name / MADE)
    monkeypatch.chdir(tmp_path)
    words = ["matrix", "toy.yaml", "--all", "--workers", "1", "--output-dir", "out"]
    assert cli.main(words) == 1
    assert "not run: 2 not run, 2 pass; 4 of 4 asked" in capsys.readouterr().out
    for cell in found(tmp_path):
        if cell["values"]["pipeline"] == "made":
            assert cell["status"] == "pass"
        else:
            assert (cell["status"], cell["reason"]) == ("not run", "it did not end within 15 s")
    # Nothing of it is left running.
    left = [
        p
        for p in psutil.process_iter(["cmdline"])
        if str(tmp_path) in " ".join(p.info["cmdline"] or [])
    ]
    assert not left


TRIVIAL = """
from exporter.matrix import work

work._CODE = '''import json, pathlib, sys  # {0}
place = pathlib.Path(sys.argv[2])
said = json.loads((place / "cell.json").read_text())
bad = said["level"] == "basic" and said["threads"] > 60
first = dict(module="norm", op="layer_norm") if bad else None
print("ready", flush=True)
verdict = dict(status="fail" if bad else "pass", reason="moved" if bad else "", first=first)
(place / "verdict.json").write_text(json.dumps(verdict))
'''
"""
"""Loaded by a worker: each of its cells is a real process of a trivial program."""
MANY = (
    "name: many\npipelines: [made.yaml]\naxes: {threads: ["
    + ", ".join(map(str, range(1, 126)))
    + "], level: [disable, basic, extended, all]}\n"
)


@pytest.mark.slow
def test_five_hundred_processes_leave_the_scheduler_under_a_gibibyte(tmp_path, record_property):
    toy.put_files(toy.matrix(tmp_path, MANY), tmp_path, tmp_path / "out")
    (tmp_path / "trivial.py").write_text(TRIVIAL)
    most = dict.fromkeys(("scheduler", "worker", "client"), 0)
    with cluster(tmp_path, options=["--preload", str(tmp_path / "trivial.py")]) as (
        address,
        running,
    ):
        process = start(tmp_path, address)
        held = dict(zip(most, (running[0], running[1], process), strict=True))
        while process.poll() is None:
            for name, one in held.items():
                most[name] = max(most[name], memory_of(one.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.2)
        out, err = process.communicate()
    record_property("MiB", {name: size >> 20 for name, size in most.items()})
    print({name: f"{size / 2**20:.0f} MiB" for name, size in most.items()})
    assert process.returncode == 1, out + err
    assert "500 of 500 asked" in out and "only level basic and threads at least 61" in out
    cells = found(tmp_path)
    assert len(cells) == 500 and sum(c["status"] == "fail" for c in cells) == 65
    assert 0 < most["scheduler"] < 1 << 30


def memory_of(number: int) -> int:
    """Resident bytes of a process; 0 of one that has ended."""
    try:
        return psutil.Process(number).memory_info().rss
    except psutil.Error:
        return 0


def test_the_release_that_is_here_is_one_that_can_be_asked_for():
    """The tests above take it for a release of the axis."""
    assert metadata.version(next(iter(installed_runtimes()))) == HERE
