"""Modules that keep something between calls: a file does not, and one call never shows it."""

from __future__ import annotations

from pathlib import Path

from tests.false_passes.project import report_of, told, write
from tests.false_passes.way import Told, way

CODE = """
CALLS = [0]

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(W, W)
        self.calls = 0
        self.last = None
        self.peak = torch.zeros(())
        self.seen = {}
    def forward(self, x):
        y = self.mix(x)
        BODY
        return y
"""


def body(*lines: str) -> str:
    return CODE.replace("BODY", "\n        ".join(lines))


@way("a counter of the module that is added to its output", says="keeps something between calls")
def test_counter_of_the_module(tmp_path: Path) -> Told:
    return told(write(tmp_path / "counter", body("self.calls += 1", "y = y + 0.01 * self.calls")))


@way("a counter of the file", says="called twice on one input")
def test_counter_of_the_file(tmp_path: Path) -> Told:
    return told(write(tmp_path / "global", body("CALLS[0] += 1", "y = y + 0.01 * CALLS[0]")))


@way("a plain attribute that holds the last result", says="last")
def test_last_result(tmp_path: Path) -> Told:
    lines = ("m = y.mean((0, 1))", "y = y if self.last is None else y + self.last", "self.last = m")
    return told(write(tmp_path / "last", body(*lines)))


@way("a peak that only a louder input moves", says="called again after another input")
def test_running_peak(tmp_path: Path) -> Told:
    lines = ("self.peak = torch.maximum(self.peak, x.abs().max())", "y = y / self.peak")
    return told(write(tmp_path / "peak", body(*lines)))


@way("a dictionary of the module that remembers the last input", says="keeps something")
def test_remembered_in_a_dictionary(tmp_path: Path) -> Told:
    lines = ("y = y + self.seen.get('m', 0.0)", "self.seen['m'] = 0.1 * x.mean()")
    return told(write(tmp_path / "seen", body(*lines)))


def test_what_is_kept_without_effect_passes(tmp_path: Path) -> None:
    table = (
        "if self.last is None or self.last.shape[0] < x.shape[1]:",
        "    self.last = 0.1 * torch.arange(x.shape[1], dtype=torch.float32)",
        "y = y + self.last[: x.shape[1], None]",
    )
    report = report_of(write(tmp_path / "table", body(*table)))
    assert report.exit_code == 0, report.headline
    report = report_of(write(tmp_path / "counted", body("self.calls += 1", "CALLS[0] += 1")))
    assert report.exit_code == 0, report.headline
