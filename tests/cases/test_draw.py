"""Drawn inputs follow their seed, today and tomorrow."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from exporter.cases.draw import KINDS, draw
from exporter.core.errors import ConfigError

SEEDED = ["normal", "uniform", "sine", "square", "click", "integers", "booleans"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [7, (2, 5), (0,), (3, 0), (2, 1, 4)])
def test_every_kind_has_the_shape_and_dtype_asked_for(kind, shape) -> None:
    array = draw(kind, shape, seed=1)
    assert array.shape == ((shape,) if isinstance(shape, int) else shape)
    expected = {"integers": "int64", "booleans": "bool"}.get(kind, "float32")
    assert array.dtype == expected
    assert draw(kind, shape, seed=1, dtype="float64").dtype == "float64"


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_draws_the_same(kind) -> None:
    assert np.array_equal(draw(kind, 500, seed=3), draw(kind, 500, seed=3))


@pytest.mark.parametrize("kind", SEEDED)
def test_another_seed_draws_something_else(kind) -> None:
    assert not np.array_equal(draw(kind, 500, seed=3), draw(kind, 500, seed=4))


def test_numpys_global_state_plays_no_part() -> None:
    np.random.seed(0)
    one = draw("normal", 5)
    np.random.seed(1)
    assert np.array_equal(one, draw("normal", 5))


def test_another_process_draws_the_same() -> None:
    code = "from exporter.cases.draw import draw; print(draw('normal', 3, seed=7).tolist())"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == str(draw("normal", 3, seed=7).tolist())


def test_a_few_values_that_must_never_change() -> None:
    assert draw("integers", 6, seed=0, high=100).tolist() == [85, 63, 51, 26, 30, 4]
    expected = [0.12573022, -0.13210486, 0.64042264]
    assert np.allclose(draw("normal", 3, seed=0), expected, rtol=1e-6)
    assert np.allclose(draw("uniform", 2, seed=0, low=0), [0.63696169, 0.26978671], rtol=1e-6)


def test_options_do_what_they_say() -> None:
    normal = draw("normal", 100000, seed=0, scale=0.1, mean=2.0)
    assert abs(normal.mean() - 2.0) < 1e-3
    assert abs(normal.std() - 0.1) < 1e-3
    uniform = draw("uniform", 10000, low=2, high=3)
    assert 2 <= uniform.min() < uniform.max() < 3
    assert set(draw("integers", 1000, low=-1, high=2).tolist()) == {-1, 0, 1}
    assert set(draw("square", 1000, scale=0.5).tolist()) == {-0.5, 0.5}
    assert (draw("silence", 10) == 0).all()
    assert (draw("constant", 10, value=3) == 3).all()
    assert np.count_nonzero(draw("click", 100)) == 1
    assert 0.2 < draw("booleans", 1000, probability=0.25).mean() < 0.3


def test_a_sine_has_its_frequency_and_amplitude() -> None:
    sine = draw("sine", 16000, frequency_hz=1000, scale=0.25)
    assert np.abs(np.fft.rfft(sine)).argmax() == 1000
    assert abs(np.abs(sine).max() - 0.25) < 1e-2


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (("gaussian", 5), {}, "unknown kind 'gaussian'"),
        (("normal", 5), {"amplitude": 1}, "no option 'amplitude'"),
        (("normal", (2, -1)), {}, "negative size"),
        (("normal", 5), {"seed": -1}, "seed -1 is negative"),
        (("uniform", 5), {"low": 1, "high": 1}, "empty"),
        (("integers", 5), {"low": 3, "high": 2}, "empty"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, options, said) -> None:
    with pytest.raises(ConfigError, match=said):
        draw(*arguments, **options)
