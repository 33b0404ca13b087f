"""RNN-T decoding against torchaudio's own beam search, of one beam."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from exporter.config.driver import Transducer
from exporter.drivers import Decider
from exporter.drivers.transducer import drive
from tests.support.graphs import graph, of_torch, spec

torchaudio = pytest.importorskip("torchaudio")
SYSTEMS = Path(__file__).resolve().parents[2] / "pipelines" / "systems"


@pytest.fixture(scope="module")
def module():
    sys.path.insert(0, str(SYSTEMS))
    try:
        import rnnt
    finally:
        sys.path.remove(str(SYSTEMS))
    return rnnt


def graphs_of(rnnt):
    torch.manual_seed(28)
    encoder = rnnt.Encoder()
    torch.manual_seed(28)
    predictor = rnnt.Predictor()
    torch.manual_seed(28)
    joiner = rnnt.Joiner()
    states = [spec(f"state.{n}", "float32", 1, 16, initial=0.0) for n in range(2)]

    def predict(tokens, **held):
        found = predictor(tokens, [held["state.0"], held["state.1"]])
        return [found["predicted"], *found["next_state"]]

    return {
        "encoder": graph(
            "encoder",
            [spec("features", "float32", 1, "frames", 20), spec("lengths", "int64", 1)],
            ["encoded", "encoded_lengths"],
            of_torch(encoder),
        ),
        "predictor": graph(
            "predictor",
            [spec("tokens", "int64", 1, 1), *states],
            ["predicted", "next_state.0", "next_state.1"],
            of_torch(predict),
            {"next_state.0": "state.0", "next_state.1": "state.1"},
        ),
        "joiner": graph(
            "joiner",
            [spec("source", "float32", 1, 1, 16), spec("target", "float32", 1, 1, 16)],
            ["scores"],
            of_torch(joiner),
        ),
    }


CONFIG = Transducer.model_validate(
    {
        "kind": "transducer",
        "frames": "encoded",
        "lengths": "encoded_lengths",
        "tokens": "tokens",
        "predicted": "predicted",
        "from_encoder": "source",
        "from_predictor": "target",
        "scores": "scores",
        "blank": 19,
        "max_symbols": 20,
    }
)


def theirs(rnnt, features: np.ndarray) -> tuple[int, ...]:
    """torchaudio's search with one beam, which is greedy."""
    torch.manual_seed(28)
    search = torchaudio.models.RNNTBeamSearch(rnnt.whole(), blank=19, step_max_tokens=20)
    with torch.no_grad():
        found = search(torch.from_numpy(features), torch.tensor([features.shape[1]]), beam_width=1)
    return tuple(found[0][0][1:])


@pytest.mark.parametrize("seed", range(4))
def test_greedy_is_torchaudios_beam_of_one(module, seed):
    features = np.random.default_rng(seed).standard_normal((1, 24, 20)).astype(np.float32)
    case = {"features": features, "lengths": np.array([24])}
    found = drive(CONFIG, graphs_of(module), case, Decider())
    assert found.tokens == theirs(module, features)
    assert found.tokens


def test_no_more_tokens_of_a_frame_than_allowed(module):
    case = {
        "features": np.ones((1, 24, 20), np.float32),
        "lengths": np.array([24]),
    }
    config = CONFIG.model_copy(update={"max_symbols": 2, "blank": 0})
    graphs = graphs_of(module)
    decider = Decider()
    drive(config, graphs, case, decider)
    at = [place for _, place in decider.places]
    assert max(at.count(frame) for frame in set(at)) <= 2


class Stateless(torch.nn.Module):
    """A predictor as icefall's: no state, a convolution over the last two tokens; -1 is nothing."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.embedding = torch.nn.Embedding(12, 8)
        self.mixed = torch.nn.Conv1d(8, 8, 2, groups=2, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        held = self.embedding(tokens.clamp(min=0)) * (tokens >= 0).unsqueeze(-1)
        return torch.relu(self.mixed(held.transpose(1, 2))).transpose(1, 2)


def stateless_graphs(axes: int, joined) -> dict:
    one = (1,) * (axes - 1)
    return {
        "encoder": graph("encoder", [spec("x", "float32", 1, "T", 8)], ["encoded"], lambda x: x),
        "predictor": graph(
            "predictor", [spec("tokens", "int64", 1, 2)], ["predicted"], of_torch(Stateless())
        ),
        "joiner": graph(
            "joiner",
            [spec("source", "float32", *one, 8), spec("target", "float32", *one, 8)],
            ["scores"],
            of_torch(joined),
        ),
    }


@pytest.mark.parametrize("before", [-1, None])
@pytest.mark.parametrize("axes", [2, 3])
def test_a_predictor_without_states_reads_the_last_tokens(axes, before):
    """Held against the search written out, for a joiner that takes [N, D] and one of [N, 1, D]."""
    out = torch.nn.Linear(8, 12)
    shapes = []

    def joined(source, target):
        shapes.append((tuple(source.shape), tuple(target.shape)))
        return out(torch.tanh(source + target))

    frames = 2 * np.random.default_rng(3).standard_normal((1, 20, 8)).astype(np.float32)
    given = {"frames": "encoded", "lengths": None, "blank": 0, "context": 2, "before": before}
    config = Transducer.model_validate({**CONFIG.model_dump(), **given, "max_symbols": 3})
    found = drive(config, stateless_graphs(axes, joined), {"x": frames}, Decider())
    said, model = [0 if before is None else before, 0], Stateless()
    with torch.no_grad():
        for frame in torch.from_numpy(frames[0]):
            for _ in range(3):
                predicted = model(torch.tensor([said[-2:]]))[0, 0]
                token = int(out(torch.tanh(frame + predicted)).argmax())
                if token == 0:
                    break
                said.append(token)
    assert found.tokens == tuple(said[2:]) and len(found.tokens) > 5
    assert set(shapes) == {((*(1,) * (axes - 1), 8),) * 2}
