"""The captured program, op by op, in float32 and in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exporter.graph.program import Op, Ref
from exporter.interpret.evaluate import (
    call,
    call_double,
    is_floating,
    keep_decisions,
    to_array,
    to_tensor,
    widen,
)
from exporter.interpret.run_program import run_program, run_with_truth
from exporter.interpret.stepper import last_uses
from tests.support.toys import floats, make_toy, mixed, mixed_case, spec


def eager(inputs: dict[str, np.ndarray]) -> list[Tensor]:
    with torch.no_grad():
        return mixed().module(torch.from_numpy(inputs["x"].copy()))


def test_the_captured_program_computes_what_the_module_does():
    inputs = dict(mixed_case().inputs)
    found = run_program(mixed().program, inputs)
    for value, expected in zip(found.values(), eager(inputs), strict=True):
        assert np.array_equal(value, expected.numpy())


def test_inputs_are_not_written_to():
    case = mixed_case()
    before = case.inputs["x"].copy()
    run_with_truth(mixed().program, case.inputs)
    assert np.array_equal(case.inputs["x"], before)


def test_the_float64_run_is_float64_and_close():
    plain, truth = run_with_truth(mixed().program, mixed_case().inputs)
    assert truth["y"].dtype == np.float64
    difference = np.abs(truth["y"] - plain["y"]).max()
    assert 0 < difference < 1e-4
    module = mixed().module.double()
    try:
        with torch.no_grad():
            exact = module(torch.from_numpy(mixed_case().inputs["x"]).double())[0].numpy()
    finally:
        mixed().module.float()
    np.testing.assert_allclose(truth["y"], exact, rtol=1e-11, atol=1e-12)


def test_decisions_of_the_float64_run_are_those_of_float32():
    plain, truth = run_with_truth(mixed().program, mixed_case().inputs)
    for name in ("kept", "best"):
        assert truth[name].dtype == np.int64
        assert np.array_equal(truth[name], plain[name])


class Knife(nn.Module):
    """A threshold that rounding reaches in float32 and that the exact sum just misses."""

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        up = x + y >= 0.25
        return torch.where(up, x, -x), up.sum()


def test_a_decision_within_rounding_is_taken_from_float32():
    toy = make_toy(
        Knife(),
        {"x": torch.rand(3), "y": torch.rand(3)},
        (floats("x", "n"), floats("y", "n")),
        (floats("z", "n"), spec("count", "int64")),
    )
    x = np.linspace(0.01, 0.25, 2001, dtype=np.float32)
    inputs = {"x": x, "y": np.float32(0.25) - x}
    exact = inputs["x"].astype(np.float64) + inputs["y"] >= 0.25
    plain, truth = run_with_truth(toy.program, inputs)
    assert exact.sum() != plain["count"]
    assert truth["count"] == plain["count"]
    assert np.array_equal(np.sign(truth["z"]), np.sign(plain["z"]))


def op(target: str, *args: object, **kwargs: object) -> Op:
    return Op(name="y", target=target, args=args, kwargs=kwargs, kind="tensor")


def test_dtype_arguments_are_widened_and_integers_are_not():
    values = {"x": torch.ones(2), "i": torch.tensor([1, 2])}
    cast = op("aten.to.dtype", Ref("x"), torch.float32)
    assert call(cast, values.__getitem__).dtype == torch.float32
    assert call_double(cast, values.__getitem__).dtype == torch.float64
    index = op("aten.to.dtype", Ref("x"), torch.int64)
    assert call_double(index, values.__getitem__).dtype == torch.int64
    assert call_double(op("aten.clone.default", Ref("i")), values.__getitem__).dtype == torch.int64


def test_an_op_without_a_dtype_is_float64_too():
    made = call_double(op("aten.ones.default", (2, 3)), {}.__getitem__)
    assert made.dtype == torch.float64


def test_a_recurrent_op_leaves_the_number_of_threads_as_it_was():
    module = nn.LSTM(2, 2)
    values = dict(module.named_parameters(), x=torch.ones(3, 1, 2), h=torch.zeros(1, 1, 2))
    lstm = op(
        "aten.lstm.input",
        Ref("x"),
        (Ref("h"), Ref("h")),
        tuple(Ref(name) for name, _ in module.named_parameters()),
        True, 1, 0.0, False, False, False,
    )  # fmt: skip
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with torch.no_grad():
            call(lstm, values.__getitem__)
        assert torch.get_num_threads() == 2
        with pytest.raises(KeyError):
            call(lstm, {"x": values["x"]}.__getitem__)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_values_are_released_behind_their_last_reader_and_never_an_output():
    program = mixed().program
    last = last_uses(program)
    released = [name for names in last.values() for name in names]
    assert len(released) == len(set(released))
    assert not set(released) & {*program.outputs, *program.weights}
    assert {op.name for op in program.ops} - set(released) == set(program.outputs)
    for index, names in last.items():
        for later in program.ops[index + 1 :]:
            assert not set(names) & set(later.refs())


def test_small_conversions():
    wide = widen([torch.ones(1), (torch.ones(1).half(), torch.tensor(1))])
    assert wide[0].dtype == wide[1][0].dtype == torch.float64
    assert wide[1][1].dtype == torch.int64
    assert is_floating([torch.ones(1)])
    assert not is_floating([])
    assert not is_floating(3)
    kept = keep_decisions([torch.ones(1).double(), torch.tensor(5)], [torch.ones(1), "kept"])
    assert kept[1] == "kept"
    assert to_array(torch.ones(1, dtype=torch.bfloat16)).dtype == np.float32
    assert to_array(7).dtype == np.int64
    array = np.ones(2, np.float32)
    to_tensor(array).add_(1)
    assert np.array_equal(array, [1, 1])
