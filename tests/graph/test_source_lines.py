"""The line that a layer is said to stand at is the user's, not that of torch's own layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.fx.proxy import _STACK_TRACE_ANCHORS

from exporter.contracts.locate.recorder import ModuleStack, OpRecorder
from exporter.graph.capture import capture
from exporter.graph.named_graph import NamedGraph
from exporter.graph.node_origin import source_of_trace
from exporter.graph.program import source_of
from exporter.models.binding import Binding

HERE = "/home/me/model/encoder.py"
TORCH = "/env/lib/python3.11/site-packages/torch/nn/modules/linear.py"
UPSTREAM = "/env/lib/python3.11/site-packages/funasr/models/encoder.py"
GLUE = "/src/exporter/models/binding.py"


def trace(*frames: tuple[str, int]) -> str:
    return "\n".join(f'  File "{file}", line {line}, in forward\n    x' for file, line in frames)


@pytest.mark.parametrize(
    ("frames", "found"),
    [
        ([(HERE, 12), (HERE, 6), (TORCH, 134)], "me/model/encoder.py:6"),
        ([(UPSTREAM, 40), (TORCH, 134)], "funasr/models/encoder.py:40"),
        ([(GLUE, 97), (TORCH, 134)], "torch/nn/modules/linear.py:134"),
        ([(GLUE, 97), (HERE, 3)], "me/model/encoder.py:3"),
        ([("/home/me/torch/nn/mine.py", 5), (TORCH, 134)], "torch/nn/mine.py:5"),
        ([], ""),
    ],
)
def test_the_innermost_frame_outside_of_torch_is_the_source(frames, found):
    assert source_of_trace(trace(*frames)) == found


class Block(nn.Module):
    """Torch's layers in a container of torch's."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.LayerNorm(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any."""
        return self.layers(x)


def test_every_layer_of_a_real_capture_stands_at_a_line_of_the_module():
    graph = NamedGraph(Block(), inputs=["x"], returns=["y"], outputs=["y"])
    program = torch.export.export(graph, (torch.randn(2, 4),), strict=False)
    sources = {source_of(n) for n in program.graph.nodes if n.op == "call_function"}
    line = Block.forward.__code__.co_firstlineno + 2
    assert sources == {f"tests/graph/test_source_lines.py:{line}"}


class Chunked(nn.Module):
    """Called by another method than forward, which calls a helper."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Not called."""
        return x

    def forward_chunk(self, x: torch.Tensor) -> torch.Tensor:
        """Any."""
        return self.doubled(x) + 1

    def doubled(self, x: torch.Tensor) -> torch.Tensor:
        """Any."""
        return x * 2


def test_an_op_of_another_method_stands_at_a_line_of_it():
    """torch keeps frames of forward alone, and the line was one of this package."""
    called = Binding(positional=(0,), method="forward_chunk")
    graph = NamedGraph(Chunked(), inputs=["x"], returns=["y"], outputs=["y"], binding=called)
    program = capture(graph.eval(), {"x": torch.randn(2, 4)}, {})
    sources = [source_of(n) for n in program.graph.nodes if n.op == "call_function"]
    lines = (Chunked.doubled, Chunked.forward_chunk)
    numbers = [method.__code__.co_firstlineno + 2 for method in lines]
    assert sources == [f"tests/graph/test_source_lines.py:{number}" for number in numbers]
    assert not _STACK_TRACE_ANCHORS


class Users(nn.Module):
    """An op of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any."""
        return x * 2


def test_an_op_that_a_contract_names_stands_at_a_line_of_the_module():
    module, x = Users(), torch.ones(2)
    with ModuleStack(module) as stack, OpRecorder(stack) as recorder:
        module(x)
    line = Users.forward.__code__.co_firstlineno + 2
    assert {call.place.source for call in recorder.calls} == {
        f"tests/graph/test_source_lines.py:{line}"
    }
