"""What a user's own model is refused for, in words that say what to do."""

from __future__ import annotations

from pathlib import Path

from tests.false_passes.project import told, write

IN_PLACE = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
    def forward(self, x):
        return self.conv(x.unsqueeze_(1))
"""


def test_an_input_that_changes_its_shape_in_place_is_named(tmp_path: Path) -> None:
    said = told(write(tmp_path / "inplace", IN_PLACE))
    assert said.exit_code == 2
    assert "shape of its input 'x' in place" in said.text
    assert "[3, 40, 8] becomes [3, 1, 40, 8]" in said.text
