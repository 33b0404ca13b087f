"""Greedy CTC against the three lines of Python that define it."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st

from exporter.models.ctc import greedy_ctc


def decode_plainly(labels: list[int], length: int) -> list[int]:
    return [label for label, _ in itertools.groupby(labels[:length]) if label != 0]


def logits_of(rows: list[list[int]], vocab: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(rows), vocab).float()


@given(st.data())
def test_equals_the_definition(data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 12))
    rows = data.draw(
        st.lists(
            st.lists(st.integers(0, 3), min_size=width, max_size=width), min_size=1, max_size=4
        )
    )
    lengths = [data.draw(st.integers(0, width)) for _ in rows]
    ids, counts = greedy_ctc(logits_of(rows, 4), torch.tensor(lengths))
    assert ids.shape == (len(rows), width) and ids.dtype == counts.dtype == torch.int64
    for row, length, found, count in zip(rows, lengths, ids.tolist(), counts.tolist(), strict=True):
        expected = decode_plainly(row, length)
        assert found == expected + [-1] * (width - len(expected))
        assert count == len(expected)


def test_a_repeat_across_a_blank_is_two_tokens() -> None:
    ids, counts = greedy_ctc(logits_of([[2, 2, 0, 2, 3, 3]], 4), torch.tensor([6]))
    assert ids.tolist() == [[2, 2, 3, -1, -1, -1]] and counts.tolist() == [3]


def test_frames_behind_the_length_are_not_decoded() -> None:
    ids, counts = greedy_ctc(logits_of([[1, 2, 3, 3]], 4), torch.tensor([1]))
    assert ids.tolist() == [[1, -1, -1, -1]] and counts.tolist() == [1]


def test_another_blank() -> None:
    ids, _ = greedy_ctc(logits_of([[0, 3, 0]], 4), torch.tensor([3]), blank=3)
    assert ids.tolist() == [[0, 0, -1]]
