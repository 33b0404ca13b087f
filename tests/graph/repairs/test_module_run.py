"""A model's source is repaired where it runs: a package has more loops and branches than that."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from exporter.graph import strategies
from exporter.graph.repairs.loops import REPAIR as LOOPS
from exporter.graph.repairs.loops import has_loops
from exporter.graph.repairs.model_source import functions_of
from exporter.graph.repairs.module_run import module_run
from exporter.graph.strategies import capture_openly
from tests.graph.repairs.models import model

HEAD = """\
import functools

def marked(function):
    @functools.wraps(function)
    def called(*args):
        return function(*args)
    return called

def looped(x):
    for t in range(x.shape[1]):
        x = x + t
    return x

@marked
def decorated(x):
    for t in range(x.shape[1]):
        x = x - t
    return x

def padded(x):
    n = x.shape[1]
    if n % 4 != 0:
        x = torch.nn.functional.pad(x, (0, 0, 0, 4 - n % 4))
    return x
"""


@pytest.mark.parametrize(
    ("forward", "seen"),
    [
        ("return x * 2", set()),
        ("return looped(x)", {"looped"}),
        ("return decorated(looped(x))", {"looped", "decorated"}),
    ],
)
def test_functions_are_those_that_run(tmp_path, forward, seen):
    wrapped = model(tmp_path, forward, head=HEAD, name="what_runs")
    run = module_run(wrapped.module, wrapped.example)
    assert {source.name for _, source in functions_of(run, has_loops)} == seen
    assert LOOPS.matches(run) == bool(seen)


@pytest.mark.parametrize(("last", "times"), [("return x", 1), ("return padded(x)", 2)])
def test_a_branch_that_is_not_reached_asks_for_no_second_capture(
    monkeypatch, tmp_path, last, times
):
    forward = f"if x.shape[1] <= 30:\n    x = x + 1\n{last}"
    wrapped = model(tmp_path, forward, head=HEAD, name="not_reached")
    own, seen = strategies.capture, []

    def counted(*args, **kwargs):
        seen.append(args)
        return own(*args, **kwargs)

    monkeypatch.setattr(strategies, "capture", counted)
    # Upstream's branch, which is there and which this model does not call either.
    import transformers.models.mobilenet_v2.modeling_mobilenet_v2  # noqa: F401

    capture_openly(wrapped)
    # Each time once to learn that it takes at most 30 frames, and once with that.
    assert len(seen) == 2 * times


def test_the_module_itself_is_not_run_and_chance_stays_where_it_was(tmp_path):
    class Counting(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            self.seen = x
            return x + torch.rand(1)

    module, x, profile = Counting(), torch.zeros(2), sys.getprofile()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    run = module_run(module, {"x": x})
    assert Counting.forward.__code__ in run.functions
    assert module.calls == 0 and not hasattr(module, "seen") and sys.getprofile() is profile
    assert torch.equal(torch.rand(1), expected)


def test_what_stops_is_seen_up_to_there():
    class Stops(nn.Module):
        def forward(self, x):
            raise ValueError("no")

    assert Stops.forward.__code__ in module_run(Stops(), {"x": torch.zeros(2)}).functions
