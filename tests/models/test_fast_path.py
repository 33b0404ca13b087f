"""torch's fast path for transformer layers: off where a model is run here, and said."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exporter.graph.named_graph import NamedGraph
from exporter.models.fast_path import fast_path_note, has_fast_path, without_fast_path

WIDTH = 8


class Encoder(nn.Module):
    def __init__(self, norm_first: bool = False) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True, norm_first=norm_first)
        self.net = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        padded = torch.arange(x.shape[1])[None] >= lengths[:, None]
        return self.net(x, src_key_padding_mask=padded)


def encoder(**options: bool) -> Encoder:
    torch.manual_seed(0)
    return Encoder(**options).eval().requires_grad_(False)


X = torch.randn(2, 9, WIDTH, generator=torch.Generator().manual_seed(1))


def note(module: nn.Module, *lengths: int) -> str | None:
    return fast_path_note(lambda: {"y": module(X, torch.tensor(lengths))})


def test_what_it_changes_of_padded_rows_is_said():
    assert "'y' differs by up to" in str(note(encoder(), 9, 5))


def test_what_it_does_not_change_is_not_said():
    assert note(encoder(), 9, 9) is None
    assert note(encoder(norm_first=True), 9, 5) is None


def test_a_graph_runs_without_it_whoever_calls():
    module = encoder()
    graph = NamedGraph(module, inputs=("x", "lengths"), returns=("y",), outputs=("y",)).eval()
    lengths = torch.tensor([9, 5])
    with torch.no_grad():
        (found,) = graph(X, lengths)
        with without_fast_path():
            expected = module(X, lengths)
        fast = module(X, lengths)
    assert torch.equal(found, expected) and not torch.allclose(found, fast)
    assert torch.backends.mha.get_fastpath_enabled()


def test_only_models_with_such_layers_are_run_twice():
    assert has_fast_path(encoder()) and not has_fast_path(nn.Linear(2, 2))
