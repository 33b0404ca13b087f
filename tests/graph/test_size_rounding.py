"""What is computed of sizes with digits is rounded in the file as Python rounds it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from exporter.graph.size_rounding import translations_for, with_exact_rounding
from exporter.graph.strategies import capture_openly
from tests.graph.repairs.models import file_of, given, holds, left_alone, model

ROUNDED = {
    "down": "n = math.floor(x.shape[1] * 0.29)",
    "up": "n = math.ceil(1.1 * x.shape[1])",
    "to zero": "n = math.trunc((x.shape[1] - 9) * 0.7) + 9",
    "to even": "n = round(x.shape[1] / 2)",
    "of a quotient": "n = math.floor(7 / x.shape[1] * x.shape[1] / 7 * 3)",
    "of one number twice": "a = x.shape[1] / 3\nn = math.floor(2 * a + a)",
    "less": "n = math.ceil(100.5 - -x.shape[1] * 0.29)",
}
SIZES = (*range(1, 40), 50, 100, 110, 200, 300, 400, 800)


@pytest.mark.parametrize("name", ROUNDED)
def test_every_size_is_rounded_in_the_file_as_by_python(tmp_path, name):
    """In float32, 0.29 * 100 is 29; in Python it is 28.999999999999996."""
    forward = f"{ROUNDED[name]}\nreturn torch.arange(n) + x_lengths.sum() + 0.0 * x.sum()"
    wrapped = model(tmp_path, forward, name=f"rounded_{name.replace(' ', '_')}")
    session = file_of(wrapped, capture_openly(wrapped), tmp_path)
    wrong = {}
    for size in SIZES:
        values = given([size])
        expected = wrapped.module(*map(torch.from_numpy, values.values()))[0].shape
        (y,) = session.run(None, dict(values))
        if y.shape != tuple(expected):
            wrong[size] = y.shape, tuple(expected)
    assert not wrong


def test_the_sizes_are_some_that_float32_rounds_otherwise():
    """Else the test above cannot fail."""
    single = [int(np.float32(size) * np.float32(0.29)) for size in SIZES]
    assert single != [math.floor(size * 0.29) for size in SIZES]


def test_a_number_with_digits_has_them_all_in_the_file(tmp_path):
    forward = (
        "number = torch.scalar_tensor(0.29, dtype=torch.float64)\n"
        "return (number * x.shape[1]).expand(x_lengths.shape[0]) + 0 * x_lengths + 0 * x.sum()"
    )
    wrapped = model(tmp_path, forward, name="all_digits")
    session = file_of(wrapped, capture_openly(wrapped), tmp_path)
    (y,) = session.run(None, dict(given([100])))
    assert y.dtype == np.float64 and abs(y[0] - 29) < 1e-12


def test_whole_numbers_are_left_as_they_are(tmp_path):
    forward = "n = x.shape[1] // 2 + 1\nreturn torch.arange(n) + x_lengths.sum() + 0.0 * x.sum()"
    found = capture_openly(model(tmp_path, forward, name="whole_sizes"))
    left_alone(found, with_exact_rounding)


def test_a_tensor_is_divided_by_a_root_of_a_size(tmp_path):
    holds(
        model(tmp_path, "return x / math.sqrt(x.shape[1])", name="rooted"),
        tmp_path,
        ([9, 2], [30], [100]),
    )


def test_numbers_of_float32_are_written_by_the_exporter(tmp_path):
    forward = "return x * torch.scalar_tensor(0.29) + x_lengths[:, None, None]"
    program = capture_openly(model(tmp_path, forward, name="few_digits")).program
    assert torch.ops.aten.scalar_tensor.default in [node.target for node in program.graph.nodes]
    assert torch.ops.aten.scalar_tensor.default not in translations_for(program)
