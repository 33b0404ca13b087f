"""Segments become zero-padded rows, whatever the granularity."""

from __future__ import annotations

import pytest
import torch

from exporter.speech.cut import CutSegments

WAVEFORM = torch.arange(1, 2001).float()


@pytest.mark.parametrize("granularity", [1, 16])
@pytest.mark.parametrize("num_samples", [1999, 2000])
def test_rows_hold_the_samples_of_their_segment_and_zeros(granularity, num_samples) -> None:
    waveform = WAVEFORM[:num_samples]
    segments = torch.tensor([[0, 160], [480, 1600], [1600, 1984], [1984, 1984]])
    pieces, lengths = CutSegments(granularity=granularity)(waveform, segments)
    assert lengths.tolist() == [160, 1120, 384, 0]
    assert pieces.shape == (4, 1120)
    for row, (start, end) in zip(pieces, segments.tolist(), strict=True):
        assert torch.equal(row[: end - start], waveform[start:end])
        assert (row[end - start :] == 0).all()


@pytest.mark.parametrize("granularity", [1, 16])
def test_without_segments_there_is_one_empty_guard_row(granularity) -> None:
    for waveform in (WAVEFORM, WAVEFORM[:1], WAVEFORM[:0]):
        cut = CutSegments(granularity=granularity)
        pieces, lengths = cut(waveform, torch.zeros(0, 2, dtype=torch.int64))
        assert pieces.shape == (1, 400)
        assert (pieces == 0).all()
        assert lengths.tolist() == [0]


def test_short_segments_are_filled_up_to_one_frame() -> None:
    pieces, lengths = CutSegments()(WAVEFORM, torch.tensor([[7, 12]]))
    assert pieces.shape == (1, 400)
    assert lengths.tolist() == [5]
    assert pieces[0, :6].tolist() == [8.0, 9.0, 10.0, 11.0, 12.0, 0.0]


def test_nan_outside_of_a_segment_stays_outside() -> None:
    waveform = WAVEFORM.clone()
    waveform[800:] = torch.nan
    pieces, _ = CutSegments(granularity=16)(waveform, torch.tensor([[0, 800], [16, 320]]))
    assert pieces.isfinite().all()


def test_the_waveform_is_not_written_to() -> None:
    waveform = WAVEFORM.clone()
    CutSegments()(waveform, torch.tensor([[0, 100]]))[0].fill_(5.0)
    assert torch.equal(waveform, WAVEFORM)


@pytest.mark.parametrize(("minimum", "granularity"), [(400, 0), (0, 1), (400, 33)])
def test_impossible_settings_are_refused(minimum, granularity) -> None:
    with pytest.raises(ValueError, match="granularity"):
        CutSegments(min_samples=minimum, granularity=granularity)
