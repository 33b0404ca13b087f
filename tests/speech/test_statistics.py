"""Fixed statistics of features, in the forms in which toolkits write them."""

from __future__ import annotations

import json

import kaldiio
import numpy as np
import pytest

from exporter.core.errors import UserInputError
from exporter.speech.cmvn import read_statistics

FRAMES = np.random.Generator(np.random.PCG64(0)).normal(5.0, 2.0, (500, 6))
SUMS = np.stack([np.append(FRAMES.sum(0), 500), np.append((FRAMES**2).sum(0), 0)])
AM_MVN = """<Nnet>
<Splice> 6 6
[ 0 ]
<AddShift> 6 6
<LearnRateCoef> 0 [ {shift} ]
<Rescale> 6 6
<LearnRateCoef> 0 [ {scale} ]
</Nnet>
"""


def written(folder, form):
    path = folder / "cmvn"
    if form == "ark":
        kaldiio.save_ark(str(path), {"global": SUMS})
    elif form == "text":
        kaldiio.save_ark(str(path), {"global": SUMS}, text=True)
    elif form == "without a key":
        kaldiio.save_mat(str(path), SUMS)
    elif form == "wenet":
        held = {"mean_stat": SUMS[0, :-1].tolist(), "var_stat": SUMS[1, :-1].tolist()}
        path.write_text(json.dumps({**held, "frame_num": 500}))
    else:
        mean, scale = FRAMES.mean(0), 1 / FRAMES.std(0)
        words = {"shift": " ".join(map(str, -mean)), "scale": " ".join(map(str, scale))}
        path.write_text(AM_MVN.format(**words))
    return path


@pytest.mark.parametrize("form", ["ark", "text", "without a key", "wenet", "am.mvn"])
def test_every_form_gives_mean_zero_and_deviation_one(tmp_path, form):
    shift, scale = read_statistics(written(tmp_path, form))
    normalised = (FRAMES + shift) * scale
    np.testing.assert_allclose(normalised.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(normalised.std(0), 1, atol=1e-4)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[ 1 2 3 ]",
        "global [\n 1 2 0\n 3 4 0 ]\n",
        "global [\n 1 2 5\n 0 0 0 ]\n",
        '{"mean_stat": [1], "var_stat": [1]}',
        '{"mean_stat": [1, 2], "var_stat": [1], "frame_num": 3}',
        "<Nnet> nothing",
        "global cat stats |",
    ],
)
def test_what_is_no_statistics_is_refused(tmp_path, text):
    (tmp_path / "cmvn").write_text(text)
    with pytest.raises(UserInputError) as caught:
        read_statistics(tmp_path / "cmvn")
    assert caught.value.where
    assert caught.value.remedy
