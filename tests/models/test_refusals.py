"""What a user's own model is refused for, in words that say what to do."""

from __future__ import annotations

from pathlib import Path

from tests.false_passes.project import told, write

SCAN = """
from torch._higher_order_ops.scan import scan


class Model(nn.Module):
    def forward(self, x):
        step = lambda h, t: (torch.tanh(h + t), h + 0)
        return scan(step, torch.zeros_like(x[:, 0]), x, dim=1)[1]
"""
IN_PLACE = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
    def forward(self, x):
        return self.conv(x.unsqueeze_(1))
"""


def test_a_scan_is_refused_with_what_can_be_done(tmp_path: Path) -> None:
    said = told(write(tmp_path / "scan", SCAN))
    assert said.exit_code == 2
    assert "write it out with plain operators" in said.text


def test_an_input_that_changes_its_shape_in_place_is_named(tmp_path: Path) -> None:
    said = told(write(tmp_path / "inplace", IN_PLACE))
    assert said.exit_code == 2
    assert "shape of its input 'x' in place" in said.text
    assert "[3, 40, 8] becomes [3, 1, 40, 8]" in said.text
