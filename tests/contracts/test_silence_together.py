"""NaN and Inf share a batch where both are well in it, and have one each where they are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exporter.contracts import ContractResult, run_contracts
from exporter.core.tensors import Axis, TensorSpec
from tests.contracts.zoo.toy import features, output, subject

Y = output("batch", 4, "time")
BOTH = {"signals": ("nan", "inf"), "non_finite": "agree"}


class Watched(nn.Module):
    """Keeps the rows of every call, and spoils others where ``leaks`` says so.

    Args:
        leaks: a row -> the row that it gets something of, for what is not finite alone.
    """

    def __init__(self, leaks: str = ""):
        super().__init__()
        self.leaks = leaks
        self._rows: list[int] = []  # contracts put other lists back

    def forward(self, x: Tensor) -> Tensor:
        self._rows.append(x.shape[0])
        if self.leaks == "next":
            x = x + torch.cat([x[:1] * 0.0, x[:-1] * 0.0])
        elif self.leaks == "before":
            x = x + torch.cat([x[1:] * 0.0, x[:1] * 0.0])
        elif self.leaks == "all":
            x = x + x.mean(0, keepdim=True) * 0.0
        elif self.leaks == "nan":
            x = x + torch.where(x.isnan(), x, torch.zeros_like(x)).sum(0, keepdim=True)
        elif self.leaks == "inf":
            x = x + torch.where(x.isinf(), x, torch.zeros_like(x)).sum(0, keepdim=True)
        return x + x


def checked(
    module: Watched, inputs: tuple[TensorSpec, ...] = features(), **options
) -> tuple[ContractResult, ...]:
    one = np.random.default_rng(2).standard_normal((1, 4, 12)).astype(np.float32)
    made = subject(module, inputs, Y, values={"x": one}, **options)
    module._rows.clear()
    return run_contracts(made, {"silence": BOTH})


def test_one_batch_serves_both() -> None:
    module = Watched()
    made = checked(module)
    assert made[0].status == "pass" and module._rows.count(5) == 1 and 3 not in module._rows
    made = checked(Watched(), with_onnx=True)
    assert [row.status for row in made] == ["pass", "pass"]
    assert all(set(row.details["signals"]) == {"nan", "inf"} for row in made)


@pytest.mark.parametrize("leaks", ["next", "before", "all", "nan", "inf"])
def test_what_reaches_another_row_is_found_whichever_row_it_is(leaks: str) -> None:
    module = Watched(leaks)
    torch_side = checked(module)[0]
    assert torch_side.status == "fail" and "reaches other rows" in torch_side.reason
    assert module._rows.count(3) >= 2, "each has a batch of its own then"
    named = "inf" if leaks == "inf" else "nan"
    assert torch_side.reason.startswith(f"{named}: a {named} in row 1")


def test_a_batch_that_may_not_have_so_many_rows_is_not_made() -> None:
    module = Watched()
    axes = (Axis(name="batch", maximum=4), Axis(name="time", minimum=4))
    x = TensorSpec(name="x", dtype="float32", shape=("batch", 4, "time"), axes=axes)
    row = checked(module, (x,))[0]
    assert row.status == "pass" and 5 not in module._rows and module._rows.count(3) == 2
