"""Models that draw random numbers: the limit must not be the noise."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import numpy_helper

from exporter import load_pipeline
from exporter.flows.verify import verify
from tests.false_passes.project import YAML, report_of, told, write
from tests.false_passes.way import Told, way
from tests.support.stages import Silent

CODE = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose1d(W, W, 4, stride=2, padding=1)
    def forward(self, x, scale):
        noise = NOISE
        return self.up((x + noise * scale).mT).mT
"""
SCALED = YAML.replace("axes:", "  scale: {dtype: float32, shape: []}\naxes:").replace(
    "default_case", "    inputs: {scale: 0.5}\n  - name: quiet\n    random: {x: {kind: normal, "
    "seed: 1, sizes: {batch: 3, frames: 50}}}\n    inputs: {scale: 0.0}\ndefault_case"
)  # fmt: skip


def model(folder: Path, noise: str = "torch.randn_like(x)", default: str = "one") -> Path:
    yaml = SCALED.replace("default_case: one", f"default_case: {default}")
    return write(folder, CODE.replace("NOISE", noise), yaml)


@way("noise in the graph makes the limit", says="drawn at random")
def test_noise_in_the_graph(tmp_path: Path) -> Told:
    return told(model(tmp_path / "noise"))


@way("noise from a uniform distribution, scaled", says="drawn at random")
def test_uniform_noise(tmp_path: Path) -> Told:
    return told(model(tmp_path / "uniform", "torch.rand(x.shape) * 2"))


@way("noise that no op of torch draws: the capture freezes it", says="is not the module")
def test_noise_from_elsewhere(tmp_path: Path) -> Told:
    import_in = "__import__('numpy').random.standard_normal()"
    return told(model(tmp_path / "numpy", import_in))


@way("an upsampler whose weights were halved in the file, behind noise", says="fail")
def test_halved_weights_behind_noise(tmp_path: Path) -> Told:
    path = model(tmp_path / "halved", default="quiet")
    assert report_of(path).exit_code == 0
    file = path.parent / "out" / "model.onnx"
    made = onnx.load(file)
    for held in made.graph.initializer:
        if held.name.endswith("up.weight"):
            held.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(held) / 2, held.name))
    onnx.save(made, path.parent / "halved.onnx")
    report = verify(
        load_pipeline(path),
        onnx=path.parent / "halved.onnx",
        output_dir=path.parent / "judged",
        progress=Silent(),
        trust=True,
        threads=1,
    )
    return Told(exit_code=report.exit_code, text=f"{report.verdict} {report.headline}")


@way("the noise's scale is ignored while it is exported", says="eager -> captured")
def test_ignored_scale(tmp_path: Path) -> Told:
    noise = "torch.randn_like(x); scale = 0 * scale + 1 if torch.compiler.is_exporting() else scale"
    return told(model(tmp_path / "ignored", noise, default="quiet"))


def test_a_case_without_noise_is_judged_and_passes(tmp_path: Path) -> None:
    report = report_of(model(tmp_path / "quiet", default="quiet"))
    assert report.exit_code == 0, report.headline
    noisy = report_of(model(tmp_path / "noisy"))
    verdicts = {link.name: link.verdict for link in noisy.links}
    assert noisy.verdict == "ambiguous"
    # The program draws torch's own numbers: it is judged.
    assert verdicts["eager -> captured"] == "pass"
