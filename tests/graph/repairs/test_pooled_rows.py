"""SpeechBrain's pooling of rows with lengths: all rows at once, and the same figures."""

from __future__ import annotations

import pytest

from tests.graph.repairs.models import holds, model

HEAD = """\
from speechbrain.nnet.pooling import StatisticsPooling


class Quiet(StatisticsPooling):
    def _get_gauss_noise(self, size, device="cpu"):
        return torch.zeros(size)
"""
CASES = ([12, 9], [17, 2], [30, 4, 8])
MODELS = {
    "both": ("return self.pool(x, x_lengths / x.shape[1])", "self.pool = Quiet()"),
    "means": (
        "return self.pool(x, x_lengths / x.shape[1])",
        "self.pool = Quiet(return_std=False)",
    ),
    "deviations": (
        "return self.pool(x, x_lengths / x.shape[1])",
        "self.pool = Quiet(return_mean=False)",
    ),
    "of more axes": (
        "return self.pool(torch.stack((x, x * 2), -1), x_lengths / x.shape[1])",
        "self.pool = Quiet()",
    ),
    "longer than there are frames": (
        "return self.pool(x, 2 * x_lengths / x.shape[1])",
        "self.pool = Quiet()",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_rows_of_other_lengths_have_their_own_statistics(tmp_path, name):
    forward, init = MODELS[name]
    found = holds(model(tmp_path, forward, init, head=HEAD, name="pooling"), tmp_path, CASES)
    assert [note for note in found.notes if "'pooled_rows'" in note]
