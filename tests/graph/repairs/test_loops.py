"""Loops over an axis become one op, for as many turns as the input has, in the file as well."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from exporter.core.errors import StageError
from exporter.graph.export import export
from exporter.graph.program import Block, from_exported
from exporter.graph.program_file import load_program, save_program
from exporter.graph.strategies import capture_openly
from exporter.interpret.run_program import run_program, run_with_truth
from tests.graph.repairs.models import holds, model

CELL = "self.cell = nn.GRUCell(4, 3)\nself.norm = nn.LayerNorm(3)"
START = "h = x.new_zeros(x.shape[0], 3)\nys = []\n"
LOOPS = {
    "range over frames": (
        CELL,
        f"{START}for t in range(x.shape[1]):\n    h = self.norm(self.cell(x[:, t], h))\n"
        "    ys.append(h)\nreturn torch.stack(ys, dim=1)",
    ),
    "the last state": (
        CELL,
        f"{START}for t in range(x.size(1)):\n    h = self.cell(x[:, t, :], h)\nreturn h",
    ),
    "unbind": (
        CELL,
        f"{START}for frame in x.unbind(1):\n    h = self.cell(frame, h)\n    ys.append(h)\n"
        "return torch.stack(ys, 1)",
    ),
    "frames of a tensor itself": (
        "",
        "total = x.new_zeros(x.shape[0], 4)\nys = []\nfor frame in x.transpose(0, 1):\n"
        "    total = 0.5 * total + frame\n    ys.append(total.unsqueeze(1))\n"
        "return torch.cat(ys, dim=1)",
    ),
    "numbered": (
        "",
        "ys = []\nfor t, frame in enumerate(torch.unbind(x, dim=1)):\n    ys.append(frame * t)\n"
        "return torch.stack(ys, 1)",
    ),
    "side by side": (
        "",
        "ys = []\nfor a, b in zip(x.unbind(1), x.flip(1).unbind(1)):\n    ys.append(a - 2 * b)\n"
        "return torch.stack(ys, -1)",
    ),
    "backwards": (
        CELL,
        f"{START}for t in range(x.shape[1] - 1, -1, -1):\n    h = self.cell(x[:, t], h)\n"
        "    ys.append(h)\nreturn torch.stack(ys[::-1], 1)",
    ),
    "begins with nothing": (
        CELL,
        "h = None\nys = []\nfor t in range(x.shape[1]):\n    h = self.cell(x[:, t], h)\n"
        "    ys.append(h)\nys.reverse()\nreturn torch.stack(ys, 1)",
    ),
    "one row for all at first": (
        "self.mix = nn.Linear(4, 4)",
        "h = x.new_zeros(1, 4)\nys = []\nfor t in range(x.shape[1]):\n"
        "    h = torch.tanh(self.mix(h) + x[:, t])\n    ys.append(h)\nreturn torch.stack(ys, 1)",
    ),
    "slices of one": (
        "self.mix = nn.Linear(4, 4)",
        "h = x.new_zeros(x.shape[0], 1, 4)\nys = []\nfor t in range(x.shape[1]):\n"
        "    h = torch.tanh(self.mix(h) + x[:, t : t + 1])\n    ys.append(h)\n"
        "return torch.cat(ys, dim=1)",
    ),
    "written to its place": (
        "",
        "out = torch.zeros_like(x)\nh = x.new_zeros(x.shape[0], 4)\nfor t in range(x.shape[1]):\n"
        "    h = 0.3 * h + x[:, t]\n    out[:, t] = h\nreturn out",
    ),
    "added to in place": (
        "",
        "total = x.new_zeros(x.shape[0], 4)\nfor t in range(x.shape[1]):\n    total += x[:, t]\n"
        "return total",
    ),
    "two lists and what a turn leaves": (
        CELL,
        f"{START}zs = []\nfor t in range(x.shape[1]):\n    h = self.cell(x[:, t], h)\n"
        "    z = h * 2\n    ys.append(h)\n    zs.append(z)\n"
        "return torch.stack(ys, 1) + torch.stack(zs, 1) + z.unsqueeze(1)",
    ),
}
CASES = ([9, 2, 5, 1], [30], [3, 17], [1, 1])


QUICK = ("range over frames", "unbind", "begins with nothing", "written to its place")


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in LOOPS],
)
def test_a_loop_runs_as_often_as_the_input_has_frames(tmp_path, name):
    init, forward = LOOPS[name]
    wrapped = model(tmp_path, forward, init, name="loop_model")
    found = holds(wrapped, tmp_path, CASES)
    (note,) = [note for note in found.notes if "'loops'" in note]
    line = next(n for n, text in enumerate(forward.splitlines()) if text.startswith("for"))
    first = (tmp_path / "loop_model.py").read_text().splitlines()
    at = next(n for n, text in enumerate(first) if "def forward" in text) + 2 + line
    assert f"a loop at {tmp_path.name}/loop_model.py:{at}:" in note
    assert "the same bits with and without on 5 inputs" in note
    assert "loops over an axis as one op" in found.strategy


def test_the_function_is_what_it_was(tmp_path):
    init, forward = LOOPS["range over frames"]
    wrapped = model(tmp_path, forward, init, name="loop_restored")
    (own,) = [p for p in wrapped.module.modules() if type(p).__name__ == "Model"]
    before = type(own).forward.__code__
    capture_openly(wrapped)
    assert type(own).forward.__code__ is before
    assert "_ev_turns" not in type(own).forward.__globals__


def test_a_loop_over_layers_stays_as_it_is(tmp_path):
    forward = "for part in self.parts:\n    x = part(x)\nreturn x"
    init = "self.parts = nn.ModuleList([nn.Linear(4, 4), nn.ReLU()])"
    found = holds(model(tmp_path, forward, init, name="layers_model"), tmp_path, CASES)
    assert found.strategy == "" and not [note for note in found.notes if "loops" in note]


def test_names_that_a_class_keeps_to_itself_are_found(tmp_path):
    init = "self.__mix = nn.Linear(4, 4)"
    forward = (
        "h, ys = x.new_zeros(x.shape[0], 4), []\nfor t in range(x.shape[1]):\n"
        "    h = torch.tanh(self.__mix(h) + x[:, t])\n    ys.append(h)\nreturn torch.stack(ys, 1)"
    )
    found = holds(model(tmp_path, forward, init, name="own_names"), tmp_path, CASES)
    assert "loops over an axis as one op" in found.strategy


STOPPED = {
    "a number is handed on": (
        "h, n = x[:, 0], 0\nfor t in range(x.shape[1]):\n    n = n + 1\n    h = h + x[:, t] / n\n"
        "return h",
        "'n', which a loop hands on, is no tensor",
    ),
    "a list that is used otherwise": (
        "ys = []\nfor t in range(x.shape[1]):\n    ys.append(x[:, t])\n"
        "return torch.block_diag(*ys[0])",
        "",
    ),
}


@pytest.mark.parametrize("name", STOPPED)
def test_a_loop_that_is_no_turn_is_refused_with_its_line(tmp_path, name):
    forward, words = STOPPED[name]
    with pytest.raises(StageError) as stopped:
        capture_openly(model(tmp_path, forward, name="loop_stopped"))
    assert words in str(stopped.value)
    assert "loop_stopped.py:" in (stopped.value.source or "")


def test_a_program_keeps_its_loops_on_disk(tmp_path):
    init, forward = LOOPS["range over frames"]
    wrapped = model(tmp_path, forward, init, name="loop_stored")
    found = capture_openly(wrapped)
    made = export(found.program, inputs=wrapped.inputs, outputs=wrapped.outputs, opset=18)
    save_program(made.program, tmp_path / "program")
    program = load_program(tmp_path / "program")
    (body,) = [arg for op in program.ops for arg in op.args if isinstance(arg, Block)]
    assert body.outputs and {op.target for op in body.ops} >= {"aten.layer_norm.default"}
    x = np.random.default_rng(0).normal(size=(2, 7, 4)).astype(np.float32)
    values = {"x": x, "x_lengths": np.array([7, 3])}
    values = {name: values[name] for name in program.inputs}
    with torch.no_grad():
        expected = wrapped.module(torch.from_numpy(x), torch.tensor([7, 3]))[0].numpy()
    (plain,) = run_program(program, values).values()
    np.testing.assert_allclose(plain, expected, atol=1e-6)
    (_, truth) = run_with_truth(program, values)
    (wide,) = truth.values()
    assert wide.dtype == np.float64 and 0 < np.abs(wide - expected).max() < 1e-6


def test_a_loop_that_reads_what_nobody_makes_is_no_program(tmp_path):
    init, forward = LOOPS["range over frames"]
    wrapped = model(tmp_path, forward, init, name="loop_broken")
    found = capture_openly(wrapped)
    program = from_exported(found.program, ("y",))
    save_program(program, tmp_path / "program")
    path = tmp_path / "program" / "ops.json"
    text = path.read_text()
    assert '"arg1_1"' in text
    path.write_text(text.replace('{"ref": "arg1_1"}', '{"ref": "elsewhere"}', 1))
    with pytest.raises(Exception, match="reads 'elsewhere'"):
        load_program(tmp_path / "program")


def test_torch_keeps_no_module_of_a_model_under_its_name(tmp_path):
    """Another folder's model may have the same name."""
    homes = [sys.modules[f"torch._higher_order_ops.{part}"] for part in ("scan", "utils")]
    before = [set(vars(home)) for home in homes]
    init, forward = LOOPS["range over frames"]
    capture_openly(model(tmp_path, forward, init, name="kept_model"))
    assert [set(vars(home)) for home in homes] == before
