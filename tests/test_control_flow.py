"""cond, while_loop and scan, from capture to layers; a way that nobody takes is no pass."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from exporter.core.errors import ArtifactError
from exporter.flows.run import run
from exporter.flows.verify import verify
from exporter.graph.program import Block, Ref
from exporter.graph.program_file import load_program, save_program
from exporter.interpret.run_program import run_program, run_with_truth
from tests.models.test_factory import project

MODULE = """\
import torch
from torch import nn
from torch._higher_order_ops import scan, while_loop


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one = nn.Linear(4, 4)
        self.two = nn.Linear(4, 4)


class Branch(Base):
    def forward(self, x):
        one, two = lambda t: torch.tanh(self.one(t)), lambda t: torch.relu(self.two(t))
        return torch.cond(x.sum() > 0, one, two, (x,)) * 2


class Never(Base):
    def forward(self, x):
        one, two = lambda t: torch.tanh(self.one(t)), lambda t: torch.relu(self.two(t))
        return torch.cond(x.abs().sum() > -1, one, two, (x,)) * 2


class Loop(Base):
    def forward(self, x):
        turns = x.abs().sum().long() % 3 + 1
        start = torch.zeros((), dtype=torch.int64)
        body = lambda i, y: (i + 1, torch.tanh(self.one(y)))
        return self.two(while_loop(lambda i, y: i < turns, body, (start, x))[1])


class Scan(Base):
    def forward(self, x):
        def step(carry, each):
            new = torch.tanh(self.one(each) + carry)
            return new, new.clone()

        return self.two(scan(step, torch.zeros_like(x[:, 0]), x, dim=1)[1])
"""
YAML = """\
name: mine
model: {factory: "my_model:KIND"}
axes: {batch: {minimum: 2}, frames: {example: 12}}
inputs:
  x: {dtype: float32, shape: [batch, frames, 4]}
outputs: [y]
cases:
  - {name: one, random: {x: {kind: normal, seed: 1}}}
  - {name: two, random: {x: {kind: normal, seed: 2}}}
default_case: one
"""
KINDS = {"Branch": "If", "Loop": "Loop", "Scan": "Scan"}


def ran(folder, kind: str):
    path = project(folder, module=MODULE, yaml=YAML.replace("KIND", kind))
    return run(path, output_dir=folder / "out", trust=True, cache=False, threads=1, all_cases=True)


@pytest.fixture(scope="module", params=KINDS)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, ran(folder, request.param)


def test_a_branch_and_a_loop_pass_with_their_results_compared(made):
    kind, folder, report = made
    assert (report.verdict, report.exit_code, report.fallback) == ("pass", 0, "")
    model = onnx.load(folder / "out" / "model.onnx")
    assert KINDS[kind] in [node.op_type for node in model.graph.node]
    layers = next(link for link in report.links if link.layers)
    assert layers.compared and layers.missing == 0
    assert any("inside of loops and branches" in line for line in report.not_checked)


def test_one_changed_weight_inside_is_found(made, tmp_path):
    _, folder, _ = made
    model = onnx.load(folder / "out" / "model.onnx")
    (held,) = [t for t in model.graph.initializer if t.name.endswith("one.bias")]
    array = numpy_helper.to_array(held) + np.float32(0.01)
    held.CopyFrom(numpy_helper.from_array(array, held.name))
    onnx.save(model, tmp_path / "wrong.onnx")
    report = verify(
        folder / "mine.yaml",
        tmp_path / "wrong.onnx",
        output_dir=folder / "out",
        trust=True,
        changed_on_purpose=True,
        all_cases=True,
    )
    assert report.verdict == "fail"
    assert report.culprits[0].op == "operator.getitem"


def test_the_program_is_saved_and_read_with_what_is_inside(made, tmp_path):
    _, folder, _ = made
    program = load_program(folder / "out" / "program")
    blocks = [block for op in program.ops for block in op.blocks()]
    assert blocks and all(isinstance(block, Block) and block.ops for block in blocks)
    save_program(program, tmp_path / "again")
    again = load_program(tmp_path / "again")
    assert again.ops == program.ops
    x = {"x": np.random.default_rng(3).normal(size=(3, 5, 4)).astype(np.float32)}
    plain, truth = run_with_truth(again, x)
    np.testing.assert_array_equal(plain["y"], run_program(program, x)["y"])
    assert truth["y"].dtype == np.float64
    np.testing.assert_allclose(plain["y"], truth["y"], atol=1e-5)


def test_a_block_that_reads_what_is_not_there_is_refused(made, tmp_path):
    _, folder, _ = made
    program = load_program(folder / "out" / "program")
    ops = [
        dataclasses.replace(
            op,
            args=tuple(
                dataclasses.replace(arg, outputs=(Ref("nowhere"),))
                if isinstance(arg, Block)
                else arg
                for arg in op.args
            ),
        )
        for op in program.ops
    ]
    save_program(dataclasses.replace(program, ops=tuple(ops)), tmp_path / "odd")
    with pytest.raises(ArtifactError, match="before it is made"):
        load_program(tmp_path / "odd")


def test_a_way_that_no_case_takes_is_no_pass(tmp_path):
    report = ran(tmp_path, "Never")
    assert (report.verdict, report.exit_code) == ("not run", 1)
    assert "has one way that no case takes" in report.headline
    assert torch.is_grad_enabled()
