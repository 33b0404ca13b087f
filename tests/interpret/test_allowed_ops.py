"""Which callables a saved program may name."""

from __future__ import annotations

import math
import operator

import pytest
import torch

from exporter.core.errors import ArtifactError
from exporter.interpret.allowed_ops import moves_elements, resolve
from tests.support.toys import mixed


def test_every_op_of_a_captured_program_is_allowed():
    assert all(callable(resolve(op.target)) for op in mixed().program.ops)


@pytest.mark.parametrize(
    ("target", "function"),
    [
        ("aten.relu.default", torch.ops.aten.relu.default),
        ("operator.floordiv", operator.floordiv),
        ("math.ceil", math.ceil),
        ("torch.sym_max", torch.sym_max),
        ("torch.sym_sum", torch.sym_sum),
        ("torch._sym_log2", getattr(torch, "_sym_log2")),  # noqa: B009 - a private name
    ],
)
def test_a_name_is_the_function_that_it_says(target: str, function: object):
    assert resolve(target) is function


@pytest.mark.parametrize(
    "target",
    [
        "",
        "aten",
        "aten.relu",
        "aten.relu.no_overload",
        "aten.from_file.default",
        "aten.__class__.default",
        "aten.relu.__doc__",
        "prims.nothing.default",
        "operator.attrgetter",
        "operator.methodcaller",
        "math.fsum",
        "builtins.exec",
        "builtins.open",
        "torch.load",
        "torch.hub.load",
        "os.system",
        "subprocess.run",
        "quantized.linear.default",
    ],
)
def test_anything_else_is_refused(target: str):
    with pytest.raises(ArtifactError, match="not an allowed operation"):
        resolve(target)


def test_ops_that_move_elements_are_told_from_ops_that_compute():
    assert moves_elements("aten.view.default")
    assert moves_elements("aten.index_select.default")
    assert moves_elements("operator.getitem")
    for target in ("aten.add.Tensor", "aten.softmax.int", "operator.add", "prims.view_of.default"):
        assert not moves_elements(target)
