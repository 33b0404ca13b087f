"""Resampling outside of the graph: usual rates work, a rate of a header takes no memory."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.cases.resample import sinc
from exporter.core.errors import AudioError


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44056, 44100, 48000])
def test_usual_rates(rate):
    tone = np.sin(2 * np.pi * 440 * np.arange(rate // 4) / rate)
    found = sinc(tone, rate, 16000)
    assert len(found) == 4000
    wanted = np.sin(2 * np.pi * 440 * np.arange(4000) / 16000)
    assert np.abs(found - wanted)[200:-200].max() < 0.01


def test_rates_with_nothing_in_common_are_refused():
    with pytest.raises(AudioError, match="next to nothing in common"):
        sinc(np.zeros(100), 384001, 16000)
