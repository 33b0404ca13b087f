"""A flow and a diffusion against their closed forms, and against diffusers' arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.config.driver import Loop, Noise
from exporter.drivers import Decider, DriverStoppedError
from exporter.drivers.loop import drive, kept_signal
from tests.support.graphs import graph, spec


def run(call, *, dtype="float64", after=None, **more):
    inputs = [spec("x", "float32", 1, "n"), spec("t", "float32", 1)]
    graphs = {"estimator": graph("estimator", inputs, ["v"], call)}
    if after is not None:
        graphs["vocoder"] = graph("vocoder", [spec("mel", "float32", 1, "n")], ["audio"], after)
        more["after"] = ("vocoder",)
    given = {"kind": "loop", "value": "x", "time": "t", "velocity": "v", **more}
    case = {"x": np.linspace(-1, 1, 5, dtype=np.float32)[None]}
    return drive(Loop.model_validate(given), graphs, case, Decider()).arrays, case["x"]


def test_a_constant_velocity_is_walked_exactly():
    found, first = run(lambda x, t: np.full_like(x, 3.0), steps=4)
    np.testing.assert_allclose(found["estimator.x"], first + 3.0)


def test_every_step_has_its_time():
    seen = []

    def velocity(x, t):
        seen.append(float(t[0]))
        return x

    found, first = run(velocity, steps=4)
    assert seen == [0.0, 0.25, 0.5, 0.75]
    np.testing.assert_allclose(found["estimator.x"], first * 1.25**4, rtol=1e-6)


def test_the_dtype_is_that_of_the_graphs():
    narrow, _ = run(lambda x, t: x.astype(np.float32), steps=3)
    wide, _ = run(lambda x, t: x.astype(np.float64), steps=3)
    assert narrow["estimator.x"].dtype == np.float32
    assert wide["estimator.x"].dtype == np.float64


def test_ddim_takes_all_noise_away_that_is_known():
    """Where the noise is estimated rightly at every step, what was there before comes out."""
    clean = np.array([[0.5, -1.0, 2.0, 0.0, 1.0]])
    alphas = kept_signal(Noise())

    def noise(x, t):
        now = alphas[int(t[0])]
        return (x - np.sqrt(now) * clean) / np.sqrt(1 - now)

    found, _ = run(noise, steps=10, rule="ddim")
    np.testing.assert_allclose(found["estimator.x"], clean, atol=1e-9)


def test_what_stands_behind_the_loop_takes_its_value():
    found, first = run(lambda x, t: np.zeros_like(x), steps=2, after=lambda mel: mel * 2)
    assert list(found) == ["vocoder.audio"]
    np.testing.assert_allclose(found["vocoder.audio"], first * 2)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x, t: np.full_like(x, np.nan), "NaN or Inf after step 0"),
        (lambda x, t: x[:, :-1], "is"),
    ],
)
def test_nan_or_another_shape_stops(call, said):
    with pytest.raises(DriverStoppedError, match=said):
        run(call, steps=2)


def test_the_first_value_may_come_of_a_graph_before():
    inputs = [spec("x", "float32", 1, "n"), spec("t", "float32", 1)]
    graphs = {
        "encoder": graph("encoder", [spec("text", "float32", 1, "n")], ["mu"], lambda text: text),
        "estimator": graph("estimator", inputs, ["v"], lambda x, t: np.ones_like(x)),
    }
    given = {"kind": "loop", "value": "x", "time": "t", "velocity": "v", "steps": 2}
    given |= {"before": ("encoder",), "feed": {"estimator.x": "encoder.mu"}}
    case = {"text": np.zeros((1, 3), np.float32)}
    found = drive(Loop.model_validate(given), graphs, case, Decider())
    np.testing.assert_allclose(found.arrays["estimator.x"], np.ones((1, 3)))


def test_more_steps_than_were_trained_are_refused():
    with pytest.raises(ValueError, match="at most the 10"):
        run(lambda x, t: x, steps=11, rule="ddim", noise={"train_steps": 10})
