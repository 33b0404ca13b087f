"""A user's module is captured in the first way that works, and the report says which."""

from __future__ import annotations

import builtins
import sys

import numpy as np
import pytest
import torch

from exporter.config import load_pipeline
from exporter.core.errors import StageError
from exporter.graph.program import from_exported
from exporter.graph.repairs.python_sizes import symbolic_builtins
from exporter.graph.strategies import Captured, capture_openly
from exporter.graph.wrap import Wrapped, narrowed, wrap
from exporter.interpret.run_program import run_program
from tests.graph.repairs.models import unrun
from tests.models.test_factory import project

HEAD = "import torch\nfrom torch import nn\n\n\nclass Model(nn.Module):\n"
INIT = "    def __init__(self):\n        super().__init__()\n"
YAML = """\
name: mine
model: {factory: "my_model:Model"}
axes:
  frames: {minimum: 1, example: 12}
inputs:
  x: {dtype: float32, shape: [batch, frames, 4]}
  x_lengths: {dtype: int64, shape: [batch]}
outputs: [y]
cases:
  - {name: one, random: {x: {kind: normal, seed: 1}}}
default_case: one
"""


@pytest.fixture(autouse=True)
def _forgotten():
    yield
    sys.modules.pop("my_model", None)


def model(folder, forward: str, init: str = "", yaml: str = YAML) -> Wrapped:
    body = "".join(f"        {line}\n" for line in forward.splitlines())
    made = "".join(f"        {line}\n" for line in init.splitlines())
    text = f"{HEAD}{INIT}{made}\n    def forward(self, x, x_lengths):\n{body}"
    return wrap(load_pipeline(project(folder, module=text, yaml=yaml), trust=True))


def agrees(found: Captured, wrapped: Wrapped, frames: int, lengths: list[int]) -> None:
    """The captured program and the module itself, at another size."""
    x = np.random.default_rng(0).normal(size=(len(lengths), frames, 4)).astype(np.float32)
    given = {"x": x, "x_lengths": np.array(lengths)}
    with torch.no_grad():
        (expected,) = wrapped.module(*(torch.from_numpy(value) for value in given.values()))
    # Without torch's own assertions: what the ONNX file will compute.
    program = from_exported(found.program, ("y",), ("x", "x_lengths"))
    np.testing.assert_allclose(run_program(program, given)["y"], expected.numpy(), atol=1e-6)


USUAL = "return x * 2 + x_lengths[:, None, None]"
MASKED = "return x[:, :n] * (torch.arange(n)[None, :] < x_lengths[:, None])[..., None]"
ADDED = "x_lengths[:, None, None]"
LENGTHS = {
    "int of the longest": f"n = int(x_lengths.max())\n{MASKED}",
    "item": "n = x_lengths.max().item()\nreturn x[:, :n] * 2.0",
    "len": "rows = torch.arange(x.shape[1]).repeat(len(x_lengths), 1)\n"
    "return x * (rows < x_lengths[:, None])[..., None]",
    "len of the batch": f"return x.reshape(len(x), -1, 4) + {ADDED}",
    "int of a size": f"n = int(x.shape[1])\nreturn x + torch.arange(n)[None, :, None] * {ADDED}",
    "max of a list": "n = max(x_lengths.tolist())\n" + MASKED,
    "a mask of a list": "held = x_lengths.tolist()\nn = int(max(held))\n"
    "steps = torch.arange(n).unsqueeze(0).expand(int(len(held)), n)\n"
    "mask = steps >= steps.new(held).unsqueeze(-1)\n"
    "return x[:, :n].masked_fill(mask[..., None], 0.0) + torch.tensor(held)[:, None, None]",
    "max of sizes": "n = max(x.shape[1], 3) - x.shape[1]\n"
    f"return torch.nn.functional.pad(x, (0, 0, 0, n)) + {ADDED}",
}


@pytest.mark.parametrize("name", LENGTHS)
def test_sizes_that_python_wants_as_numbers_follow_the_input(tmp_path, name):
    wrapped = model(tmp_path, LENGTHS[name])
    found = capture_openly(wrapped)
    agrees(found, wrapped, 9, [9, 5, 2, 7])
    agrees(found, wrapped, 31, [30, 31])


def test_the_usual_way_says_nothing(tmp_path):
    found = capture_openly(model(tmp_path, USUAL))
    assert (found.strategy, found.notes, dict(found.axes)) == ("", (), {})


def test_what_was_replaced_is_said_and_put_back(tmp_path):
    wrapped = model(tmp_path, LENGTHS["int of the longest"])
    found = capture_openly(wrapped)
    assert "sizes in place of Python's numbers" in found.strategy
    assert any("int() at" in note and "my_model.py:10" in note for note in found.notes)
    names = vars(sys.modules["my_model"])
    assert not {"len", "int", "max", "min", "sum"} & set(names)


def test_a_name_of_the_models_own_is_left_alone(tmp_path):
    wrapped = model(tmp_path, USUAL)
    names = vars(sys.modules["my_model"])
    names["len"] = own = lambda held: 3
    with symbolic_builtins(unrun(wrapped.module)):
        assert names["len"] is own and names["int"] is not builtins.int
        assert names["int"]("7") == 7 and isinstance(3, names["int"]) and names["max"](1, 2) == 2
    assert names["len"] is own and "int" not in names


def test_an_axis_of_one_element_at_the_example_stays_dynamic(tmp_path):
    wrapped = model(
        tmp_path,
        "y = self.conv(x.mT)\nreturn self.mix(y.mT) + x_lengths[:, None, None]",
        "self.conv = nn.Conv1d(4, 4, 8, stride=8)\nself.mix = nn.Linear(4, 4)",
    )
    found = capture_openly(wrapped)
    assert "frames 25" in found.strategy
    assert narrowed_axis(found, wrapped) == (8, None)
    for frames in (8, 16, 33):
        agrees(found, wrapped, frames, [1, 2])


def test_a_value_of_one_element_at_the_example_takes_no_second_capture(tmp_path, monkeypatch):
    calls = []
    export = torch.export.export
    monkeypatch.setattr(torch.export, "export", lambda *a, **k: calls.append(1) or export(*a, **k))
    wrapped = model(
        tmp_path,
        "y = self.conv(x.mT)\nreturn y.mT.mean(1, keepdim=True) + y.mT + x_lengths[:, None, None]",
        "self.conv = nn.Conv1d(4, 4, 12, stride=8)",
    )
    found = capture_openly(wrapped)
    assert (len(calls), found.strategy) == (1, "")
    for frames in (12, 20, 33):
        agrees(found, wrapped, frames, [1, 2])


def test_a_size_that_the_model_refuses_alone_is_no_limit(tmp_path):
    wrapped = model(
        tmp_path, f"if x.shape[1] == 9:\n    raise ValueError('nine')\nreturn x + {ADDED}"
    )
    found = capture_openly(wrapped)
    assert narrowed_axis(found, wrapped) == (1, None)


def narrowed_axis(found: Captured, wrapped: Wrapped) -> tuple[int, int | None]:
    axes = {axis.name: axis for spec in wrapped.inputs for axis in spec.axes} | dict(found.axes)
    return axes["frames"].minimum, axes["frames"].maximum


def test_a_limit_far_away_is_found_by_the_trace_and_confirmed_by_running(tmp_path):
    wrapped = model(
        tmp_path,
        "return x + self.place[: x.shape[1]] + x_lengths[:, None, None]",
        "self.place = nn.Parameter(torch.randn(500, 4))",
    )
    found = capture_openly(wrapped)
    assert narrowed_axis(found, wrapped) == (1, 500)
    assert any("1 to 500 frames (asked at my_model.py:11)" in note for note in found.notes)
    agrees(found, wrapped, 500, [1, 2])


def test_a_branch_on_values_is_refused_with_what_would_help(tmp_path):
    wrapped = model(tmp_path, "return x * 2 if x.sum() > 0 else x * x_lengths[:, None, None]")
    with pytest.raises(StageError) as raised:
        capture_openly(wrapped)
    assert "mask or torch.where" in str(raised.value.remedy)


def test_a_table_that_grows_is_not_grown_by_the_probe(tmp_path):
    wrapped = model(
        tmp_path,
        "if self.table is None or len(self.table) < x.shape[1]:\n"
        "    self.table = torch.arange(x.shape[1]).float()\n"
        "return x + self.table[: x.shape[1], None] * x_lengths[:, None, None]",
        "self.table = None",
    )
    assert wrapped.module.model.table is None
    found = capture_openly(wrapped)
    agrees(found, wrapped, 7, [1, 2])
    agrees(found, wrapped, 40, [1, 2])


def test_limits_and_notes_go_to_the_module_that_is_judged(tmp_path):
    wrapped = model(tmp_path, USUAL)
    program = type("P", (), {"limits": {"frames": (2, 9, 1)}, "notes": ("said",)})()
    (axis,) = (a for a in narrowed(wrapped, program).inputs[0].axes if a.name == "frames")
    assert (axis.minimum, axis.maximum) == (2, 9)
    assert narrowed(wrapped, program).notes == ("said",)


SUBSAMPLED = (
    "y = self.conv(x.mT)\nmask = (torch.arange(x.shape[1])[None] < x_lengths[:, None])[:, :-2:2]\n"
    "return (y * mask[:, None]).mT"
)


def test_sizes_that_torch_cannot_prove_equal_are_found_to_be(tmp_path):
    wrapped = model(tmp_path, SUBSAMPLED, "self.conv = nn.Conv1d(4, 4, 3, stride=2)")
    found = capture_openly(wrapped)
    limits = found.axes.get("frames") or wrapped.inputs[0].axes[1]
    assert limits.multiple_of == 1 and limits.maximum is None and limits.minimum <= 7
    for frames in (9, 10, 31, 64):
        agrees(found, wrapped, frames, [frames, 5])


def test_a_true_limit_to_multiples_becomes_the_axis_and_names_the_line(tmp_path):
    wrapped = model(
        tmp_path,
        f"rows = x.reshape(x.shape[0], x.shape[1] // 4, 16)\nreturn rows + {ADDED}",
    )
    found = capture_openly(wrapped)
    assert found.axes["frames"].multiple_of == 4
    (note,) = [note for note in found.notes if "multiples of 4 frames" in note]
    assert "my_model.py:10" in note and "the model stops" in note
    agrees(found, wrapped, 20, [20, 5])


def test_rows_that_are_multiples_are_traced_with_more_than_one_of_them(tmp_path):
    yaml = YAML.replace("axes:\n", "axes:\n  batch: {multiple_of: 4}\n")
    wrapped = model(
        tmp_path,
        "groups = x.reshape(-1, 4, x.shape[1], 4)\n"
        f"return (groups + groups.mean(1, keepdim=True)).reshape(x.shape) + {ADDED}",
        yaml=yaml,
    )
    assert wrapped.sizes["batch"] >= 8
    found = capture_openly(wrapped)
    agrees(found, wrapped, 9, [9, 5, 2, 7])
    agrees(found, wrapped, 11, [3] * 12)


def test_a_module_that_imports_when_it_is_asked_is_not_asked(tmp_path):
    wrapped = model(tmp_path, LENGTHS["int of the longest"])

    class Lazy(type(sys)):
        def __getattr__(self, name):
            raise ImportError(f"asked for {name}")

    sys.modules["my_model.lazy"] = Lazy("my_model.lazy")
    del vars(sys.modules["my_model.lazy"])["__doc__"]
    try:
        agrees(capture_openly(wrapped), wrapped, 9, [9, 5])
    finally:
        del sys.modules["my_model.lazy"]
