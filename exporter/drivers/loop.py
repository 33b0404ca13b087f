"""A fixed number of steps on one value: a flow by Euler's method, or a diffusion by DDIM.

    flow       x <- x + velocity(x, t) / steps                         t = 0, 1/steps, 2/steps ...
    diffusion  x0 = (x - sqrt(1 - a) noise) / sqrt(a)                  Song, Meng, Ermon (2021),
               x <- sqrt(a') x0 + sqrt(1 - a') noise                   eta = 0

The arithmetic is done in the dtype that the estimator gives, as who deploys it would: float32
beside float32 graphs, float64 beside float64 ones.
"""

from __future__ import annotations

import numpy as np

from exporter.config.driver import Loop, Noise
from exporter.core.tensors import Arrays
from exporter.drivers.decisions import Decider
from exporter.drivers.graph import DriverStoppedError, Graph, Outcome, Pool


def drive(config: Loop, graphs: dict[str, Graph], case: Arrays, decider: Decider) -> Outcome:
    """The value after all steps, and what the last graphs make of it.

    Raises:
        DriverStoppedError: the estimator gives another shape than it takes, or NaN.
    """
    pool = Pool(case, config.feed)
    for name in config.before:
        pool.call(graphs[name])
    estimator = graphs[config.estimator]
    # Of the case, or of a graph before: a flow may begin at what an encoder gives.
    value = pool.inputs_of(estimator)[config.value]
    spec = estimator.inputs[config.time]
    shape = [value.shape[0] if isinstance(size, str) else size for size in spec.shape]
    alphas = kept_signal(config.noise)
    for number in range(config.steps):
        time, now, then = _step(config, alphas, number)
        own = {config.value: value, config.time: np.full(shape, time, spec.dtype)}
        moved = estimator({**pool.inputs_of(estimator, own), **own})[config.velocity]
        if moved.shape != value.shape:
            raise DriverStoppedError(
                f"'{config.velocity}' is {list(moved.shape)}, '{config.value}' is"
                f" {list(value.shape)}",
                graph=estimator.name,
            )
        value = value.astype(moved.dtype)
        if config.rule == "euler":
            value = value + moved / moved.dtype.type(config.steps)
        else:
            value = _denoised(value, moved, now, then)
        if not np.isfinite(value).all():
            raise DriverStoppedError(f"NaN or Inf after step {number}", graph=estimator.name)
    arrays = {f"{estimator.name}.{config.value}": value}
    for at, name in enumerate(config.after):
        graph = graphs[name]
        own = {_takes(config, graph): value} if at == 0 else {}
        outputs = pool.call(graph, **own)
        arrays = {f"{name}.{key}": held for key, held in outputs.items()}
    return Outcome(arrays=arrays)


def kept_signal(noise: Noise) -> np.ndarray:
    """[train_steps]: how much of the signal is left at each step (alpha bar), in float64."""
    if noise.kind == "linear":
        betas = np.linspace(noise.beta_start, noise.beta_end, noise.train_steps)
    else:
        ends = noise.beta_start**0.5, noise.beta_end**0.5
        betas = np.linspace(*ends, noise.train_steps) ** 2
    return np.cumprod(1.0 - betas)


def _step(config: Loop, alphas: np.ndarray, number: int) -> tuple[float, float, float]:
    """Time of a step, and of a diffusion the signal before and after it."""
    if config.rule == "euler":
        return number / config.steps, 0.0, 0.0
    stride = len(alphas) // config.steps
    time = (config.steps - 1 - number) * stride
    return float(time), alphas[time], alphas[time - stride] if time >= stride else 1.0


def _denoised(value: np.ndarray, noise: np.ndarray, now: float, then: float) -> np.ndarray:
    kind = value.dtype.type
    clean = (value - kind((1 - now) ** 0.5) * noise) / kind(now**0.5)
    return kind(then**0.5) * clean + kind((1 - then) ** 0.5) * noise


def _takes(config: Loop, graph: Graph) -> str:
    """The input of the graph behind the loop that takes the value."""
    given = f"{config.estimator}.{config.value}"
    for name in graph.inputs:
        if config.feed.get(f"{graph.name}.{name}") == given:
            return name
    return config.value if config.value in graph.inputs else next(iter(graph.inputs))
