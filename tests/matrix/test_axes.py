"""Every axis in one whole run: what it names is really another file, or another way to run it."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import onnx
import pytest

from exporter import cli
from exporter.matrix.make_process import RUN
from exporter.matrix.work import FILES
from tests.cache.test_environments import ask_no_registry, put_wheel

MODEL = """\
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm = torch.nn.Linear(8, 16), torch.nn.LayerNorm(16)
        self.second = torch.nn.Linear(16, 4)

    def forward(self, x):
        return self.second(torch.nn.functional.gelu(self.norm(self.first(x))) + 0.0)
"""
PIPELINE = """\
name: net
model: {factory: "net:Net"}
inputs: {x: {dtype: float32, shape: [batch, frames, 8]}}
axes: {frames: {minimum: 2, example: 12}}
outputs: [y]
cases: [{name: one, random: {x: {kind: normal, seed: 1, sizes: {batch: 2, frames: 10}}}}]
default_case: one
"""


def put(folder: Path, axes: str) -> None:
    (folder / "net.py").write_text(MODEL)
    (folder / "net.yaml").write_text(PIPELINE)
    text = f"name: axes\npipelines: [net.yaml]\nlength_of: x\naxes: {axes}\n"
    (folder / "axes.yaml").write_text(text)


def told(folder: Path, axes: str, monkeypatch) -> tuple[int, list[dict]]:
    """Exit code and cells of a whole run."""
    monkeypatch.setenv("EXPORT_VERIFY_CACHE", "off")
    put(folder, axes)
    monkeypatch.chdir(folder)
    code = cli.main(["matrix", "axes.yaml", "--trust", "--workers", "2", "--output-dir", "out"])
    return code, json.loads((folder / "out" / "matrix.json").read_text())["cells"]


@pytest.mark.slow
def test_every_axis_of_the_file_and_of_its_run_is_what_it_says(tmp_path: Path, monkeypatch):
    put_wheel(tmp_path / "wheels")
    ask_no_registry(monkeypatch, tmp_path / "wheels")
    code, cells = told(
        tmp_path,
        f"{{onnxsim: [{metadata.version('onnxsim')}, '99.0'], opset: [18, 20], seed: [1, 2],"
        " precision: [float32, float16], level: [disable, all], threads: [1, 2], length: [3, 9]}",
        monkeypatch,
    )
    assert code == 0, cells
    seen = set()
    for cell in cells:
        values = cell["values"]
        assert cell["status"] == "pass", cell
        (name,) = {case["name"] for case in cell["cases"]}
        assert name == f"length_{values['length']}"
        seen.add((values["onnxsim"], values["opset"], values["seed"]))
        said = json.loads((tmp_path / "out" / cell["folder"] / "cell.json").read_text())
        assert (said["level"], said["threads"]) == (values["level"], values["threads"])
        run = Path(said["onnx"]).parent
        report = json.loads((run / "report.json").read_text())
        assert report["environment"]["versions"]["onnxsim"] == values["onnxsim"]
        assert report["policy"]["precision"] == values["precision"]
        assert onnx.load(run / "model.onnx").opset_import[0].version == values["opset"]
    assert len(seen) > 3
    files = list((tmp_path / "out" / FILES).glob(f"*/{RUN}/model.onnx"))
    assert len({path.read_bytes() for path in files}) == len(files) > 3


@pytest.mark.slow
def test_torch_that_is_here_makes_files_and_one_that_cannot_be_had_is_not_run(
    tmp_path: Path, monkeypatch
):
    """As is a provider whose device is not here."""
    ask_no_registry(monkeypatch, tmp_path / "wheels")
    here = metadata.version("torch")
    axes = f"{{torch: ['{here}', '99.0'], provider: [cpu, cuda]}}"
    code, cells = told(tmp_path, axes, monkeypatch)
    found = {(c["values"]["torch"], c["values"]["provider"]): c for c in cells}
    assert code == 1 and len(found) == 4
    assert found[here, "cpu"]["status"] == "pass"
    missing = found["99.0", "cpu"]
    assert missing["status"] == "not run" and "torch 99.0 cannot be installed" in missing["reason"]
    for release in (here, "99.0"):
        cell = found[release, "cuda"]
        assert (cell["status"], cell["reason"]) == ("not run", "no worker has cuda")
