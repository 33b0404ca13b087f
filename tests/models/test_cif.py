"""Integrate-and-fire without a loop, against upstream's two forms of it and the definition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from exporter.core.tensors import Case
from exporter.models.cif import CifPredictor, count_tokens, fire, token_shares
from exporter.models.upstream import quiet_upstream
from exporter.parity.status import Status
from tests.faults.editor import Editor
from tests.support.toys import Toy, floats, make_toy, spec

WIDTH = 3
UNIT = 2.0**-24


def upstream() -> Any:
    with quiet_upstream():
        from funasr.models.paraformer import cif_predictor

    return cif_predictor


def by_definition(alphas: list[float], hidden: np.ndarray) -> tuple[list[np.ndarray], float]:
    """Frame by frame in float64: embeddings that fired, and the sum of all weights."""
    done, filled, held = [], 0.0, np.zeros(WIDTH)
    for alpha, frame in zip(alphas, hidden.astype(np.float64), strict=True):
        if filled + alpha < 1:
            filled += alpha
            held = held + alpha * frame
        else:
            done.append(held + (1 - filled) * frame)
            filled = filled + alpha - 1
            held = filled * frame
    return done, math.fsum(alphas)


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """alphas [R, T + 1], of which the last place has a weight but no frame; hidden [R, T + 1, D].

    Weights stay below 1: at exactly 1, upstream can pass two whole numbers in one frame, and
    then fires once.
    """
    rows, width = draw(st.integers(1, 3)), draw(st.integers(1, 40))
    weights = st.floats(0, 0.984375, width=32)
    drawn = [draw(st.lists(weights, min_size=width, max_size=width)) for _ in range(rows)]
    alphas = nn.functional.pad(torch.tensor(drawn), (0, 1), value=0.45)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9)))
    hidden = torch.randn(rows, width, WIDTH, generator=generator)
    return alphas, nn.functional.pad(hidden, (0, 0, 0, 1))


@settings(max_examples=400)
@given(batches())
def test_equals_upstream_and_the_definition(batch: tuple[Tensor, Tensor]) -> None:
    alphas, hidden = batch
    steps = alphas.shape[1]
    embeddings, lengths = fire(hidden[:, :-1], alphas)
    _, fired = upstream().cif_wo_hidden_v1(alphas, 1.0, return_fire_idxs=True)
    assert lengths.tolist() == fired.sum(1).tolist()
    assert embeddings.shape == (len(alphas), max(1, int(lengths.max())), WIDTH)

    scale = float(hidden.abs().max())
    loop = upstream().cif_wo_hidden(alphas, 1.0) >= 1.0
    for row, count in enumerate(lengths.tolist()):
        expected, total = by_definition(alphas[row].double().tolist(), hidden[row].numpy())
        found = embeddings[row].numpy()
        theirs, _ = upstream().cif_v1(hidden[row : row + 1], alphas[row : row + 1], 1.0)
        assert not found[count:].any()
        # What float32 costs: one rounding per share, and a sum of `steps` products. Upstream
        # subtracts sums of all frames so far from each other and may lose that much more.
        bound = 2 * UNIT * (steps + 2) * scale
        for k in range(min(count, len(expected))):
            assert np.abs(found[k] - expected[k]).max() <= bound
            if k < theirs.shape[1]:
                gap = np.abs(found[k] - theirs[0, k].numpy()).max()
                assert gap <= 2 * bound * (2 + total)
        # A sum within rounding of a whole number may be counted either way; no other may.
        if abs(total - round(total)) > 2 * UNIT * steps * max(total, 1):
            assert count == len(expected) == int(loop[row].sum()) == math.floor(total)
        else:
            assert abs(count - len(expected)) <= 1


def test_the_loop_of_upstream_gives_the_same_embeddings() -> None:
    generator = torch.Generator().manual_seed(5)
    alphas = 0.9 * torch.rand(4, 301, generator=generator)
    hidden = torch.randn(4, 301, WIDTH, generator=generator)
    hidden[:, -1] = 0
    theirs, _ = upstream().cif(hidden, alphas, 1.0)
    found, lengths = fire(hidden[:, :-1], alphas)
    assert min(lengths.tolist()) > 100
    for row, count in enumerate(lengths.tolist()):
        torch.testing.assert_close(found[row, :count], theirs[row, :count], rtol=0, atol=1e-4)


def test_upstream_fails_where_the_last_row_of_a_batch_fires_nothing_and_this_does_not() -> None:
    alphas = torch.tensor([[0.75, 0.45], [0.0, 0.45]])
    hidden = torch.ones(2, 1, WIDTH)
    with pytest.raises(IndexError, match="index 1 is out of bounds"):
        upstream().cif_v1(nn.functional.pad(hidden, (0, 0, 0, 1)), alphas, 1.0)
    embeddings, lengths = fire(hidden, alphas)
    assert lengths.tolist() == [1, 0]
    torch.testing.assert_close(embeddings[0, 0], torch.full((WIDTH,), 0.75))


def test_the_example_of_the_module() -> None:
    sums = torch.tensor([[0.4, 0.4, 0.4, 0.5, 0.6, 0.45]], dtype=torch.float64).cumsum(1)
    assert count_tokens(sums, torch.float32).tolist() == [2]
    expected = [[0.4, 0.4, 0.2, 0, 0, 0], [0, 0, 0.2, 0.5, 0.3, 0], [0, 0, 0, 0, 0.3, 0.45]]
    torch.testing.assert_close(
        token_shares(sums, 3)[0], torch.tensor(expected, dtype=torch.float64)
    )


def test_nothing_fires_and_nan_fires_nothing() -> None:
    hidden = torch.ones(2, 2, WIDTH)
    found, lengths = fire(hidden, torch.tensor([[0.1, 0.1, 0.45], [0.2, 0.0, 0.45]]))
    assert lengths.tolist() == [0, 0] and found.shape == (2, 1, WIDTH) and not found.any()
    _, lengths = fire(hidden, torch.tensor([[0.9, 0.9, 0.45], [0.9, math.nan, 0.45]]))
    assert lengths.tolist() == [2, 0]


def predictor(seed: int = 0) -> CifPredictor:
    torch.manual_seed(seed)
    made = upstream().CifPredictorV2(WIDTH, 1, 1, tail_threshold=0.45)
    return CifPredictor(made).eval()


def test_weights_are_those_of_upstream_for_one_utterance() -> None:
    ours = predictor()
    torch.manual_seed(0)
    theirs = upstream().CifPredictorV2(WIDTH, 1, 1, tail_threshold=0.45).eval()
    hidden = torch.randn(1, 30, WIDTH)
    with torch.no_grad():
        embeddings, count, alphas, _ = theirs(hidden, mask=torch.ones(1, 1, 30))
        found = ours(hidden, torch.tensor([30]))
        ours_embeddings, lengths = fire(hidden, found)
    torch.testing.assert_close(found, alphas, rtol=0, atol=0)
    assert lengths.tolist() == count.tolist()
    torch.testing.assert_close(ours_embeddings, embeddings, rtol=0, atol=1e-5)


def test_a_row_without_frames_has_a_tail_and_no_token() -> None:
    alphas = predictor()(torch.zeros(2, 4, WIDTH), torch.tensor([0, 4]))
    assert alphas[0].tolist() == pytest.approx([0.45, 0, 0, 0, 0])
    assert alphas[1, 4].item() == pytest.approx(0.45) and (alphas[1, :4] > 0).all()


def test_upstream_reads_a_frame_of_padding_and_this_does_not() -> None:
    """Twice: its convolution looks one frame ahead, and its tail weighs the frame behind."""
    torch.manual_seed(0)
    theirs = upstream().CifPredictorV2(WIDTH, 1, 1, tail_threshold=0.45).eval()
    alone, other = torch.randn(1, 20, WIDTH), torch.randn(1, 26, WIDTH)
    beside = torch.cat([nn.functional.pad(alone, (0, 0, 0, 6), value=9.0), other])
    mask = (torch.arange(26) < torch.tensor([[20], [26]])).float().unsqueeze(1)
    with torch.no_grad():
        single, _, one, _ = theirs(alone, mask=torch.ones(1, 1, 20))
        batch, _, two, _ = theirs(beside, mask=mask)
        count = min(single.shape[1], batch.shape[1])
        assert float((one[0, 19] - two[0, 19]).abs()) > 0.1
        assert float((single[0, count - 1] - batch[0, count - 1]).abs().max()) > 0.1

        ours = predictor()
        hidden = torch.where(mask.transpose(1, 2) > 0, beside, torch.zeros(()))
        here, there = ours(alone, torch.tensor([20])), ours(hidden, torch.tensor([20, 26]))
        torch.testing.assert_close(there[:1, :21], here, rtol=0, atol=1e-6)
        (single, lengths), (batch, both) = fire(alone, here), fire(hidden, there)
    assert both[0] == lengths[0]
    torch.testing.assert_close(batch[:1, : int(both[0])], single, rtol=0, atol=1e-5)


class Firing(nn.Module):
    """Weights from a layer, scaled by an input so that their sum can be put anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        alphas = torch.sigmoid(self.layer(x)).squeeze(-1) * gain
        return fire(x, nn.functional.pad(alphas, (0, 1)))


@pytest.fixture(scope="module")
def firing() -> Toy:
    return make_toy(
        Firing(),
        {"x": torch.randn(2, 9, WIDTH), "gain": torch.ones(())},
        (floats("x", "b", "t", WIDTH), floats("gain")),
        (floats("embeddings", "b", "n", WIDTH), spec("lengths", "int64", "b")),
    )


def near_a_whole_number(toy: Toy, above: float, share: float) -> tuple[Case, onnx.ModelProto]:
    """A case whose weights sum to a whole number and a share more; a file whose bias is less."""
    x = np.random.default_rng(3).standard_normal((1, 40, WIDTH)).astype(np.float32)
    with torch.no_grad():
        layer = toy.module.get_submodule("layer")
        total = float(torch.sigmoid(layer(torch.from_numpy(x))).double().sum())
    gain = np.float32(math.floor(total) * (1 + above) / total)
    while float(gain) * total < math.floor(total):
        gain = np.nextafter(gain, np.float32(2))
    edit = Editor(toy.model, toy.program)
    edit.store("layer.bias", edit.array("layer.bias") - np.float32(share))
    return Case(name="edge", inputs={"x": x, "gain": gain}, origin="by hand"), edit.model


def statuses(toy: Toy, case: Case, model: onnx.ModelProto) -> dict[str, Status]:
    link = toy.judge(model, cases=(case,))
    return {
        tap.planned.onnx_name: tap.propagated.verdict.status
        for tap in link.taps
        if tap.propagated is not None
        and (tap.planned.output or tap.planned.tap.op.startswith("aten.ge."))
    }


def test_a_count_within_rounding_is_ambiguous_and_so_are_the_embeddings(firing: Toy) -> None:
    found = statuses(firing, *near_a_whole_number(firing, 0.0, 4e-7))
    assert len(found) == 3 and set(found.values()) == {Status.AMBIGUOUS}


def test_a_count_beyond_rounding_is_wrong(firing: Toy) -> None:
    found = statuses(firing, *near_a_whole_number(firing, 1e-3, 1e-2))
    assert Status.AMBIGUOUS not in found.values() and found["lengths"] is Status.FAIL


def test_the_count_on_the_edge_is_right_where_nothing_was_changed(firing: Toy) -> None:
    case, _ = near_a_whole_number(firing, 0.0, 0.0)
    assert set(statuses(firing, case, firing.model).values()) <= {Status.PASS}
