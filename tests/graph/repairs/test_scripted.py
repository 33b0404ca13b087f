"""Scripted, traced and loaded parts are captured op by op, with their sizes and layers."""

from __future__ import annotations

import pytest

from exporter.core.errors import StageError
from exporter.graph.program import from_exported
from exporter.graph.strategies import capture_openly
from tests.graph.repairs.models import holds, model

PART = """

class Rel(nn.Module):
    def forward(self, x):
        n = x.size(1)
        steps = torch.arange(n).to(x.dtype)
        return x * (steps / n).reshape(1, n, 1)


class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(4, 4)
        self.conv = nn.Conv1d(4, 4, 3, padding=1)
        self.norm = nn.LayerNorm(4)

    def forward(self, x):
        y = self.lin(x)
        i = 0
        while i < 3:
            y = y + torch.nn.functional.relu(self.conv(y.transpose(1, 2))).transpose(1, 2)
            i += 1
        parts = []
        for k in range(2):
            parts.append(self.norm(y) * float(k + 1))
        return torch.cat(parts, -1)[:, :, :4]


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)

    def forward(self, x, scale: float = 2.0):
        y = self.lin(x)
        if y.dim() == 3:
            y = self.norm(y)
        y.mul_(scale)
        b, n, c = y.shape
        return y.reshape(b, n * c).view(b, n, c)


class Decides(nn.Module):
    def forward(self, x):
        if bool(x.sum() > 0):
            x = x * 2.0
        return x


def loaded(module):
    import io

    held = io.BytesIO()
    torch.jit.save(torch.jit.script(module), held)
    held.seek(0)
    return torch.jit.load(held)


def build(part):
    torch.manual_seed(0)
    return part
"""
FORWARD = "return self.part(torch.tanh(x)) + x_lengths[:, None, None]"
PARTS = {
    "sizes": "torch.jit.script(Rel())",
    "a loop and a list": "torch.jit.script(Deep())",
    "layers inside": "torch.jit.script(Plain())",
    "traced": "torch.jit.trace(Plain().eval(), torch.randn(2, 6, 4))",
    "loaded": "loaded(Deep())",
    "in a list of plain ones": "nn.Sequential(nn.Linear(4, 4), torch.jit.script(Plain()))",
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_torchscript_is_captured_and_right_at_other_sizes(tmp_path, name):
    wrapped = model(
        tmp_path, FORWARD, f"self.part = {PARTS[name]}", head=PART, name="scripted_part"
    )
    found = holds(wrapped, tmp_path, [[9, 5], [12, 3, 7], [4]])
    said = "\n".join(found.notes)
    assert "scripted parts run as Python" in found.strategy
    assert "repaired 'scripted'" in said and "the same bits with and without" in said


def test_layers_inside_of_a_scripted_part_are_layers(tmp_path):
    init = "self.part = torch.jit.script(Plain())"
    wrapped = model(tmp_path, FORWARD, init, head=PART, name="scripted_part")
    program = from_exported(capture_openly(wrapped).program, ("y",))
    modules = {op.module for op in program.ops}
    assert {"model.part.lin", "model.part.norm"} <= modules
    assert set(program.weights.values()) == set(wrapped.module.state_dict())


def test_the_parts_are_what_they_were(tmp_path):
    init = "self.part = torch.jit.script(Plain())"
    wrapped = model(tmp_path, FORWARD, init, head=PART, name="scripted_part")
    before = wrapped.module.model.part
    capture_openly(wrapped)
    assert wrapped.module.model.part is before


def test_a_decision_by_values_inside_is_refused_with_the_line_of_the_call(tmp_path):
    init = "self.part = torch.jit.script(Decides())"
    wrapped = model(tmp_path, FORWARD, init, head=PART, name="scripted_part")
    with pytest.raises(StageError) as raised:
        capture_openly(wrapped)
    assert "data-dependent" in raised.value.detail
    assert "scripted_part.py" in raised.value.source


def test_switched_off_the_part_is_refused(tmp_path):
    init = "self.part = torch.jit.script(Rel())"
    wrapped = model(tmp_path, FORWARD, init, head=PART, name="scripted_part")
    with pytest.raises(StageError):
        capture_openly(wrapped, without=["scripted"])
