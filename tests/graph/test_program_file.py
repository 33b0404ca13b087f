"""The captured program on disk: it comes back as it was, or not at all."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exporter.core.errors import ArtifactError
from exporter.graph.program import Op, Program, Ref
from exporter.graph.program_file import (
    FORMAT,
    OPS_FILE,
    WEIGHTS_FILE,
    load_program,
    save_program,
)
from exporter.interpret.run_program import run_program
from tests.support.toys import floats, make_toy, mixed, mixed_case


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_program(mixed().program, tmp_path / "program")
    return tmp_path / "program"


def change(folder: Path, edit: Any) -> None:
    data = json.loads((folder / OPS_FILE).read_text())
    edit(data)
    (folder / OPS_FILE).write_text(json.dumps(data))


def test_a_program_comes_back_as_it_was(saved: Path):
    program, found = mixed().program, load_program(saved)
    assert found.ops == program.ops
    assert (found.inputs, found.outputs, found.output_names) == (
        program.inputs,
        program.outputs,
        program.output_names,
    )
    assert dict(found.weights) == dict(program.weights)
    inputs = mixed_case().inputs
    before, after = run_program(program, inputs), run_program(found, inputs)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_arguments_of_every_kind_come_back(tmp_path: Path):
    args = (
        Ref("x"),
        (Ref("x"), 3, (True, None)),
        -math.inf,
        1e-45,
        "mean",
        torch.float16,
        torch.device("cpu"),
        torch.strided,
        torch.channels_last,
    )
    op = Op(name="y", target="aten.relu.default", args=args, kwargs={"a": math.nan}, kind="tensor")
    program = Program(
        inputs=("x",), weights={}, ops=(op,), outputs=("y",), output_names=("y",), tensors={}
    )
    save_program(program, tmp_path)
    (found,) = load_program(tmp_path).ops
    assert found.args == args
    assert math.isnan(found.kwargs["a"])


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.other.weight = self.one.weight

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.other(torch.relu(self.one(x))),)


def test_weights_that_share_memory_are_saved(tmp_path: Path):
    toy = make_toy(Tied(), {"x": torch.ones(3, 4)}, (floats("x", "n", 4),), (floats("y", "n", 4),))
    save_program(toy.program, tmp_path)
    inputs = {"x": np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)}
    before, after = run_program(toy.program, inputs), run_program(load_program(tmp_path), inputs)
    assert np.array_equal(before["y"], after["y"])


@pytest.mark.parametrize(
    "target",
    ["os.system", "builtins.eval", "torch.load", "aten.from_file.default", "aten._print.default",
     "aten.relu", "aten.no_such_op.default", "aten.relu.__class__", "__import__"],
)  # fmt: skip
def test_an_operation_that_is_not_allowed_is_not_run(saved: Path, target: str):
    change(saved, lambda data: data["ops"][0].update(target=target))
    with pytest.raises(ArtifactError, match="not an allowed operation"):
        run_program(load_program(saved), mixed_case().inputs)


def test_a_cut_off_weights_file(saved: Path):
    path = saved / WEIGHTS_FILE
    content = path.read_bytes()
    for size in (0, 4, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ArtifactError, match="cannot be read"):
            load_program(saved)


def test_a_cut_off_op_list(saved: Path):
    text = (saved / OPS_FILE).read_text()
    (saved / OPS_FILE).write_text(text[: len(text) // 2])
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_program(saved)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda data: data.update(format=99), f"format 99, this version reads {FORMAT}"),
        (lambda data: data.pop("ops"), "ops: Field required"),
        (lambda data: data["ops"][0].pop("target"), "ops.0.target: Field required"),
        (lambda data: data["ops"][0].update(args=[{"dtype": "save"}]), "unknown dtype 'save'"),
        (lambda data: data["ops"][0].update(args=[{"code": "x"}]), "unknown code"),
    ],
)
def test_a_damaged_op_list_says_so(saved: Path, edit: Any, said: str):
    change(saved, edit)
    with pytest.raises(ArtifactError, match=said):
        load_program(saved)


@pytest.mark.parametrize("file", [OPS_FILE, WEIGHTS_FILE])
def test_a_missing_file_is_said(saved: Path, file: str):
    (saved / file).unlink()
    with pytest.raises(ArtifactError, match="run the pipeline again"):
        load_program(saved)


@pytest.mark.parametrize("interrupted", [OPS_FILE, WEIGHTS_FILE])
def test_an_interrupted_save_leaves_no_program(
    saved: Path, interrupted: str, monkeypatch: pytest.MonkeyPatch
):
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        if Path(target).name == interrupted:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        save_program(mixed().program, saved)
    # There was an older program: new weights beside old ops would be a third one.
    with pytest.raises(ArtifactError):
        load_program(saved)
