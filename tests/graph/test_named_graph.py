"""Models without speech in front: named inputs, chosen outputs."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from torch import Tensor, nn

from exporter.graph.capture import capture
from exporter.graph.named_graph import NamedGraph


class Both(nn.Module):
    def __init__(self, kind: type) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, a: Tensor, b: Tensor) -> object:
        if self.kind is dict:
            return {"total": a + b, "double": a * 2}
        return self.kind([a + b, a * 2])


def graph(kind: type, outputs: tuple[str, ...] = ("double", "total")) -> NamedGraph:
    made = NamedGraph(
        Both(kind), inputs=("left", "right"), returns=("total", "double"), outputs=outputs
    )
    return made.eval()


@pytest.mark.parametrize("kind", [dict, tuple, list])
def test_outputs_come_in_the_order_that_was_asked_for(kind: type):
    double, total = graph(kind)(torch.tensor([1.0]), torch.tensor([2.0]))
    assert (double.item(), total.item()) == (2.0, 3.0)


def test_a_program_has_the_names_of_the_pipeline():
    size = torch.export.Dim("size")
    example = {"left": torch.ones(3), "right": torch.zeros(3)}
    program = capture(graph(dict), example, {"left": {0: size}, "right": {0: size}})
    assert program.graph_signature.user_inputs == ("left", "right")


def test_a_wrong_number_of_results_is_an_error():
    made = NamedGraph(Both(tuple), inputs=("left", "right"), returns=("one",), outputs=("one",))
    with pytest.raises(ValueError, match="returns 2 values, 1 are named"):
        made(torch.ones(1), torch.ones(1))


def test_a_missing_name_is_an_error():
    made = NamedGraph(Both(dict), inputs=("left", "right"), returns=("other",), outputs=("other",))
    with pytest.raises(ValueError, match="no 'other'"):
        made(torch.ones(1), torch.ones(1))


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, a: Tensor) -> Tensor:
        return a * self.scale


def test_a_copy_runs_its_own_model():
    made = NamedGraph(Scaled(), inputs=("left",), returns=("one",), outputs=("one",)).eval()
    twin = copy.deepcopy(made).double()
    assert made(torch.ones(1))[0].dtype == torch.float32
    assert twin(torch.ones(1, dtype=torch.float64))[0].dtype == torch.float64
    with torch.no_grad():
        twin.model.scale.fill_(3.0)
    assert twin(torch.ones(1, dtype=torch.float64))[0].item() == 3.0
    assert made(torch.ones(1))[0].item() == 1.0


def test_inputs_are_not_those_of_another_graph():
    first, second = graph(dict), NamedGraph(
        Scaled(), inputs=("other",), returns=("one",), outputs=("one",)
    )  # fmt: skip
    assert list(inspect.signature(first.forward).parameters) == ["left", "right"]
    assert list(inspect.signature(second.forward).parameters) == ["other"]
